"""Scaling laws: each one a small class with its formula, its columns and its source.

Fit one on a table of runs with `fit("chinchilla", runs)`, find one by name with `get`, and use published constants
(`HOFFMANN_2022`, `DISTILLATION_2025`, `MODALITIES`, ...) as they are. A new law is one subclass of `Law`; nothing else
needs to know about it.
"""

from limbeck.laws._fit import compare, fit, load_fit
from limbeck.laws.annealing import Annealing, AnnealingSize, annealed, multi_power, share_exponent
from limbeck.laws.capacity_gap import (
    ZHANG_2023,
    CapacityGap,
    CapacityGapFit,
    component_sparsity,
    fit_capacity_gap,
    optimal_student,
    optimal_teacher,
)
from limbeck.laws.compute_frontier import ComputeFrontier
from limbeck.laws.distillation import (
    DISTILLATION_2025,
    SUPERVISED_2025,
    Distillation,
    Supervised,
    SupervisedLoss,
)
from limbeck.laws.flops import forward_flops
from limbeck.laws.isoflop_profiles import IsoFlop, ParabolaBias, isoflop, parabola_bias
from limbeck.laws.law import Law, Published, Source, catalogue, get, names
from limbeck.laws.learning_curves import (
    HESTNESS_2017,
    LearningCurve,
    LearningCurveFit,
    Regions,
    exponent_shift,
    fit_learning_curve,
    model_size,
    range_warning,
    regions,
    smallest_good_size,
)
from limbeck.laws.loss import (
    BESIROGLU_2024,
    HOFFMANN_2022,
    KAPLAN_2020,
    KAPLAN_2020_PARAMS,
    KAPLAN_2020_TOKENS,
    MUENNIGHOFF_2023,
    BrokenPower,
    Chinchilla,
    Henighan,
    Kaplan,
    Power,
    PowerFloor,
)
from limbeck.laws.modalities import (
    MODALITIES,
    Modality,
    PowerPlusConstant,
    infogain,
    mutual_information,
    trend_conflict,
)
from limbeck.laws.overtraining import DownstreamError, OvertrainedLoss, Overtraining, chain, informative
from limbeck.laws.precision import (
    BitLevel,
    Precision,
    critical_tokens,
    level_gain,
    optimal_training_bits,
    total_bits,
)
from limbeck.laws.pruning import PruningGain, pruning_gain
from limbeck.laws.saturation import NEZHURINA_2025, ShiftedPower, binned_frontier, pareto
from limbeck.laws.schedules import Schedule, areas, logged_rates
from limbeck.laws.student_curve import StudentCurve
from limbeck.laws.task_score import CeilingScore, TransferScore, alignment_score
from limbeck.laws.task_transfer import Alignment, TransferReport, judge_alignment, rank_corpora, transfer_curve
from limbeck.laws.time_series import (
    YAO_2024,
    SplitLaw,
    best_validation,
    compute_envelope,
    crossing,
    floor_gain,
    slope_difference,
    slope_ratio,
    split_law,
    training_pf_days,
)
from limbeck.laws.training_curves import Curve, Envelope, envelope, frontier
from limbeck.laws.trend import Trend

__all__ = [
    "BESIROGLU_2024",
    "DISTILLATION_2025",
    "HESTNESS_2017",
    "HOFFMANN_2022",
    "KAPLAN_2020",
    "KAPLAN_2020_PARAMS",
    "KAPLAN_2020_TOKENS",
    "MODALITIES",
    "MUENNIGHOFF_2023",
    "NEZHURINA_2025",
    "SUPERVISED_2025",
    "YAO_2024",
    "ZHANG_2023",
    "Alignment",
    "Annealing",
    "AnnealingSize",
    "BitLevel",
    "BrokenPower",
    "CapacityGap",
    "CapacityGapFit",
    "CeilingScore",
    "Chinchilla",
    "ComputeFrontier",
    "Curve",
    "Distillation",
    "DownstreamError",
    "Envelope",
    "Henighan",
    "IsoFlop",
    "Kaplan",
    "Law",
    "LearningCurve",
    "LearningCurveFit",
    "Modality",
    "OvertrainedLoss",
    "Overtraining",
    "ParabolaBias",
    "Power",
    "PowerFloor",
    "PowerPlusConstant",
    "Precision",
    "PruningGain",
    "Published",
    "Regions",
    "Schedule",
    "ShiftedPower",
    "Source",
    "SplitLaw",
    "StudentCurve",
    "Supervised",
    "SupervisedLoss",
    "TransferReport",
    "TransferScore",
    "Trend",
    "alignment_score",
    "annealed",
    "areas",
    "best_validation",
    "binned_frontier",
    "catalogue",
    "chain",
    "compare",
    "component_sparsity",
    "compute_envelope",
    "critical_tokens",
    "crossing",
    "envelope",
    "exponent_shift",
    "fit",
    "fit_capacity_gap",
    "fit_learning_curve",
    "floor_gain",
    "forward_flops",
    "frontier",
    "get",
    "infogain",
    "informative",
    "isoflop",
    "judge_alignment",
    "level_gain",
    "load_fit",
    "logged_rates",
    "model_size",
    "multi_power",
    "mutual_information",
    "names",
    "optimal_student",
    "optimal_teacher",
    "optimal_training_bits",
    "parabola_bias",
    "pareto",
    "pruning_gain",
    "range_warning",
    "rank_corpora",
    "regions",
    "share_exponent",
    "slope_difference",
    "slope_ratio",
    "smallest_good_size",
    "split_law",
    "total_bits",
    "training_pf_days",
    "transfer_curve",
    "trend_conflict",
]
