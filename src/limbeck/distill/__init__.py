"""Distilling: divergences between teacher and student, and the trainer that minimises them.

A divergence is a function of logits (`forward_kl`, `reverse_kl`, `generalized_jsd`); a method says what is compared
and when, and hands a `loss` and a `batch` function to the `Trainer`. Trainings write run records, resume bit for bit
after a kill and can branch.
"""

from __future__ import annotations

from limbeck.distill.checkpoints import Checkpoint, Checkpoints, read_checkpoint
from limbeck.distill.divergences import forward_kl, generalized_jsd, reverse_kl, topk_kl
from limbeck.distill.losses import get_loss, loss_names, register
from limbeck.distill.players import Player, always, every, freeze
from limbeck.distill.quantiser import fake_quantise
from limbeck.distill.schedules import constant, cosine, decay_start, warmup_stable_decay
from limbeck.distill.trainer import Trainer, TrainingResult

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "Player",
    "Trainer",
    "TrainingResult",
    "always",
    "constant",
    "cosine",
    "decay_start",
    "every",
    "fake_quantise",
    "forward_kl",
    "freeze",
    "generalized_jsd",
    "get_loss",
    "loss_names",
    "read_checkpoint",
    "register",
    "reverse_kl",
    "topk_kl",
    "warmup_stable_decay",
]
