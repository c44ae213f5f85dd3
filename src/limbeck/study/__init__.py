"""Studies go round the circle: runs, law, plan, distillation, and the check of every prediction.

`demo` is the first of them, on text that every machine has; `run_study` does it with the recipes of any room. Trials
run in a few local processes or on a Ray cluster, and each prediction is on disk before the run that checks it.
`run_loss_study` compares losses of classifiers over seeds.
"""

from typing import TYPE_CHECKING, Any

from limbeck.study.circle import StudyResult, StudySettings, read_study, run_study
from limbeck.study.demo import DemoResult, demo
from limbeck.study.design import FULL, QUICK, Design
from limbeck.study.executors import on_ray, on_this_machine
from limbeck.study.forecast import Forecast, ForecastBook
from limbeck.study.stages import Stages
from limbeck.study.trials import Trial, grid

if TYPE_CHECKING:
    from limbeck.study.loss_trials import LossStudy, run_loss_study

__all__ = [
    "FULL", "QUICK", "DemoResult", "Design", "Forecast", "ForecastBook", "LossStudy", "Stages", "StudyResult",
    "StudySettings", "Trial", "demo", "grid", "on_ray", "on_this_machine", "read_study", "run_loss_study", "run_study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in ("LossStudy", "run_loss_study"):
        from limbeck.study import loss_trials

        return getattr(loss_trials, name)
    raise AttributeError(f"module 'limbeck.study' has no attribute {name!r}")
