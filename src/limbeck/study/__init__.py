"""Studies go round the circle: runs, law, plan, distillation, and the check of every prediction.

`demo` is the first of them, on text that every machine has. A study runs as jobs over a few local processes, writes run
records as it goes, and puts each prediction on disk before the run that checks it.
"""

from limbeck.study.demo import DemoResult, demo
from limbeck.study.design import FULL, QUICK, Design
from limbeck.study.forecast import Forecast, ForecastBook
from limbeck.study.stages import Stages

__all__ = ["FULL", "QUICK", "DemoResult", "Design", "Forecast", "ForecastBook", "Stages", "demo"]
