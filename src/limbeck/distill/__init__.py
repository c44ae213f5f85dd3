"""Distilling: divergences between teacher and student, and the trainer that minimises them.

A divergence is a function of logits (`forward_kl`, `reverse_kl`, `generalized_jsd`); a method says what is compared
and when, and hands a `loss` and a `batch` function to the `Trainer`. Trainings write run records, resume bit for bit
after a kill and can branch.
"""

from __future__ import annotations

# fmt: off
# isort: off
from limbeck.distill.adaptive import adaptive_kl, entropy_aware_kl, todi
from limbeck.distill.checkpoints import Checkpoint, Checkpoints, read_checkpoint
from limbeck.distill.divergences import (
    alpha_divergence, forward_kl, generalized_jsd, jeffreys, neyman, of_generator, pearson, reverse_kl, skew_forward_kl,
    skew_reverse_kl, squared_hellinger, total_variation,
)
from limbeck.distill.fused import fused_divergence
from limbeck.distill.losses import Generator, get_loss, loss_names, register
from limbeck.distill.players import Player, always, every, freeze
from limbeck.distill.quantiser import fake_quantise
from limbeck.distill.schedules import constant, cosine, decay_start, warmup_stable_decay
from limbeck.distill.topk import kept_divergence, topk_kl
from limbeck.distill.trainer import Trainer, TrainingResult
from limbeck.distill.weights import (
    beta_kernel, effective_size, efficiency, gradient_signal, pass_window, reward_weights, scaled,
    token_importance,
)

__all__ = [
    "Checkpoint", "Checkpoints", "Generator", "Player", "Trainer", "TrainingResult", "adaptive_kl", "alpha_divergence",
    "always", "beta_kernel", "constant", "cosine", "decay_start", "effective_size", "efficiency", "entropy_aware_kl",
    "every",
    "fake_quantise", "forward_kl", "freeze", "fused_divergence", "generalized_jsd", "get_loss", "gradient_signal",
    "jeffreys", "kept_divergence", "loss_names", "neyman", "of_generator", "pass_window", "pearson", "read_checkpoint",
    "register", "reverse_kl", "reward_weights", "scaled", "skew_forward_kl", "skew_reverse_kl", "squared_hellinger",
    "todi", "token_importance", "topk_kl", "total_variation", "warmup_stable_decay",
]
