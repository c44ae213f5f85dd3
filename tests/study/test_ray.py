"""Trials on a local Ray instance: the same numbers as here, and a worker that is killed is replaced."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import LimbeckError
from limbeck.study import grid, on_ray

pytestmark = pytest.mark.cluster
RECIPE = {"data": "digits", "method": "ce", "student": {"hidden": [16]}, "test": 0.5}


def working() -> list[int]:
    """Processes that run a trial."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::_call"):
                found.append(int(folder.name))
    return found


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    seeds: dict[str, Any] = {"steps": [4000], "seed": [0, 1]}
    here = [trial() for trial in grid("vision", RECIPE, seeds, Path(), tmp_path / "here")]
    trials = grid("vision", RECIPE, seeds, Path(), tmp_path / "there")
    rows: list[dict[str, Any]] = []
    counts: list[int] = []
    thread = threading.Thread(target=lambda: rows.extend(on_ray("local")(trials, counts.append)))
    thread.start()
    deadline = time.monotonic() + 240
    while not list((tmp_path / "there").glob("*/checkpoints/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    victims = working()
    assert victims, "no worker was found under way"
    os.kill(victims[0], signal.SIGKILL)
    thread.join(240)
    assert rows == here and counts[-1] == 2


def test_a_mistake_in_a_trial_keeps_its_words(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    trials = grid("vision", RECIPE | {"data": "nowhere"}, {"seed": [0]}, Path(), tmp_path)
    with pytest.raises(LimbeckError, match="nowhere"):
        on_ray("local")(trials, lambda done: None)
