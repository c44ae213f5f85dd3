"""Papers of the tests' own: importable by the worker processes, unknown to limbeck's list."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from limbeck.papers import Outcome, Paper


class Steady(Paper):
    """An effect of 1, 2, 3 for the seeds 0, 1, 2; counts its measurements in the file COUNT."""

    slug = "steady"
    source: Any = SimpleNamespace(title="A Steady Effect", authors="Nobody", year=2026, arxiv="0000.00000")
    claim = "It is there."
    metric = "effect"
    unit = "points"
    baseline = "nothing"

    def measure(self, seed: int, quick: bool) -> Any:
        if "COUNT" in os.environ:
            with Path(os.environ["COUNT"]).open("a") as log:
                log.write(f"{self.slug}-{seed}\n")
        return {"effect": seed + 1.0, "threads": os.environ["OMP_NUM_THREADS"]}

    def conclude(self, measured: Sequence[Any]) -> Outcome:
        return Outcome([one["effect"] for one in measured], {"above zero": True}, {"threads": measured[0]["threads"]})


class Raises(Steady):
    """Crashes in its second seed."""

    slug = "raises"

    def measure(self, seed: int, quick: bool) -> Any:
        if seed == 1:
            raise ZeroDivisionError("no such effect")
        return super().measure(seed, quick)


class Unwritable(Steady):
    """Concludes with a number that JSON cannot hold."""

    slug = "unwritable"

    def conclude(self, measured: Sequence[Any]) -> Outcome:
        return Outcome([1.0, 2.0], details={"value": float("nan")})


class Dies(Steady):
    """Takes its process down."""

    slug = "dies"

    def measure(self, seed: int, quick: bool) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class NeedsMore(Steady):
    """Needs a package that is not there."""

    slug = "needs-more"
    extras = ("vision",)

    def measure(self, seed: int, quick: bool) -> Any:
        import a_package_that_nobody_has  # type: ignore[import-not-found]

        return a_package_that_nobody_has
