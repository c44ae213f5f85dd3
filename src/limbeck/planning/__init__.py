"""Decisions from fitted laws: how large, on how much data, from which teacher.

Every plan takes a `Fit` of one's own runs or published constants, answers with an interval and the distance to the data
it was made from, and raises a `PlanningError` where the answer is "that cannot be done". Start with `compute_optimal`
and `choose_teacher`.
"""

# fmt: off
# isort: off
from limbeck.planning._points import split_methods
from limbeck.planning.allocation import ComputePlan, InferencePlan, compute_optimal, inference_aware
from limbeck.planning.batch import BatchPlan, plan_batch
from limbeck.planning.bits import BitOption, BitPlan, choose_bits
from limbeck.planning.calibration import Calibration, Held, calibrate
from limbeck.planning.comparison import MethodComparison, Target, compare_curves, compare_methods
from limbeck.planning.costs import SCENARIOS, distillation_flops
from limbeck.planning.crossover import (
    LogRatio, Sweep, crossings, decision_accuracy, lower_envelope, regime, value_of_rung,
)
from limbeck.planning.estimate import Estimate, Source
from limbeck.planning.grade import Grade, GradePlan, plan_grade
from limbeck.planning.keep import KeepOption, KeepPlan, choose_examples, plan_keep, read_features
from limbeck.planning.loss_comparison import LossComparison, MethodResult, SettingResult, compare_losses
from limbeck.planning.observational import ObservedTask, observe_runs, observe_task
from limbeck.planning.published_tables import PublishedComparison, compare_published
from limbeck.planning.ranking import Ranking, rank_methods
from limbeck.planning.recipe import Recipe, best_teacher_loss, recipe
from limbeck.planning.schedule import Decay, SchedulePlan, best_decay, compare_schedules, standard_schedules
from limbeck.planning.shortlist import Candidate, Shortlist, choose_by_short_runs
from limbeck.planning.splits import SplitPlan, SplitRow, compare_splits
from limbeck.planning.task_forecast import Route, TaskForecast, TaskForecasts, Training, forecast_tasks, trainings
from limbeck.planning.teacher import Option, Teacher, TeacherPlan, choose_teacher, read_teachers
from limbeck.planning.two_parts import TwoPartPlan, allocate_two_parts

__all__ = [
    "SCENARIOS", "BatchPlan", "BitOption", "BitPlan", "Calibration", "Candidate", "ComputePlan", "Decay", "Estimate",
    "Grade", "GradePlan", "Held", "InferencePlan", "KeepOption", "KeepPlan", "LogRatio", "LossComparison",
    "MethodComparison", "MethodResult", "ObservedTask", "Option", "PublishedComparison", "Ranking", "Recipe", "Route",
    "SchedulePlan", "SettingResult", "Shortlist", "Source", "SplitPlan", "SplitRow", "Sweep", "Target", "TaskForecast",
    "TaskForecasts", "Teacher", "TeacherPlan", "Training", "TwoPartPlan", "allocate_two_parts", "best_decay",
    "best_teacher_loss", "calibrate", "choose_bits", "choose_by_short_runs", "choose_examples", "choose_teacher",
    "compare_curves", "compare_losses", "compare_methods", "compare_published", "compare_schedules", "compare_splits",
    "compute_optimal", "crossings", "decision_accuracy", "distillation_flops", "forecast_tasks", "inference_aware",
    "lower_envelope", "observe_runs", "observe_task", "plan_batch", "plan_grade", "plan_keep", "rank_methods",
    "read_features", "read_teachers", "recipe", "regime", "split_methods", "standard_schedules", "trainings",
    "value_of_rung",
]
