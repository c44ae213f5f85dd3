"""Diffusion: a sampler of many steps becomes a generator of one or a few.

A `Denoiser` guesses the clean picture behind a noisy one; samplers turn it into pictures in tens of calls.
"""

# fmt: off
# isort: off
from limbeck.diffusion.averages import Average, half_life, power, ramped
from limbeck.diffusion.predictions import Kind, Prediction
from limbeck.diffusion.samplers import ddim, euler, heun, karras, multistep
from limbeck.diffusion.schedules import DDPM, EDM, Cosine, RectifiedFlow, Schedule, TrigFlow, between, schedule

__all__ = [
    "DDPM", "EDM", "Average", "Cosine", "Kind", "Prediction", "RectifiedFlow", "Schedule", "TrigFlow", "between",
    "ddim", "euler", "half_life", "heun", "karras", "multistep", "power", "ramped", "schedule",
]
