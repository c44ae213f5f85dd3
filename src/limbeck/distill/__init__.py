"""Distilling: divergences between teacher and student, and the trainer that minimises them.

A loss is a function of logits (`forward_kl`, `dkd`, `pld`), and transforms (`standardised`) wrap any; a method says
what is compared and when, and hands a `loss` and a `batch` function to the `Trainer`. Trainings write run records,
resume bit for bit after a kill and can branch.
"""

from __future__ import annotations

# fmt: off
# isort: off
from limbeck.distill.adaptive import adaptive_kl, entropy_aware_kl, todi
from limbeck.distill.classic import cross_entropy, hard_label, squared_logits, with_labels
from limbeck.distill.checkpoints import Checkpoint, Checkpoints, read_checkpoint
from limbeck.distill.contrast import Contrast
from limbeck.distill.decoupled import dkd
from limbeck.distill.divergences import (
    alpha_divergence, forward_kl, generalized_jsd, jeffreys, neyman, of_generator, pearson, reverse_kl, skew_forward_kl,
    skew_reverse_kl, squared_hellinger, total_variation,
)
from limbeck.distill.examples import Labelled, labelled, of_dataset, read_data, require_apart, save_data
from limbeck.distill.features import adapters, captured, shapes
from limbeck.distill.folders import load_folder, save_folder
from limbeck.distill.fused import fused_divergence
from limbeck.distill.hints import attention_transfer, contrastive, hint, pkt, pyramid, rkd, similarity_preserving
from limbeck.distill.losses import Generator, get_loss, loss_names, register
from limbeck.distill.multi_level import multi_level
from limbeck.distill.plackett_luce import Ranking, list_mle, pld, rank, ranking_loss
from limbeck.distill.players import Player, always, evaluating, every, freeze
from limbeck.distill.quantiser import fake_quantise
from limbeck.distill.regime import Regime, TrainingSettings, cpu_threads
from limbeck.distill.relational import batch_similarity, class_similarity, dist
from limbeck.distill.review import Review
from limbeck.distill.schedules import constant, cosine, decay_start, exponential, warmup_stable_decay
from limbeck.distill.topk import cakld, kept_divergence, topk_kl
from limbeck.distill.trainer import Trainer, TrainingResult
from limbeck.distill.transforms import bucketed, softened, standardise, standardised, transformed
from limbeck.distill.weights import (
    beta_kernel, effective_size, efficiency, gradient_signal, pass_window, reward_weights, scaled, token_importance,
)

__all__ = [
    "Checkpoint", "Checkpoints", "Contrast", "Generator", "Labelled", "Player", "Ranking", "Regime", "Review",
    "Trainer", "TrainingResult", "TrainingSettings", "adapters", "adaptive_kl", "alpha_divergence", "always",
    "attention_transfer", "batch_similarity", "beta_kernel", "bucketed", "cakld", "captured", "class_similarity",
    "constant", "contrastive", "cosine", "cpu_threads", "cross_entropy", "decay_start", "dist", "dkd", "effective_size",
    "efficiency", "entropy_aware_kl", "evaluating", "every", "exponential", "fake_quantise", "forward_kl", "freeze",
    "fused_divergence", "generalized_jsd", "get_loss", "gradient_signal", "hard_label", "hint", "jeffreys",
    "kept_divergence", "labelled", "list_mle", "load_folder", "loss_names", "multi_level", "neyman", "of_dataset",
    "of_generator", "pass_window", "pearson", "pkt", "pld", "pyramid", "rank", "ranking_loss", "read_checkpoint",
    "read_data", "register", "require_apart", "reverse_kl", "reward_weights", "rkd", "save_data", "save_folder",
    "scaled", "shapes", "similarity_preserving", "skew_forward_kl", "skew_reverse_kl", "softened", "squared_hellinger",
    "squared_logits", "standardise", "standardised", "todi", "token_importance", "topk_kl", "total_variation",
    "transformed", "warmup_stable_decay", "with_labels",
]
