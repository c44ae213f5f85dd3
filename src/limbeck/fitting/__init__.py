"""Subject-free numerics for fitting small non-linear models many times.

A `Model` is a formula with named parameters; `fit` finds its global optimum on data and resamples it; the resulting
`Fit` predicts new points with intervals. One batched solver does all of this: starts, resamples and left-out data are
rows of one computation. Nothing here knows about language models, tokens or losses: the laws live in `limbeck.laws`.
"""

from limbeck.fitting.data import Data
from limbeck.fitting.estimation import automatic_delta, fit
from limbeck.fitting.fit import Fit
from limbeck.fitting.holdout import validate
from limbeck.fitting.identifiability import Identifiability
from limbeck.fitting.model import Model, Parameter
from limbeck.fitting.multistart import Starts
from limbeck.fitting.objective import SQUARED, Loss, Prior, Problem
from limbeck.fitting.paired import Paired, calibration_error, holm, paired
from limbeck.fitting.prediction import Interval, Prediction
from limbeck.fitting.profile import Profile, profile, profile_prediction
from limbeck.fitting.selection import Candidate, Comparison, aicc, compare
from limbeck.fitting.solver import Optima, minimise
from limbeck.fitting.validation import Cut, Score, Validation

__all__ = [
    "SQUARED", "Candidate", "Comparison", "Cut", "Data", "Fit", "Identifiability", "Interval", "Loss", "Model",
    "Optima", "Paired", "Parameter", "Prediction", "Prior", "Problem", "Profile", "Score", "Starts", "Validation",
    "aicc", "automatic_delta", "calibration_error", "compare", "fit", "holm",
    "minimise", "paired", "profile", "profile_prediction", "validate",
]  # fmt: skip
