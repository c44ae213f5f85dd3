"""A training at the terminal: one line that shows how far it is, and Ctrl-C that saves before it stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def progress_line(*, show: bool = True, console: Console | None = None) -> Progress:
    """Step, loss and time left of a task with the field `loss`; silent when piped."""
    console = console or Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("step {task.completed:,.0f}/{task.total:,.0f}  loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(),
        console=console,
        disable=not (show and console.is_terminal),
    )


@contextmanager
def stop_request() -> Iterator[list[int]]:
    """Give a list to which the first SIGINT or SIGTERM is appended; a second one interrupts at once.

    Outside the main thread signals cannot be caught, and nothing is changed.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)} if main else {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
