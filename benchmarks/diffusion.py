"""Steps of distillation beside a plain loop of the same network calls, and samplers beside diffusers' schedulers.

Steps: the perceptron of the digits recipe (638,016 parameters, batch 128) and a small U-Net (batch 64). The plain loop
is what one writes by hand for one method, with Adam and a moving average: no records, no checks, no names for random
numbers. A step is the difference between a long and a short run over the difference of their lengths, so that what
happens once is not counted. Samplers: the same number of network calls, with a network of no cost (all of it is the
sampler's own) and with the perceptron. One thread; processor seconds, all ways take turns within a round, the least of
each counts.

    .venv/bin/python benchmarks/diffusion.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from limbeck.diffusion import (
    DDPM,
    Adversary,
    Decoupled,
    Exact,
    Pictures,
    PixelCritic,
    Regime,
    Sizes,
    ddim,
    distill,
    euler,
    heun,
    karras,
    mixture,
    multistep,
    one_network,
)
from limbeck.distill import read_data

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "diffusion.json"
LEVEL, AVERAGE = 2.5, 0.99
LOW, HIGH, COUNT = 20, 980, 1000


def levels() -> Tensor:
    """The grid that DMD draws from."""
    ends = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    return torch.linspace(*ends, COUNT, dtype=torch.float64) ** 7


def plain(method: str, teacher: nn.Module, source: Any, batch: int, updates: int, turns: int) -> None:
    """The loop by hand."""
    student, average, grid = deepcopy(teacher).requires_grad_(True), deepcopy(teacher), levels()
    moving, own = list(average.parameters()), list(student.parameters())
    adam = partial(torch.optim.Adam, betas=(0.0, 0.99))
    fake = deepcopy(teacher).requires_grad_(True) if method != "gdd" else None
    critic = PixelCritic(source.shape, source.classes, 128) if method in ("gdd", "dmd2") else None
    of_student = adam(own, lr=2e-4)
    of_fake = adam(fake.parameters(), lr=4e-4) if fake else None
    of_critic = adam(critic.parameters(), lr=4e-4) if critic else None
    x, y = 2 * source.data.inputs - 1, source.data.labels
    level, softplus = torch.full((batch,), LEVEL), nn.functional.softplus
    shape, wide = (batch, *source.shape), (batch, *[1] * len(source.shape))

    def make(cond: Tensor) -> Tensor:
        return student(LEVEL * torch.randn(shape), level, cond)  # type: ignore[no-any-return]

    def noisy(made: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
        sigma = grid[torch.randint(low, high, (batch,))].float()
        return made + sigma.reshape(wide) * torch.randn(shape), sigma

    for step in range(updates * turns):
        rows = torch.randint(len(x), (batch,))
        cond, made = y[rows], None
        if step % turns == 0:
            made = make(cond)
            loss = made.new_zeros(())
            if fake is not None:
                with torch.no_grad():
                    there, sigma = noisy(made, LOW, HIGH)
                    real, said = teacher(there, sigma, cond), fake(there, sigma, cond)
                    push = real - said
                    if method == "decoupled":
                        push = push / (real - made).abs().flatten(1).mean(1).reshape(wide)
                        there, sigma = noisy(made, LOW, HIGH)
                        real = teacher(there, sigma, cond)
                        free = teacher(there, sigma, torch.full_like(cond, source.classes))
                        push = push + 2 * (real - free) / (real - made).abs().flatten(1).mean(1).reshape(wide)
                    else:
                        push = push / (real - made).abs().flatten(1).mean(1).reshape(wide)
                loss = (made - (made + push).detach()).square().mean() / 2
            if critic is not None:
                critic.requires_grad_(False)
                loss = loss + softplus(-critic(made, level, cond)).mean()
                critic.requires_grad_(True)
            of_student.zero_grad()
            loss.backward()
            of_student.step()
            with torch.no_grad():
                torch._foreach_lerp_(moving, own, 1 - AVERAGE)
        if made is None or method == "gdd":
            with torch.no_grad():
                made = make(cond)
        made = made.detach()
        if fake is not None and of_fake is not None:
            there, sigma = noisy(made, 0, COUNT)
            weight = (sigma**-2 + source.data_std**-2).reshape(wide)
            of_fake.zero_grad()
            (weight * (fake(there, sigma, cond) - made).square()).mean().backward()
            of_fake.step()
        if critic is not None and of_critic is not None:
            of_critic.zero_grad()
            (softplus(critic(made, level, cond)).mean() + softplus(-critic(x[rows], level, cond)).mean()).backward()
            of_critic.step()


def ours(method: str, teacher: nn.Module, source: Any, batch: int, updates: int, turns: int) -> None:
    """The same by limbeck."""
    critic = PixelCritic(source.shape, source.classes, 128)
    how: dict[str, Any] = {} if method == "gdd" else {"fake": deepcopy(teacher)}
    if method in ("gdd", "dmd2"):
        how["adversary"] = Adversary(critic, fresh=method == "gdd")
    if method == "gdd":
        how["push"] = None
    if method == "decoupled":
        how["push"] = Decoupled(guidance=3.0, null=source.classes)
    regime = Regime(updates=updates, batch=batch, turns=turns, average=AVERAGE)
    distill(one_network(teacher, [LEVEL]), teacher, source, regime=regime, progress=False, **how)


def least(ways: dict[Any, Callable[[], object]], rounds: int) -> dict[Any, float]:
    """Least processor seconds of each way, in turns."""
    seconds = {name: float("inf") for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begin = time.process_time()
            way()
            seconds[name] = min(seconds[name], time.process_time() - begin)
    return seconds


def steps(source: Any, sizes: Sizes, batch: int, rounds: int, lengths: tuple[int, int]) -> dict[str, Any]:
    """Milliseconds of a round of each method."""
    teacher = sizes.build(source.shape, source.classes, source.data_std)
    teacher.requires_grad_(False)
    ways: dict[Any, Callable[[], object]] = {}
    for method, turns in (("dmd", 1), ("dmd2", 3), ("decoupled", 1), ("gdd", 1)):
        for who in (plain, ours):
            for updates in lengths:
                ways[method, who.__name__, updates] = partial(who, method, teacher, source, batch, updates, turns)
    seconds = least(ways, rounds)
    table = {}
    for method in dict.fromkeys(key[0] for key in ways):
        short, long = lengths
        one = {
            who: 1e3 * (seconds[method, who, long] - seconds[method, who, short]) / (long - short)
            for who in ("plain", "ours")
        }
        table[method] = {"milliseconds": one, "over_plain": one["ours"] / one["plain"] - 1, "at_most": 0.05}
    student, average = deepcopy(teacher), deepcopy(teacher)
    moving, own = list(average.parameters()), list(student.parameters())

    def lerp() -> None:
        with torch.no_grad():
            for _ in range(20):
                torch._foreach_lerp_(moving, own, 0.01)

    ema = 1e3 * least({"ema": lerp}, 5 * rounds)["ema"] / 20
    params = sum(one.numel() for one in own)
    return {"parameters": params, "batch": batch, "methods": table, "average_milliseconds": ema}


def samplers(rounds: int, count: int, denoiser: Any, shape: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Milliseconds of a sampler, and of diffusers' scheduler at as many network calls."""
    noise = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    schedule = DDPM()
    sigmas = karras(count, 0.03, 14.0)
    cond = torch.zeros(batch, dtype=torch.long)

    def eps(x: Tensor, sigma: float) -> Tensor:
        """What a noise-predicting network would say, from the same denoiser."""
        level = torch.full((len(x),), sigma)
        return (x - denoiser(x, level, cond)) / sigma

    def theirs(kind: Any, **options: Any) -> None:
        scheduler = kind(**options)
        scheduler.set_timesteps(count)
        x = noise * float(scheduler.init_noise_sigma)
        with torch.no_grad():
            for t in scheduler.timesteps:
                seen = scheduler.scale_model_input(x, t)
                if hasattr(scheduler, "sigmas"):
                    sigma = float(scheduler.sigmas[scheduler.step_index])
                    said = eps(seen * (1 + sigma**2) ** 0.5, sigma)
                else:
                    kept = float(scheduler.alphas_cumprod[int(t)])
                    sigma = ((1 - kept) / kept) ** 0.5
                    said = eps(seen / kept**0.5, sigma)
                x = scheduler.step(said, t, x, return_dict=False)[0]

    times = torch.linspace(999, 0, count, dtype=torch.float64).round()
    draws = torch.Generator().manual_seed(0)
    ways: dict[Any, Callable[[], object]] = {
        ("euler", "limbeck"): lambda: euler(denoiser, noise, sigmas, cond),
        ("euler", "diffusers"): lambda: theirs(EulerDiscreteScheduler, use_karras_sigmas=True),
        ("heun", "limbeck"): lambda: heun(denoiser, noise, sigmas, cond),
        ("heun", "diffusers"): lambda: theirs(HeunDiscreteScheduler, use_karras_sigmas=True),
        ("ddim", "limbeck"): lambda: ddim(denoiser, noise, schedule, times, cond),
        ("ddim", "diffusers"): lambda: theirs(DDIMScheduler, clip_sample=False),
        ("multistep", "limbeck"): lambda: multistep(denoiser, noise, schedule, times, cond, draws=draws),
        ("multistep", "diffusers"): lambda: theirs(LCMScheduler, original_inference_steps=count),
    }
    seconds = least(ways, rounds)
    return {
        name: {
            "milliseconds": {who: 1e3 * seconds[name, who] for who in ("limbeck", "diffusers")},
            "times_diffusers": seconds[name, "limbeck"] / seconds[name, "diffusers"],
            "at_most": 1.0,
        }
        for name in dict.fromkeys(key[0] for key in ways)
    }


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    table = Table("network", "method", "plain, ms", "limbeck, ms", "over plain")
    for name, case in result["steps"].items():
        for method, one in case["methods"].items():
            times = one["milliseconds"]
            row = f"{times['plain']:.2f}", f"{times['ours']:.2f}", f"{100 * one['over_plain']:+.1f} %"
            table.add_row(name, method, *row)
        table.add_row(name, "moving average", "", f"{case['average_milliseconds']:.2f}", "")
    Console(width=120).print(table)
    table = Table("network", "sampler", "diffusers, ms", "limbeck, ms", "times diffusers")
    for name, case in result["samplers"].items():
        for method, one in case.items():
            times = one["milliseconds"]
            row = f"{times['diffusers']:.2f}", f"{times['limbeck']:.2f}", f"{one['times_diffusers']:.2f}"
            table.add_row(name, method, *row)
    Console(width=120).print(table)
    facts = result["machine"]
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, torch {result['torch']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = 2 if options.quick else 8
    digits = Pictures(read_data("digits"))
    perceptron, unet = Sizes(), Sizes(width=16, blocks=1, levels=2)
    trained = perceptron.build(digits.shape, digits.classes, digits.data_std).requires_grad_(False)
    point = Exact(mixture("ring8"))
    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__, "diffusers": version("diffusers")}
    result["steps"] = {
        "perceptron": steps(digits, perceptron, 128, rounds, (10, 60)),
        "U-Net": steps(digits, unet, 64, max(1, rounds // 2), (3, 15)),
    }
    result["samplers"] = {
        "no cost": samplers(3 * rounds, 18, lambda x, sigma, cond: 0.5 * x, (1, 8, 8), 256),
        "no cost, points": samplers(3 * rounds, 18, lambda x, sigma, cond: 0.5 * x, point.shape, 256),
        "perceptron": samplers(rounds, 18, trained, digits.shape, 256),
    }
    show(result)
    if not options.quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
