"""Super-resolution as a recipe asks for it: the ladder climbed, and its models judged on pictures kept apart."""

from collections.abc import Mapping
from time import process_time
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.features import to_signal
from limbeck.diffusion.judging import Judge, Judged, Row
from limbeck.diffusion.methods import Job, Method
from limbeck.diffusion.metrics import frechet
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Exact, Pictures
from limbeck.diffusion.super_resolution import Conditioning, conditioned, judge_super_resolution, super_resolve
from limbeck.diffusion.training import Distilled
from limbeck.errors import ConfigError


def magnify(
    method: Method, source: Pictures | Exact, judge: Judge, sizes: Sizes, given: Any, how: Mapping[str, Any]
) -> tuple[nn.Module, list[Distilled], Judged, dict[str, Tensor]]:
    """Run scale distillation; return the student, its trainings, how all models do, and rows of pictures.

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
    learn, other = source.data.split(how["seed"], 0.2)
    kept, count, task = Pictures(learn, False), min(judge.count, len(other)), Conditioning()
    orders = [torch.randperm(len(one), generator=torch.Generator().manual_seed(how["seed"])) for one in (learn, other)]
    real, x = (to_signal(one.inputs[order[:count]]) for one, order in zip((learn, other), orders, strict=True))
    network, features = conditioned(sizes, kept.shape, kept.data_std, how["seed"]), judge.network.features
    student, runs = method.run(Job(network, network, None, kept, [], given, how))
    rows, shown = list[Row](), dict[str, Tensor]()
    for factor, run in zip(factors, runs, strict=True):
        model, low, began = run.student.experts[0], task.down(x, factor), process_time()
        shown = {"small": task.told(x[:12], factor), "1 step": super_resolve(model, low, factor)[:12]}
        each, said = (process_time() - began) / count, judge_super_resolution(model, x, factor, features)
        last = factor == factors[-1]
        who = f"{'student' if last else 'teacher'} x{factor}"
        rows += [Row(f"{who}, {n} step{'s'[: n - 1]}", n, n * each, said[n]) for n in sorted(said, reverse=last)]
    shown |= {"16 steps": super_resolve(model, low[:12], factor, steps=16), "data": x[:12]}
    floor = {"frechet": frechet(features(real), features(x))}
    judged = Judged("frechet", rows, floor, count, torch.get_num_threads(), judge.network.describe())
    return student, runs, judged, shown
