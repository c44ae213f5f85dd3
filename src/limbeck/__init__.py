"""limbeck tells what a distillation will give before you pay for it, does it, and checks the prediction.

With a table of runs, start at `read_runs` and `fit`; with two models, at `limbeck.lm.distill` or
`limbeck.vision.distill`. Sub-packages are
imported when they are first used, so that someone with a table of runs never waits for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from limbeck.errors import LimbeckError

if TYPE_CHECKING:
    from limbeck import (
        atoms,
        diffusion,
        distill,
        embeddings,
        fitting,
        graphs,
        laws,
        lm,
        papers,
        planning,
        recsys,
        report,
        runs,
        study,
        theory,
        vision,
    )  # fmt: skip
    from limbeck.laws import fit
    from limbeck.runs import RunRecorder, RunTable, read_runs

__version__ = "0.1.0"

_ROOMS = (
    "atoms", "diffusion", "distill", "embeddings", "fitting", "graphs", "laws", "lm", "papers", "planning", "recsys",
    "report", "runs", "study", "theory", "vision",
)  # fmt: skip
_NAMES = {"fit": "laws", "read_runs": "runs", "RunTable": "runs", "RunRecorder": "runs"}

__all__ = [
    "LimbeckError",
    "RunRecorder",
    "RunTable",
    "atoms",
    "diffusion",
    "distill",
    "embeddings",
    "fit",
    "fitting",
    "graphs",
    "laws",
    "lm",
    "papers",
    "planning",
    "read_runs",
    "recsys",
    "report",
    "runs",
    "study",
    "theory",
    "vision",
]


def __getattr__(name: str) -> Any:
    """Import a room, or a name from its room, on first use."""
    if name in _ROOMS:
        return importlib.import_module(f"limbeck.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"limbeck.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
