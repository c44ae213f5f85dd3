"""Super-resolution as a recipe asks for it: the ladder climbed, and its models judged on pictures kept apart."""

from collections.abc import Mapping
from pathlib import Path
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.enlarging import apart, factor_of, pictures_for
from limbeck.diffusion.features import FeatureNetwork, feature_network
from limbeck.diffusion.folders import Saved
from limbeck.diffusion.judging import Judge, Judged, Row
from limbeck.diffusion.methods import Job, Method
from limbeck.diffusion.metrics import frechet
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Exact, Pictures
from limbeck.diffusion.students import Student
from limbeck.diffusion.super_resolution import Conditioning, conditioned, judge_super_resolution, super_resolve
from limbeck.diffusion.training import Distilled
from limbeck.errors import ConfigError


def magnify(
    method: Method, source: Pictures | Exact, judge: Judge, sizes: Sizes, given: Any, how: Mapping[str, Any]
) -> tuple[list[Distilled], Judged, dict[str, Tensor]]:
    """Run scale distillation; return its trainings, the student's last, how all models do, and rows of pictures.

    Models are judged by what they make of small pictures, a fifth of all, that none learns from.

    Args:
        method: scale-distillation.
        source: pictures; classes are not told.
        judge: whose features are compared, and how many pictures.
        sizes: of the network.
        given, how: see `Job`.

    Raises:
        ConfigError: points, a single factor.
    """
    factors = method.options.get("factors", (2, 4))
    if isinstance(source, Exact) or judge.network is None or len(factors) < 2:
        raise ConfigError("scale-distillation makes pictures larger: give pictures, and two factors or more")
    learn, learnt, other = apart(source.data, how["seed"], judge.count)
    kept = Pictures(learn, False)
    network = conditioned(sizes, kept.shape, kept.data_std, how["seed"])
    _, runs = method.run(Job(network, network, None, kept, [], given, how))
    models = {("teacher", "student")[k == len(runs) - 1] + f" x{factor}": (run.student.experts[0], factor)
              for k, (factor, run) in enumerate(zip(factors, runs, strict=True))}  # fmt: skip
    return runs, *compare_magnified(models, learnt, other, judge.network)


def compare_magnified(
    models: Mapping[str, tuple[Any, int]], learnt: Tensor, x: Tensor, network: FeatureNetwork
) -> tuple[Judged, dict[str, Tensor]]:
    """Judge models on the same pictures; return what the last one makes of twelve too, as rows.

    Args:
        models: denoiser and factor by name, the student's last.
        learnt, x: pictures that they learnt from and as many that they did not, [n, C, H, W].
        network: whose features are compared.
    """
    task, features, rows, shown = Conditioning(), network.features, list[Row](), dict[str, Tensor]()
    for who, (model, factor) in models.items():
        low, began = task.down(x, factor), process_time()
        shown = {"small": task.told(x[:12], factor), "1 step": super_resolve(model, low, factor)[:12]}
        each, said = (process_time() - began) / len(x), judge_super_resolution(model, x, factor, features)
        last = who == [*models][-1]
        rows += [Row(f"{who}, {n} step{'s'[: n - 1]}", n, n * each, said[n]) for n in sorted(said, reverse=last)]
        shown |= {"16 steps": super_resolve(model, low[:12], factor, steps=16), "data": x[:12]}
    floor = {"frechet": frechet(features(learnt), features(x))}
    return Judged("frechet", rows, floor, len(x), torch.get_num_threads(), network.describe()), shown


def evaluate_magnified(student: Saved, against: Saved, data: Path, limit: int) -> Judged:
    """Compare two saved models of super-resolution, as of two factors, on pictures that the student did not learn from.

    Raises:
        ConfigError: a model that makes pictures of noise alone, pictures of another size.
    """
    factors = [factor_of(one) for one in (against, student)]
    if None in factors or against.shape != student.shape:
        raise ConfigError("a model of super-resolution is compared with another one, of pictures of the same size")
    pictures, seed = pictures_for(student, data)
    _, learnt, other = apart(pictures, seed, limit)
    parts: list[nn.Module] = [one.model.experts[0] if isinstance(one.model, Student) else one.model
                              for one in (against, student)]  # fmt: skip
    names = [f"{who} x{factor}" for who, factor in zip(("teacher", "student"), factors, strict=True)]
    models: Any = dict(zip(names, zip(parts, factors, strict=True), strict=True))
    return compare_magnified(models, learnt, other, feature_network(pictures))[0]
