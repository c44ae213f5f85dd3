"""The progress line."""

from __future__ import annotations

import io

import torch
from rich.console import Console

from limbeck.distill import progress
from limbeck.distill.progress import ProgressLine


def draw(*, terminal: bool, show: bool = True) -> str:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    with ProgressLine("student", 1000, start=200, show=show, console=console) as line:
        line.update(201, torch.tensor(2.5))
        line.update(1000, torch.tensor(1.23456), last=True)
    return out.getvalue()


def test_one_line_with_step_loss_rate_and_time_left() -> None:
    shown = draw(terminal=True)
    final = [line for line in shown.splitlines() if "step" in line][-1]
    assert "student" in final
    assert "step 1,000/1,000  loss 1.2346" in final
    assert "steps/s" in final
    assert "2.5000" not in shown  # within the refresh time nothing is read or drawn


def test_silent_where_nobody_looks() -> None:
    assert draw(terminal=False) == ""
    assert draw(terminal=True, show=False) == ""
    assert progress.REFRESH_SECONDS >= 0.1
