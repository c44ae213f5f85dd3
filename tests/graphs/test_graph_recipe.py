import json
from pathlib import Path
from typing import Any

import pytest
from small_graphs import molecules
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import ConfigError
from limbeck.graphs import Summary, judge, load_network, logits_of, read_graphs, save_graphs, train
from limbeck.graphs.recipe import evaluate_folder, read_graph_recipe, run_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "graphs").glob("*.yaml"))


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    save_graphs(molecules(60), folder / "molecules.json")
    known = {"data": str(folder / "molecules.json"), "network": {"hidden": 4}, "steps": 5, "out": str(folder / "out")}
    known |= {"theta": 0.4} if changes.get("method", "mirage") == "mirage" and "budget" not in changes else {}
    return known | changes


@pytest.mark.parametrize(
    ("method", "changes"),
    [("mirage", {}), ("mirage", {"budget": 9000, "closed_only": True, "weighting": "none", "counts": True}),
     ("random", {"budget": 3000}), ("full", {})],
)  # fmt: skip
def test_a_recipe_gives_a_network_and_says_what_it_cost(tmp_path: Path, method: str, changes: dict[str, Any]) -> None:
    done = run_recipe(recipe(tmp_path, method=method, **changes), progress=False)
    saved, test = load_network(done.student), read_graphs(tmp_path / "out" / "held-out.json")
    assert len(test) == 6 and judge(logits_of(saved.network, test.graphs), test.labels.tolist()) == done.test
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == done.to_dict()
    assert done.trained_on_full_data == (method == "full") and (done.bytes == done.full_bytes) == (method == "full")
    assert done.bytes <= changes.get("budget", done.full_bytes)
    if method == "mirage":
        kept = Summary.load(tmp_path / "out" / "distilled.json")
        assert (kept.bytes, len(kept.patterns), kept.source_bytes) == (done.bytes, done.graphs, done.full_bytes)
    assert f"{done.bytes:,} of {done.full_bytes:,} bytes" in done.summary()
    again = run_recipe(recipe(tmp_path, method=method, **changes), progress=False)
    assert again.test == done.test


def test_a_small_network_learns_from_a_large_one(tmp_path: Path) -> None:
    teacher = {"kind": "sage", "hidden": 12}
    done = run_recipe(recipe(tmp_path, teacher=teacher), progress=False)
    assert done.trained_on_full_data
    out = tmp_path / "out"
    found = evaluate_folder(out / "student", out / "teacher", out / "held-out.json")
    assert found.student == done.test and 0 <= found.agreement <= 1 and found.divergence > 0
    same = evaluate_folder(out / "teacher", out / "teacher", out / "held-out.json", limit=4)
    assert (same.agreement, same.divergence, same.teacher.graphs) == (1.0, pytest.approx(0, abs=1e-9), 4)
    assert "answered alike" in found.plot().layout.title.text
    args = ["evaluate", str(out / "student"), "--against", str(out / "teacher"), "--data", str(out / "held-out.json")]
    said = CliRunner().invoke(app, [*args, "--json"])
    assert json.loads(said.stdout)["student"]["accuracy"] == done.test.accuracy
    again = run_recipe(recipe(tmp_path, teacher=str(out / "teacher"), out=str(tmp_path / "two")), progress=False)
    assert again.test == done.test and not (tmp_path / "two" / "teacher").exists()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_short_and_runs(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 15
    (tmp_path / path.name).write_text(path.read_text())
    save_graphs(molecules(80), tmp_path / "molecules.json")
    changes = ["steps=3", "out=short", "data=molecules.json"] + (["budget=4000"] if path.stem == "random" else [])
    said = CliRunner().invoke(app, ["distill", str(tmp_path / path.name), *changes, "--json"])
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout)["test"]["graphs"] == 8
    assert (tmp_path / "short" / "student" / "network.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budget": 100}, "a budget of 100 bytes is too small"),
        ({"theta": 0.5, "budget": 9}, "theta: 0.5 or budget: 20000, not both"),
        ({"theta": None}, "theta: 0.5 or budget: 20000, not both"),
        ({"theta": 999}, "the largest usable theta is"),
        ({"method": "random"}, "method random needs budget: 20000"),
        ({"method": "full", "cap": 3}, "method full without a teacher makes no use of cap"),
        ({"loss": "dkd"}, "method mirage without a teacher makes no use of loss"),
        ({"teacher": {"hidden": 4}, "loss": "dkdd"}, "unknown loss .dkdd."),
        ({"network": {"kind": "ginn"}}, 'unknown kind "ginn" in network'),
        ({"netwrk": {}}, 'Did you mean "network"'),
        ({"network": {"depth": 0}}, "greater than 0"),
        ({"test": 0.6, "validation": 0.4}, "must leave graphs to learn from"),
        ({"teacher": "absent/"}, "not a folder of a network of graphs"),
        ({"data": "absent"}, "does not exist"),
    ],
)
def test_mistakes_in_a_recipe(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run_recipe(recipe(tmp_path, **changes), progress=False)


def test_mistakes_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("room: graphs\ndata: mutag\ntheta: 0.5\nnetwork: {depth: 0}\nout: out\n")
    with pytest.raises(ConfigError, match=r"line 4: .depth. in network must be greater than 0"):
        read_graph_recipe(path, ["seed=1"])


def test_what_is_held_out_chooses_nothing_and_teaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []

    def watched(network, graphs, **how):
        seen.append((len(graphs), len(how["choose"])))
        assert not {id(one.edges) for one in graphs} & {id(one.edges) for one in how["choose"]}
        return train(network, graphs, **how)

    monkeypatch.setattr("limbeck.graphs.recipe.train", watched)
    run_recipe(recipe(tmp_path, method="full", test=0.2, validation=0.1), progress=False)
    assert seen == [(42, 6)] and len(read_graphs(tmp_path / "out" / "held-out.json")) == 12
