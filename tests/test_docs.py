"""The Python in README and documentation runs as it stands; recipes in it are recipes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs" / "tutorials").glob("*.md"), *(ROOT / "docs" / "how-to").glob("*.md")])


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```python" in page.read_text()], ids=lambda page: page.stem
)
def test_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {"__name__": "page"}
    for example in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(example, page.name, "exec"), known)


def test_recipes_are_read(tmp_path: Path) -> None:
    from limbeck.study import read_study
    from limbeck.vision import read_classifier_recipe

    read = {"study.md": read_study, "distil.md": read_classifier_recipe}
    for page in PAGES:
        for number, recipe in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)):
            file = tmp_path / f"{page.stem}-{number}.yaml"
            file.write_text(recipe)
            assert read[page.name](file).out.is_relative_to(tmp_path)
            assert isinstance(yaml.safe_load(recipe), dict)


def test_commands_exist() -> None:
    """Every `limbeck ...` line of a page begins with a command that there is, or a paper that there is."""
    from limbeck.cli.app import COMMANDS
    from limbeck.papers import papers

    known = {one.__name__.rpartition("_")[2] for one in COMMANDS[""]} | set(COMMANDS)
    nested = {group: {one.__name__.rpartition("_")[2] for one in ones} for group, ones in COMMANDS.items() if group}
    for page in PAGES:
        for line in re.findall(r"^limbeck (.+)$", page.read_text(), re.MULTILINE):
            words = line.split()
            assert words[0] in known, line
            if words[0] in nested:
                assert words[1] in nested[words[0]], line
            if words[0] == "reproduce" and not words[1].startswith("-"):
                assert words[1] in papers(), line
