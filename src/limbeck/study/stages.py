"""Progress of a long study on a terminal: one line a stage, which collapses to its result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.text import Text


class Stages:
    """Numbered stages. On a terminal the running one shows its progress; piped, each prints one line when it ends.

    Args:
        total: number of stages.
        console: where to print; standard output by default.
        quiet: print nothing (for `--json`).
    """

    def __init__(self, total: int, console: Console | None = None, quiet: bool = False) -> None:
        self.total, self.number, self.quiet = total, 0, quiet
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self._live: Live | None = None
        self._name = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stages]:
        """Run one stage; call `done(text)` inside with its result."""
        self.number += 1
        self._name, began = name, time.monotonic()
        self._result, self._extra = "", ""
        shown = not self.quiet and self.console.is_terminal
        live = Live(console=self.console, refresh_per_second=4, transient=True) if shown else nullcontext()
        with live as self._live:
            self.update("")
            yield self
        self.seconds[name] = seconds = time.monotonic() - began
        self.finished(name)
        if not self.quiet:
            took = f"   {clock(seconds)}" if seconds >= 2 else ""
            self.console.print(Text(f"{self._head()}{self._result}{took}{self._extra}"))

    def update(self, text: str) -> None:
        """Replace the running line's progress."""
        if self._live is not None:
            self._live.update(Text(self._head() + text))

    def done(self, text: str, extra: str = "") -> None:
        """Set the line that stays; `extra` follows its time."""
        self._result, self._extra = text, extra

    def finished(self, name: str) -> None:
        """Hook: a stage is complete and on disk."""

    def _head(self) -> str:
        return f"[{self.number}/{self.total}] {self._name:<12}"


def clock(seconds: float) -> str:
    """Return a duration for people.

    Example:
        >>> clock(161), clock(9.4)
        ('2 min 41 s', '9 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
