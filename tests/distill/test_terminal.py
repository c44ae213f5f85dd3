"""The progress line."""

from __future__ import annotations

import io

from rich.console import Console

from limbeck.distill.terminal import progress_line


def draw(*, terminal: bool, show: bool = True) -> str:
    out = io.StringIO()
    with progress_line(show=show, console=Console(file=out, force_terminal=terminal, width=100)) as line:
        task = line.add_task("student", total=1000, completed=200, loss=2.5)
        line.update(task, completed=1000, loss=1.23456)
    return out.getvalue()


def test_one_line_with_step_loss_and_time_left() -> None:
    final = [line for line in draw(terminal=True).splitlines() if "step" in line][-1]
    assert "student" in final
    assert "step 1,000/1,000  loss 1.2346" in final
    assert "0:00:00" in final


def test_silent_where_nobody_looks() -> None:
    assert draw(terminal=False) == ""
    assert draw(terminal=True, show=False) == ""
