"""Killing a training in a process of its own as soon as it has written something."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def killed_at(sign: str, folder: Path, run: Callable[..., Any], *args: Any) -> None:
    """Run a function in a fork, kill it with SIGKILL when a file of the folder matches; it must have been alive."""
    worker = multiprocessing.get_context("fork").Process(target=run, args=args)
    worker.start()
    assert worker.pid is not None
    deadline = time.monotonic() + 60
    while not any(folder.glob(sign)) and worker.is_alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    if worker.is_alive():
        os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert any(folder.glob(sign)) and worker.exitcode == -signal.SIGKILL
