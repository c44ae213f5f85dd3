"""Diffusion: a sampler of many steps becomes a generator of one or a few.

A `Denoiser` guesses the clean picture behind a noisy one; samplers turn it into pictures in tens of calls.
"""

# fmt: off
# isort: off
from limbeck.diffusion.predictions import Kind, Prediction
from limbeck.diffusion.schedules import DDPM, EDM, Cosine, RectifiedFlow, Schedule, TrigFlow, between, schedule

__all__ = [
    "DDPM", "EDM", "Cosine", "Kind", "Prediction", "RectifiedFlow", "Schedule", "TrigFlow", "between", "schedule",
]
