"""Every recipe that ships runs as it is, on small models and with few steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.lm import byte_tokenizer, save_model, tiny_llama, trained_tokenizer

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "lm").glob("*.yaml"))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the paths of the recipes exist."""
    folder = tmp_path_factory.mktemp("recipes")
    for name, width in (("teacher", 24), ("math", 24), ("code", 16), ("student", 16)):
        save_model(tiny_llama(width, context=48, seed=width), byte_tokenizer(), folder / "models" / name)
    rows = [
        {"prompt": f"{k}+{k}=", "completion": str(2 * k), "domain": ("math", "code")[k % 2], "context": "hint "}
        for k in range(24)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plain = [{key: row[key] for key in ("prompt", "completion")} for row in rows]
    (folder / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain))
    (folder / "text.txt").write_text("\n\n".join(f"{k} and {k} make {2 * k}, as everybody knows." for k in range(600)))
    wide = trained_tokenizer(b" ".join(json.dumps(row).encode() for row in rows) * 4, 300)
    save_model(tiny_llama(16, vocabulary=300, context=48), wide, folder / "models" / "wide")
    for recipe in RECIPES:
        shutil.copy(recipe, folder)
    return folder


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_runs(shop: Path, recipe: Path) -> None:
    text = recipe.read_text()
    assert len(text.splitlines()) <= 15 and text.startswith("# ")
    options = ["lr=1e-3", "batch=2", "steps=2", "tokens=null"]
    options += ["method.length=6"] if "length:" in text else []
    options += ["teacher=models/wide", "data=plain.jsonl"] if recipe.stem == "cross-tokenizer" else []
    options += ["evaluate_every=1"] if recipe.stem == "adapters" else []
    if recipe.stem == "paced":  # an untrained student solves nothing: the message is the result
        options += ["data=prompts.jsonl"]
    result = CliRunner().invoke(app, ["distill", str(shop / recipe.name), *options])
    if recipe.stem == "paced":
        assert result.exit_code != 0 and "solves every one always or never" in str(result.exception)
        return
    assert result.exit_code == 0, result.output
    assert (shop / "models" / recipe.stem / "student" / "model.safetensors").is_file()
