"""Studies go round the circle: runs, law, plan, distillation, and the check of every prediction.

`demo` is the first of them, on text that every machine has. A study runs as jobs over a few local processes, writes run
records as it goes, and puts each prediction on disk before the run that checks it. `run_loss_study` compares losses of
classifiers over seeds.
"""

from typing import TYPE_CHECKING, Any

from limbeck.study.demo import DemoResult, demo
from limbeck.study.design import FULL, QUICK, Design
from limbeck.study.forecast import Forecast, ForecastBook
from limbeck.study.stages import Stages

if TYPE_CHECKING:
    from limbeck.study.loss_trials import LossStudy, run_loss_study

__all__ = [
    "FULL", "QUICK", "DemoResult", "Design", "Forecast", "ForecastBook", "LossStudy", "Stages", "demo",
    "run_loss_study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in ("LossStudy", "run_loss_study"):
        from limbeck.study import loss_trials

        return getattr(loss_trials, name)
    raise AttributeError(f"module 'limbeck.study' has no attribute {name!r}")
