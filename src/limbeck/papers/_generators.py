"""Diffusion teachers of the experiments on one-step generators, on points and on scikit-learn's digits, and a judge."""

from collections.abc import Callable
from typing import Any

import numpy as np


def points(name: str, seed: int, quick: bool, width: int = 64) -> tuple[Any, Any]:
    """Return a mixture as a source, and a trained teacher of it; classes are told where the mixture has them."""
    from limbeck import diffusion as room

    source = room.Exact(room.mixture(name), conditional=name == "class_ring")
    begin = room.Sizes(width, 2).build(source.shape, source.classes, source.data_std, seed)
    how = room.Pretraining(steps=700 if quick else 2500, lr=2e-3, log_mean=-1.4, log_std=1.4)
    return source, room.train_teacher(begin, source, how, seed=seed, progress=False).denoiser


def digits(
    seed: int, quick: bool, steps: int = 3000, **sizes: Any
) -> tuple[Any, Any, Callable[[Any], dict[str, float]]]:
    """Return digits as a source, a teacher trained for so many steps, and what judges a student.

    It says Fréchet distance, recall and coverage, in the features of a small classifier of the same digits, which no
    training sees; `sizes` are the network's.
    """
    from limbeck import diffusion as room
    from limbeck.distill import read_data

    data = read_data("digits")
    source, network = room.Pictures(data), room.feature_network(data, seed=0)
    begin = room.Sizes(**sizes).build(source.shape, source.classes, source.data_std, seed)
    teacher = room.train_teacher(
        begin, source, room.Pretraining(500 if quick else steps), seed=seed, progress=False
    ).denoiser

    def judge(student: Any) -> dict[str, float]:
        noise = room.noise_for(student, source.shape, len(data), 1000 + seed)
        found = room.judge_images(network, data, room.generate(student, noise, data.labels), data.labels).found
        return {"frechet": found.frechet, "recall": found.recall, "coverage": found.coverage}

    return source, teacher, judge


def divergence(source: Any, student: Any, seed: int) -> float:
    """Return the Jensen-Shannon divergence of a student's points from the mixture, in nats: 8,000 of each."""
    from limbeck import diffusion as room

    made = room.generate(student, room.noise_for(student, source.shape, 8000, 1000 + seed))
    return float(room.judge_mixture(source.law, made, seed=seed).jsd)


def course(judged: dict[int, dict[str, float]], name: str) -> list[float]:
    """Return one number of a training's judgements, in the order of its updates."""
    return [judged[update][name] for update in sorted(judged)]


def every_seed(smaller: Any, larger: Any) -> Any:
    """Return whether one number is below another in each seed."""
    return np.asarray(smaller) < np.asarray(larger)
