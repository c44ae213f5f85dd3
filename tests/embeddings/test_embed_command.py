from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from transformers import BertConfig, BertModel, BertTokenizerFast

from limbeck.cli.app import main
from limbeck.embeddings import ReverseDistiller


@pytest.fixture
def embed(tmp_path, monkeypatch, capsys):
    """Run `limbeck embed` in an empty folder; returns output, errors and exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["limbeck", "embed", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        return said.out, said.err, end.value.code

    return run


@pytest.fixture
def files(family, tmp_path):
    names = [f"model-{x.shape[1]}.npy" for x in family()]
    for name, x in zip(names, family(), strict=True):
        np.save(tmp_path / name, x.astype(np.float32))
    return sorted(names)  # model-10 comes first


def test_fit_and_apply(embed, files, family):
    out, err, code = embed("fit", *files)
    assert code == 0 and err == "" and out.startswith("200 rows, pcr regression, consistent chain\n  width     3  kept")
    assert out.endswith("saved: family.safetensors\n")
    out, _, code = embed("apply", "family.safetensors", *files, "--width", 6, "--out", "cut.npy")
    assert (code, out) == (0, "cut.npy: 200 vectors of width 6\n")
    out, _, code = embed("apply", "family.safetensors", *files, "--json")
    assert json.loads(out) == {"vectors": "vectors.npy", "rows": 200, "width": 10}
    x = [one.astype(np.float32) for one in family()]
    whole = np.load("vectors.npy")
    assert (whole[:, :6] == np.load("cut.npy")).all() and whole.dtype == np.float32
    np.testing.assert_allclose(whole, ReverseDistiller().fit(x).transform(x), atol=1e-5)
    embed("apply", "family.safetensors", "model-3.npy", "model-6.npy", "--out", "two.npy")
    assert (np.load("two.npy") == np.load("cut.npy")).all()


def test_layers_of_a_model_folder(embed, tmp_path, capsys):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained("model")
    config = BertConfig(
        vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16,
    )  # fmt: skip
    BertModel(config).save_pretrained("model")
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words[4:], 8)) for _ in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    capsys.readouterr()  # what saving the model said
    options = ("model", "--texts", "texts.txt", "--layers", "1,3")
    out, err, code = embed("fit", *options)
    assert code == 0 and err == "" and out.startswith("320 rows, pcr")
    out, _, code = embed("apply", "family.safetensors", *options)
    assert (code, out) == (0, "vectors.npy: 40 vectors of width 16\n")
    out, err, code = embed("fit", *options[:-1], "3,5")
    assert code == 2 and "model has layers 0 to 3" in err


def test_options_reach_the_fit(embed, files):
    out, _, code = embed(
        "fit", *files, "--regression", "ridge", "--penalty", 5, "--chain", "official", "--out", "f", "--json"
    )
    record = json.loads(out)
    assert code == 0 and (record["regression"], record["penalty"], record["chain"]) == ("ridge", 5.0, "official")
    assert record["saved"] == "f" and record["widths"] == [3, 6, 10] and len(record["levels"]) == 2
    assert record["levels"][0]["noise"] is None
    assert ReverseDistiller.load("f").penalty == 5.0


def test_assess(embed, files, family, tmp_path):
    embed("fit", *files)
    y = family()[1] @ np.arange(6.0)
    (tmp_path / "y.txt").write_text("\n".join(map(str, y)))
    (tmp_path / "classes.txt").write_text("\n".join(np.where(y > np.median(y), "above it", "below")))
    (tmp_path / "whole.txt").write_text("\n".join(np.where(y > np.median(y), "1", "0")))
    out, _, code = embed("assess", "family.safetensors", *files, "--labels", "y.txt")
    assert code == 0 and "distilled" in out.splitlines()[0] and "use" in out.splitlines()[-1]
    words, whole = (
        json.loads(embed("assess", "family.safetensors", *files, "--labels", name, "--json")[0])
        for name in ("classes.txt", "whole.txt")
    )
    assert words == whole and words["raw"][1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "none.npy", "model-3.npy"], "none.npy: No such file"),
        (["fit", "model-3.npy", "model-3.npy"], "widths must grow"),
        (["fit", "model-3.npy"], "needs two models"),
        (["fit", "model-3.npy", "model-6.npy", "--regression", "lasso"], 'regression "lasso"'),
        (["fit", "model-3.npy", "model-6.npy", "--texts", "none.txt"], "none.txt does not exist"),
        (["fit", ".", "model-6.npy"], "need --texts"),
        (["apply", "none.safetensors", "model-3.npy"], "no whole file"),
        (["apply", "family.safetensors", "model-3.npy", "--width", "7"], "no model of the family has width 7"),
        (["apply", "family.safetensors", "model-3.npy", "--width", "6"], "level 1 cannot be made of 1 models"),
        (["assess", "family.safetensors", "model-3.npy", "--labels", "none.txt"], "none.txt"),
    ],
)
def test_mistakes_are_one_message(embed, files, arguments, words):
    embed("fit", *files)
    out, err, code = embed(*arguments)
    assert code == 2 and out == "" and words in err and "Traceback" not in err


def test_help_starts_with_an_example(embed):
    for command in ("fit", "apply", "assess"):
        out, _, code = embed(command, "--help")
        assert code == 0 and f"Example: limbeck embed {command}" in out
