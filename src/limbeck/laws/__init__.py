"""Scaling laws: each one a small class with its formula, its columns and its source.

Fit one on a table of runs with `fit("chinchilla", runs)`, find one by name with `get`, and use published constants
(`HOFFMANN_2022`, `DISTILLATION_2025`, `MODALITIES`, ...) as they are. A new law is one subclass of `Law`; nothing else
needs to know about it.
"""

# fmt: off
# isort: off
from limbeck.laws.annealing import Annealing, AnnealingSize, MultiPower, annealed, multi_power, share_exponent
from limbeck.laws.batch import KAPLAN_2020_BATCH, SU_2024_BATCH, Batch, BatchLaw, Hyperbola, noise_scale, stepwise
from limbeck.laws.capability import CapabilityScale, CapabilityScore, LatentSkills, family_line
from limbeck.laws.checkpoint_dynamics import (
    MULTIPLE_CHOICE, ScoreCurve, TaskDynamics, departure, loss_spikes, ranking_reliability, signal_to_noise,
    task_dynamics,
)
from limbeck.laws.compute_frontier import ComputeFrontier, forward_flops
from limbeck.laws.distillation import (
    DISTILLATION_2025, SUPERVISED_2025, ZHANG_2023, CapacityGap, CapacityGapFit, Distillation, StudentCurve,
    Supervised, SupervisedLoss, component_sparsity, fit_capacity_gap, optimal_student, optimal_teacher,
)
from limbeck.laws.families import Family, FamilyStudy, absolute_relative_error, read_families
from limbeck.laws.frontiers import Curve, Envelope, IsoFlop, ParabolaBias, envelope, frontier, isoflop, parabola_bias
from limbeck.laws.law import Law, Published, Source, catalogue, compare, fit, get, load_fit, names
from limbeck.laws.learning_curves import (
    HESTNESS_2017, LearningCurve, LearningCurveFit, Regions, exponent_shift, fit_learning_curve, model_size,
    range_warning, regions, smallest_good_size,
)
from limbeck.laws.loss import (
    BESIROGLU_2024, HOFFMANN_2022, KAPLAN_2020, KAPLAN_2020_PARAMS, KAPLAN_2020_TOKENS, MUENNIGHOFF_2023,
    BrokenPower, Chinchilla, DataConstrained, Henighan, Kaplan, Power, PowerFloor,
)
from limbeck.laws.modalities import (
    MODALITIES, Modality, PowerPlusConstant, infogain, mutual_information, trend_conflict,
)
from limbeck.laws.overtraining import (
    DownstreamError, OvertrainedLoss, Overtraining, TaskAccuracy, chain, informative,
)
from limbeck.laws.precision import BitLevel, Precision, critical_tokens, level_gain, optimal_training_bits, total_bits
from limbeck.laws.pruning import PruningGain, pruning_gain
from limbeck.laws.rules import FamilyComparison, Rule, compare_families
from limbeck.laws.saturation import NEZHURINA_2025, ShiftedPower, binned_frontier, pareto
from limbeck.laws.schedules import Schedule, areas, logged_rates
from limbeck.laws.task_growth import (
    Growth, PassRate, TaskCurve, growth, instance_rates, multi_circuit, multi_step, task_curve,
)
from limbeck.laws.task_passes import PassCounts, draw_until, expected_draws, mle_mean, pass_at_k
from limbeck.laws.task_score import Alignment, CeilingScore, TransferScore, alignment_score, judge_alignment
from limbeck.laws.task_transfer import TransferReport, rank_corpora, transfer_curve
from limbeck.laws.time_series import (
    YAO_2024, SplitLaw, best_validation, compute_envelope, crossing, floor_gain, slope_difference, slope_ratio,
    split_law, training_pf_days,
)
from limbeck.laws.translation import (
    Sharing, TwoPart, TwoPartFit, TwoPartSum, best_split, fit_two_part, share_exponents, split_penalty,
)
from limbeck.laws.trend import QualityBreak, Trend, quality_break

__all__ = [
    "BESIROGLU_2024", "DISTILLATION_2025", "HESTNESS_2017", "HOFFMANN_2022", "KAPLAN_2020", "KAPLAN_2020_BATCH",
    "KAPLAN_2020_PARAMS", "KAPLAN_2020_TOKENS", "MODALITIES", "MUENNIGHOFF_2023", "MULTIPLE_CHOICE", "NEZHURINA_2025",
    "SUPERVISED_2025", "SU_2024_BATCH", "YAO_2024", "ZHANG_2023", "Alignment", "Annealing", "AnnealingSize", "Batch",
    "BatchLaw", "BitLevel", "BrokenPower", "CapabilityScale", "CapabilityScore", "CapacityGap", "CapacityGapFit",
    "CeilingScore", "Chinchilla", "ComputeFrontier", "Curve", "DataConstrained", "Distillation", "DownstreamError",
    "Envelope", "Family", "FamilyComparison", "FamilyStudy", "Growth", "Henighan", "Hyperbola", "IsoFlop", "Kaplan",
    "LatentSkills", "Law", "LearningCurve", "LearningCurveFit", "Modality", "MultiPower", "OvertrainedLoss",
    "Overtraining", "ParabolaBias", "PassCounts", "PassRate", "Power", "PowerFloor", "PowerPlusConstant", "Precision",
    "PruningGain", "Published", "QualityBreak", "Regions", "Rule", "Schedule", "ScoreCurve", "Sharing", "ShiftedPower",
    "Source", "SplitLaw", "StudentCurve", "Supervised", "SupervisedLoss", "TaskAccuracy", "TaskCurve", "TaskDynamics",
    "TransferReport", "TransferScore", "Trend", "TwoPart", "TwoPartFit", "TwoPartSum", "absolute_relative_error",
    "alignment_score", "annealed", "areas", "best_split", "best_validation", "binned_frontier", "catalogue", "chain",
    "compare", "compare_families", "component_sparsity", "compute_envelope", "critical_tokens", "crossing", "departure",
    "draw_until", "envelope", "expected_draws", "exponent_shift", "family_line", "fit", "fit_capacity_gap",
    "fit_learning_curve", "fit_two_part", "floor_gain", "forward_flops", "frontier", "get", "growth", "infogain",
    "informative", "instance_rates", "isoflop", "judge_alignment", "level_gain", "load_fit", "logged_rates",
    "loss_spikes", "mle_mean", "model_size", "multi_circuit", "multi_power", "multi_step", "mutual_information",
    "names", "noise_scale", "optimal_student", "optimal_teacher", "optimal_training_bits", "parabola_bias", "pareto",
    "pass_at_k", "pruning_gain", "quality_break", "range_warning", "rank_corpora", "ranking_reliability",
    "read_families", "regions", "share_exponent", "share_exponents", "signal_to_noise", "slope_difference",
    "slope_ratio", "smallest_good_size", "split_law", "split_penalty", "stepwise", "task_curve", "task_dynamics",
    "total_bits", "training_pf_days", "transfer_curve", "trend_conflict",
]
