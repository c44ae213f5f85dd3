"""Diffusion: a sampler of many steps becomes a generator of one or a few.

A `Denoiser` guesses the clean picture behind a noisy one; samplers turn it into pictures in tens of calls.
"""

# fmt: off
# isort: off
from limbeck.diffusion.adversary import Adversary, FeatureCritic, PixelCritic
from limbeck.diffusion.averages import Average, half_life, power, ramped
from limbeck.diffusion.consistency import (
    RULES, Consistency, Discrete, Drawn, Ladder, Rule, Shifted, Shrinking, Skipping, distil_consistency,
)
from limbeck.diffusion.continuous import MeanFlow, Tangent, TimeWeight, TwoTimes
from limbeck.diffusion.decoder import train_decoder
from limbeck.diffusion.decoupled import Decoupled, MeanVariance, Stopping
from limbeck.diffusion.denoisers import Denoiser, Preconditioned, Translated, guided
from limbeck.diffusion.disback import Degradation, backtrack, path_losses, record_degradation
from limbeck.diffusion.export import export_diffusers, export_onnx
from limbeck.diffusion.features import FeatureNetwork, feature_network, to_pixels, to_signal
from limbeck.diffusion.folders import Saved, load_model, save_model
from limbeck.diffusion.game import Matching, Pairs, Push, Scene, make_pairs
from limbeck.diffusion.gdd import Alternating, ProjectedCritic, distill_gdd, freeze_trunk, innate
from limbeck.diffusion.hybrid import (
    Mixed, Step, believed_sheet, commitment, hybrid, interventions, lcm, sample_with, switch, traced,
)
from limbeck.diffusion.judging import Judge, Judged, Row
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.methods import METHODS
from limbeck.diffusion.metrics import (
    Distances, ImageJudgement, diversity, frechet, judge_images, nearest_training, precision_recall_coverage,
)
from limbeck.diffusion.mixtures import (
    Mixture, MixtureJudgement, checker, class_ring, grid25, judge_mixture, mixture, ring8, sliced_w2,
)
from limbeck.diffusion.multi_student import (
    Bundle, FairComparison, Students, compare_students, distill_students, match_teacher, partition,
)
from limbeck.diffusion.negative_attention import Normalised, nasa, negative
from limbeck.diffusion.networks import Diffusers, Sizes
from limbeck.diffusion.phased import biased_loss, distill_phases, experts, flow_noised, flow_weight
from limbeck.diffusion.pictures import contact_sheet, grid, progress_figure, save_grid, trajectory_figure
from limbeck.diffusion.predictions import Kind, Prediction
from limbeck.diffusion.pretrained import from_diffusers
from limbeck.diffusion.progressive import TwoSteps, distil_progressively, even_angles, in_one_step
from limbeck.diffusion.random_guidance import (
    Adapter, ClampedSimilarity, RandomGuidance, UniformTime, noise_loss,
)
from limbeck.diffusion.rcm import RandomRollout, distil_rcm
from limbeck.diffusion.recipe import (
    DiffusionRecipe, DiffusionResult, evaluate_folder, read_diffusion_recipe, run_recipe,
)
from limbeck.diffusion.samplers import ddim, euler, heun, karras, multistep
from limbeck.diffusion.sampling import Sampled, sample_folder
from limbeck.diffusion.schedules import DDPM, EDM, Cosine, RectifiedFlow, Schedule, TrigFlow, between
from limbeck.diffusion.sliders import Slider, retention, slider_rule, train_slider, transfer
from limbeck.diffusion.sources import Draws, Exact, Pictures, Prompts, Source
from limbeck.diffusion.students import Student, generate, noise_for, one_network
from limbeck.diffusion.super_resolution import (
    Conditioned, Conditioning, conditioned, distill_scales, judge_super_resolution, patches, psnr, super_resolve,
)
from limbeck.diffusion.tangent_attention import attention, attention_jvp, tangent_attention
from limbeck.diffusion.tangents import check_tangent, tangent
from limbeck.diffusion.teachers import Pretrained, Pretraining, train_teacher
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.diffusion.trigflow import LogNormal, ShiftedUniform, few_levels, rollout, velocity_of

__all__ = [
    "DDPM", "EDM", "METHODS", "RULES", "Adapter", "Adversary", "Alternating", "Average", "Bundle", "ClampedSimilarity",
    "Conditioned", "Conditioning", "Consistency", "Cosine", "Decoupled", "Degradation", "Denoiser", "Diffusers",
    "DiffusionRecipe", "DiffusionResult", "Discrete", "Distances", "Distilled", "Drawn", "Draws", "Exact",
    "FairComparison", "FeatureCritic", "FeatureNetwork", "ImageJudgement", "Judge", "Judged", "Kind", "Ladder",
    "Levels", "LogNormal", "Matching", "MeanFlow", "MeanVariance", "Mixed", "Mixture", "MixtureJudgement", "Normalised",
    "Pairs", "Pictures", "PixelCritic", "Preconditioned", "Prediction", "Pretrained", "Pretraining", "ProjectedCritic",
    "Prompts", "Push", "RandomGuidance", "RandomRollout", "RectifiedFlow", "Regime", "Row", "Rule", "Sampled", "Saved",
    "Scene", "Schedule", "Shifted", "ShiftedUniform", "Shrinking", "Sizes", "Skipping", "Slider", "Source", "Step",
    "Stopping", "Student", "Students", "Tangent", "TimeWeight", "Translated", "TrigFlow", "TwoSteps", "TwoTimes",
    "UniformTime",
    "attention", "attention_jvp", "backtrack", "believed_sheet", "between", "biased_loss", "check_tangent", "checker",
    "class_ring", "commitment", "compare_students", "conditioned", "contact_sheet", "ddim", "distil_consistency",
    "distil_progressively", "distil_rcm", "distill", "distill_gdd", "distill_phases", "distill_scales",
    "distill_students", "diversity", "euler", "evaluate_folder", "even_angles", "experts", "export_diffusers",
    "export_onnx", "feature_network", "few_levels", "flow_noised", "flow_weight", "frechet", "freeze_trunk",
    "from_diffusers", "generate", "grid", "grid25", "guided", "half_life", "heun", "hybrid", "in_one_step", "innate",
    "interventions", "judge_images", "judge_mixture", "judge_super_resolution", "karras", "lcm", "load_model",
    "make_pairs", "match_teacher", "mixture", "multistep", "nasa", "nearest_training", "negative", "noise_for",
    "noise_loss", "one_network", "partition", "patches", "path_losses", "power", "precision_recall_coverage",
    "progress_figure", "psnr", "ramped", "read_diffusion_recipe", "record_degradation", "retention", "ring8", "rollout",
    "run_recipe", "sample_folder", "sample_with", "save_grid", "save_model", "sliced_w2", "slider_rule",
    "super_resolve", "switch", "tangent", "tangent_attention", "to_pixels", "to_signal", "traced", "train_decoder",
    "train_slider", "train_teacher", "trajectory_figure", "transfer", "velocity_of",
]
