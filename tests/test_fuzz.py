"""Recipes, studies and run tables with random damage are read, or refused in words: never a traceback."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import LimbeckError
from limbeck.runs import read_runs

RECIPES = Path(__file__).parent.parent / "recipes"
READERS = {
    "lm": "lm.recipe:read_recipe", "vision": "vision.recipe:read_classifier_recipe",
    "diffusion": "diffusion.recipe:read_diffusion_recipe", "recsys": "recsys.recipe:read_click_recipe",
    "graphs": "graphs.recipe:read_graph_recipe", "atoms": "atoms.recipe:read_atoms_recipe",
    "studies": "study.circle:read_study",
}  # fmt: skip
CASES = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), st.text(max_size=8),
    st.sampled_from(["1e400", "-0", ".inf", "1M", "~", "../..", "/dev/null", "\x00", "kd", "!!python/name:os"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
CSV = "run,params,tokens,loss\na,1e6,1e8,3.1\nb,2e6,2e8,2.9\nc,4e6,4e8,2.7\n"


def reader(room: str) -> Callable[[Path], Any]:
    module, name = READERS[room].split(":")
    return getattr(importlib.import_module(f"limbeck.{module}"), name)


def refused_or_read(read: Callable[[Path], Any], file: Path) -> None:
    try:
        read(file)
    except LimbeckError as error:
        assert 0 < len(str(error)) < 20_000


def keys_of(content: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [key for name, value in pairs for key in ((*prefix, name), *keys_of(value, (*prefix, name)))]


@pytest.mark.parametrize("room", READERS)
def test_recipes_with_other_values(room: str, tmp_path: Path) -> None:
    shipped = [yaml.safe_load(file.read_text()) for file in sorted((RECIPES / room).glob("*.yaml"))]
    shipped = [one for one in shipped if room != "vision" or "methods" not in one]
    read, file = reader(room), tmp_path / "recipe.yaml"

    @CASES
    @given(st.data())
    def check(data: st.DataObject) -> None:
        content = yaml.safe_load(yaml.safe_dump(data.draw(st.sampled_from(shipped))))
        for _ in range(data.draw(st.integers(1, 3))):
            *groups, last = data.draw(st.sampled_from(keys_of(content) or [("out",)]))
            place = content
            for group in groups:
                place = place[group]
            if data.draw(st.integers(0, 4)) or isinstance(place, list):
                place[last] = data.draw(VALUES)
            else:
                place[data.draw(st.text(max_size=6))] = place.pop(last)
        file.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        refused_or_read(read, file)

    check()


@pytest.mark.parametrize("room", READERS)
def test_recipes_with_other_characters(room: str, tmp_path: Path) -> None:
    shipped = [file.read_bytes() for file in sorted((RECIPES / room).glob("*.yaml"))]
    read, file = reader(room), tmp_path / "recipe.yaml"

    @CASES
    @given(st.sampled_from(shipped), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), max_size=4))
    def check(content: bytes, edits: list[tuple[int, bytes]]) -> None:
        for at, new in edits:
            content = content[:at] + new + content[at + len(new) // 2 :]
        file.write_bytes(content)
        refused_or_read(read, file)

    check()


def test_run_tables_with_other_characters(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"

    @settings(CASES, max_examples=300)
    @given(st.lists(st.tuples(st.integers(0, len(CSV)), st.text(max_size=4) | st.just("\n")), max_size=5))
    def check(edits: list[tuple[int, str]]) -> None:
        content = CSV
        for at, new in edits:
            content = content[:at] + new + content[at + len(new) // 2 :]
        file.write_bytes(content.encode("utf-8", "replace"))
        refused_or_read(read_runs, file)

    check()
