"""Subject-free numerics for fitting small non-linear models many times.

A `Model` is a formula with named parameters; `fit` finds its global optimum on data and resamples it; the resulting `Fit`
predicts new points with intervals. One batched solver does all of this: starts, resamples and left-out data are rows of one
computation. Nothing here knows about language models, tokens or losses: the laws live in `limbeck.laws`.
"""

from limbeck.fitting.fit import Data, Fit, fit
from limbeck.fitting.model import Model, Parameter
from limbeck.fitting.multistart import Starts
from limbeck.fitting.objective import SQUARED, Loss, Prior, Problem
from limbeck.fitting.prediction import Interval, Prediction
from limbeck.fitting.solver import Optima, minimise

__all__ = [
    "SQUARED",
    "Data",
    "Fit",
    "Interval",
    "Loss",
    "Model",
    "Optima",
    "Parameter",
    "Prediction",
    "Prior",
    "Problem",
    "Starts",
    "fit",
    "minimise",
]
