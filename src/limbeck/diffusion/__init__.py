"""Diffusion: a sampler of many steps becomes a generator of one or a few.

A `Denoiser` guesses the clean picture behind a noisy one; samplers turn it into pictures in tens of calls.
"""

# fmt: off
# isort: off
from limbeck.diffusion.adversary import Adversary, FeatureCritic, PixelCritic
from limbeck.diffusion.averages import Average, half_life, power, ramped
from limbeck.diffusion.denoisers import Denoiser, Preconditioned, Translated, guided
from limbeck.diffusion.game import Matching, Pairs, Push, Scene
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.networks import Diffusers, Sizes
from limbeck.diffusion.predictions import Kind, Prediction
from limbeck.diffusion.samplers import ddim, euler, heun, karras, multistep
from limbeck.diffusion.schedules import DDPM, EDM, Cosine, RectifiedFlow, Schedule, TrigFlow, between, schedule
from limbeck.diffusion.sources import Draws, Exact, Pictures, Source
from limbeck.diffusion.students import Student, generate, noise_for, one_network
from limbeck.diffusion.teachers import Pretrained, Pretraining, train_teacher
from limbeck.diffusion.training import Distilled, Regime, distill

__all__ = [
    "Adversary", "Average", "Cosine", "DDPM", "Denoiser", "Diffusers", "Distilled", "Draws", "EDM", "Exact",
    "FeatureCritic", "Kind", "Levels", "Matching", "Pairs", "Pictures", "PixelCritic", "Preconditioned",
    "Prediction", "Pretrained", "Pretraining", "Push", "RectifiedFlow", "Regime", "Scene", "Schedule", "Sizes",
    "Source", "Student", "Translated", "TrigFlow", "between", "ddim", "distill", "euler", "generate", "guided",
    "half_life", "heun", "karras", "multistep", "noise_for", "one_network", "power", "ramped", "schedule",
    "train_teacher",
]
