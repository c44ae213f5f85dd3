from __future__ import annotations

import numpy as np
import pytest

SCALES = 10.0 ** np.arange(17, 22)


def table(path, level, slope, seed, name="loss", **extra):
    rng = np.random.default_rng(seed)
    loss = level * (SCALES / 1e17) ** -slope * np.exp(rng.normal(0, 0.002, 5))
    header = ",".join(["train_flops", name, *extra])
    rows = [",".join(map(str, [c, y, *extra.values()])) for c, y in zip(SCALES, loss, strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    return table(folder / "plain.csv", 4.0, 0.04, 0), table(folder / "new.csv", 4.4, 0.047, 1)


def test_the_answer_comes_first(limbeck, two, tmp_path):
    said = limbeck("compare", "methods", *two, "--at", "1e19,1e24", "--plot", tmp_path / "c.html")
    assert said.code == 0, said.err
    assert said.out.startswith("new is better at 1e24 FLOP (P ") and "they cross at" in said.out
    assert "the largest common scale alone picks plain" in said.out and "\x1b" not in said.out
    assert "<html" in (tmp_path / "c.html").read_text()


def test_json_is_complete(limbeck, two):
    record = limbeck("compare", "methods", *two, "--at", "1e19,1e24", "--json").json()
    assert record["names"] == ["plain", "new"]
    assert [target["verdict"] for target in record["targets"]] == ["plain", "new"]
    assert record["crossing"]["lower"] < record["crossings"][-1] < record["crossing"]["upper"]


def test_one_table_of_all_methods(limbeck, tmp_path):
    rows = [
        table(tmp_path / f"{n}.csv", a, 0.05, i, recipe=n).read_text()
        for i, (n, a) in enumerate((("a", 4), ("b", 5), ("c", 6)))
    ]
    lines = [rows[0].splitlines()[0], *(line for text in rows for line in text.splitlines()[1:])]
    (tmp_path / "all.csv").write_text("\n".join(lines) + "\n")
    ranked = limbeck("compare", "methods", tmp_path / "all.csv", "--by", "recipe", "--at", "1e22", "--json").json()
    assert ranked["names"] == ["a", "b", "c"] and ranked["better"][0][2] > 0.99
    pair = limbeck("compare", "methods", tmp_path / "all.csv", "--by", "recipe", "--methods", "c,b", "--at", "1e22")
    assert pair.out.startswith("b is better at 1e22 FLOP")


def test_published_laws_and_saved_fits(limbeck, two, fitted):
    published = limbeck("compare", "methods", "besiroglu-2024", "hoffmann-2022", "--at", "1e24")
    assert published.out.startswith("undecided at 1e24 FLOP: hoffmann-2022 is lower")
    own = limbeck("compare", "methods", fitted[0], "besiroglu-2024", "--at", "1e24", "--json").json()
    assert own["names"] == ["fit", "besiroglu-2024"] and own["targets"][0]["second_better"] is not None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["A", "B"], "--at 1e22"),
        (["A", "--at", "1e22"], "two methods are needed"),
        (["A", "B", "--at", "soon"], '"soon" is not a number'),
        (["A", "B", "--at", "-1"], "positive numbers"),
        (["A", "B", "--at", "1e22", "--metric", "error"], "no column error"),
        (["A", "B", "--at", "1e22", "--column", "tokens"], "no column tokens"),
        (["A", "B", "--at", "1e22", "--where", "train_flops<=1e18"], "a curve needs 3"),
        (["A", "B", "--at", "1e22", "--where", "train_flops<1e18"], "a single iso-FLOP line"),
        (["A", "B", "--at", "1e22", "--by", "loss"], "one table with --by"),
        (["A", "--by", "recipe", "--at", "1e22"], 'no column "recipe"'),
        (["A", "besiroglu-2024", "--at", "1e22"], "Fit tables first"),
        (["A", "none.csv", "--at", "1e22"], "does not exist"),
        (["A", "B", "--at", "1e22", "--confidence", "95"], "between 0 and 1"),
    ],
)
def test_a_mistake_is_one_message_and_code_2(limbeck, two, arguments, words):
    places = {"A": two[0], "B": two[1]}
    said = limbeck("compare", "methods", *[places.get(a, a) for a in arguments])
    assert said.code == 2 and words in said.err and "Traceback" not in said.err and said.out == ""


def test_published_laws_by_their_names(limbeck):
    said = limbeck("compare", "methods", "yao-2024:encoder:flops:id", "yao-2024:decoder:flops:id", "--at", "1e22")
    assert said.code == 0 and "yao-2024:encoder:flops:id is lower" in said.out, said.err
    for name, words in (
        ("nezhurina-2025:clap", 'Did you mean "nezhurina-2025:clip"?'),
        ("nobody-1999", "hoffmann-2022"),
    ):
        said = limbeck("compare", "methods", "besiroglu-2024", name, "--at", "1e22")
        assert said.code == 2 and "no published law" in said.err and words in said.err, said


def test_a_column_that_looks_like_a_size_can_name_the_method(limbeck, tmp_path):
    """`param_count` is a size elsewhere; here it says how sizes were counted."""
    rows = [f"{kind},{c / 1e12},{c},{a * c**-0.05}" for kind, a in (("all", 10), ("head", 12)) for c in SCALES]
    (tmp_path / "all.csv").write_text("\n".join(["param_count,n,flops,loss", *rows]) + "\n")
    asked = ["--by", "param_count", "--map", "params=n", "--at", "1e23"]
    said = limbeck("compare", "methods", tmp_path / "all.csv", *asked)
    assert said.out.startswith("all is better at 1e23 FLOP"), said
