from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from limbeck.errors import ConfigError
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings


class Inner(Settings):
    temperature: Number = 1.0
    name: Literal["forward", "reverse"] = "forward"


class Outer(Settings):
    data: FilePath
    tokens: Count = Field(gt=0)
    lr: Number = 0.1
    inner: Inner = Inner()


def write(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("written", ["2000000", "2e6", "'2e6'", "2_000_000", "2M", "2000k", "2.0e+6"])
def test_counts_are_read_as_people_write_them(tmp_path: Path, written: str) -> None:
    settings = read_settings(Outer, write(tmp_path, f"data: x\ntokens: {written}\nlr: 4e-3\n"))
    assert settings.tokens == 2_000_000 and settings.lr == 0.004


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "data: texts/a.txt\ntokens: 1\n")
    assert read_settings(Outer, path).data == tmp_path / "texts/a.txt"
    assert read_settings(Outer, path, ["data=/b.txt"]).data == Path("/b.txt")
    assert check_settings(Outer, {"data": "c.txt", "tokens": 1}).data == Path("c.txt")


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    path = write(tmp_path, "data: x\ntokens: 1\ninner:\n  temperature: 3\n")
    settings = read_settings(Outer, path, ["inner.name=reverse", "tokens=5k"])
    assert (settings.inner.name, settings.inner.temperature, settings.tokens) == ("reverse", 3.0, 5000)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("data: x\ntokns: 1\n", [], 'file.yaml, line 2: unknown key "tokns". Did you mean "tokens"?'),
        (
            "data: x\ntokens: 1\ninner:\n  temprature: 2\n",
            [],
            'file.yaml, line 4: unknown key "temprature" in inner. Did you mean "temperature"?',
        ),
        ("data: x\ntokens: 1\nzzz: 1\n", [], 'unknown key "zzz". Known: data, tokens, lr, inner.'),
        ("data: x\n", [], '"tokens" is missing'),
        (
            "data: x\ntokens: many\n",
            [],
            'line 2: "tokens" must be a valid integer, unable to parse string as an integer',
        ),
        ("data: x\ntokens: -1\n", [], '"tokens" must be greater than 0, got -1'),
        (
            "data: x\ntokens: 1\ninner:\n  name: forwrd\n",
            [],
            'line 4: unknown name "forwrd" in inner. Did you mean "forward"?',
        ),
        (
            "data: x\ntokens: 1\n",
            ["inner.temprature=2"],
            'override inner.temprature=2: unknown key "temprature" in inner.',
        ),
        ("data: x\ntokens: 1\n", ["tokens"], 'override "tokens": write key=value'),
        ("data: x\ntokens: 1\n", ["data.deep=1"], "data is the single value 'x' in the file"),
        ("data: [x\n", [], "not valid YAML"),
        ("- a\n- b\n", [], "must hold `key: value` lines, found list"),
        ("data: !!python/object/apply:os.getcwd []\n", [], "not valid YAML"),
        ("data: x\ndata: y\ntokens: 1\n", [], 'line 2: key "data" is given twice'),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(Outer, write(tmp_path, text), overrides)
    assert message in str(caught.value)


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(Outer, write(tmp_path, "dta: x\ntokens: 0\n"))
    assert len(str(caught.value).splitlines()) == 3


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_settings(Outer, tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_settings(Outer, tmp_path)
