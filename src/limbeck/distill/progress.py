"""One line on the terminal while a training runs: step, loss, rate, time left. Silent when piped."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

REFRESH_SECONDS = 0.2


class ProgressLine:
    """A context manager that shows how far a training is.

    The loss is read from its device only when the line is redrawn, so that watching costs nothing between.

    Args:
        label: what is running.
        steps: length of the training.
        start: steps done already.
        show: False keeps silent on a terminal too.
    """

    def __init__(
        self, label: str, steps: int, *, start: int = 0, show: bool = True, console: Console | None = None
    ) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("step {task.completed:,.0f}/{task.total:,.0f}  loss {task.fields[loss]}  {task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            disable=not (show and console.is_terminal),
        )
        self._task = self._bar.add_task(label, total=steps, completed=start, loss="–", rate="– steps/s")
        self._start = start
        self._began = self._drawn = time.perf_counter()

    def __enter__(self) -> ProgressLine:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def update(self, step: int, loss: Tensor | float | None, *, last: bool = False) -> None:
        """Show the state after `step` steps, at most five times a second (`last` draws in any case)."""
        now = time.perf_counter()
        if self._bar.disable or loss is None or (now - self._drawn < REFRESH_SECONDS and not last):
            return
        self._drawn = now
        rate = (step - self._start) / max(now - self._began, 1e-9)
        self._bar.update(
            self._task, completed=step, loss=f"{float(loss):.4f}", rate=f"{rate:,.1f} steps/s", refresh=True
        )
