from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from limbeck.files import write_json, write_text


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.txt", "old")

    def broken(*_: object) -> None:
        assert path.read_text() == "old"
        raise OSError("disk full")

    for place, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, broken)
            with pytest.raises(OSError, match="disk full"):
                write_text(path, "new")
        assert path.read_text() == "old"


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "a.json"
    assert write_json(path, {"x": 1}) == path
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert json.loads(path.read_text()) == {"x": 1}
    write_text(path, "é\n")
    assert path.read_text(encoding="utf-8") == "é\n"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
