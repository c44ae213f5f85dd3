"""Losses of classifier distillation beside plain KD, torchdistill's own losses, and the formulas as papers write them.

Logits of a few nats, float32, forward and backward to the student's logits. "plain" is the formula with autograd, as a
paper's listing has it; torchdistill's losses are called as its boxes call them, without labels; it has no DKD and no
ranking. The order of `pld kept` was ranked before the clock started. One thread; times are processor seconds, all ways
take turns within a round, the least of each counts.

    .venv-bench/bin/python benchmarks/losses.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torchdistill.losses.mid_level import DISTLoss, KDLoss, LogitStdKDLoss

from limbeck.distill import dist, dkd, forward_kl, pld, rank, ranking_loss, standardised

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "losses.json"
SHAPES = ((256, 1000), (64, 32_000))
TEMPERATURE = 4.0
PLACE = (("path", "."), ("io", "output"))  # of what torchdistill reads
TARGETS = {"dkd": (4.0, 3.0), "standardised": (3.0, 2.0), "pld kept": (4.0, 3.0)}  # times KD: at most, and the aim
Way = Callable[[Tensor], Tensor]


def plain_kd(s: Tensor, t: Tensor) -> Tensor:
    """KL at a temperature."""
    q, p = ((one / TEMPERATURE).log_softmax(-1) for one in (s, t))
    return F.kl_div(q, p, reduction="batchmean", log_target=True) * TEMPERATURE**2


def plain_dkd(s: Tensor, t: Tensor, target: Tensor, beta: float = 8.0) -> Tensor:
    """The true class against the rest, and the rest among themselves with the true class pushed out of reach."""
    own = F.one_hot(target, s.shape[-1]).bool()
    q, p = ((one / TEMPERATURE).softmax(-1) for one in (s, t))
    q, p = (torch.stack([(one * own).sum(-1), (one * ~own).sum(-1)], -1) for one in (q, p))
    first = F.kl_div(q.log(), p, reduction="batchmean")
    far = 1000.0 * own
    q, p = (s / TEMPERATURE - far).log_softmax(-1), (t / TEMPERATURE - far).softmax(-1)
    return (first + beta * F.kl_div(q, p, reduction="batchmean")) * TEMPERATURE**2


def plain_standardised(s: Tensor, t: Tensor) -> Tensor:
    """KL of logits over their deviation."""
    return plain_kd(*((one - one.mean(-1, keepdim=True)) / (one.std(-1, keepdim=True) + 1e-7) for one in (s, t)))


def plain_dist(s: Tensor, t: Tensor) -> Tensor:
    """Correlations of rows and of columns."""
    q, p = ((one / TEMPERATURE).softmax(-1) for one in (s, t))
    parts = []
    for dim in (1, 0):
        a, b = (one - one.mean(dim, keepdim=True) for one in (q, p))
        parts.append(1 - F.cosine_similarity(a, b, dim=dim, eps=1e-8).mean())
    return TEMPERATURE**2 * (parts[0] + parts[1])


def plain_ranking(s: Tensor, order: Tensor, weight: Tensor) -> Tensor:
    """The likelihood of a ranking by a cumulative log-sum-exp."""
    listed = s.gather(-1, order)
    return (weight * (listed.flip(-1).logcumsumexp(-1).flip(-1) - listed)).sum(-1).mean()


def plain_pld(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    """The same with the sort."""
    order = t.scatter(-1, target[:, None], torch.inf).argsort(-1, descending=True)
    return plain_ranking(s, order, t.softmax(-1).gather(-1, order))


def theirs(kind: Any, t: Tensor, **options: Any) -> Way:
    """A loss of torchdistill on the outputs of whole models."""
    loss = kind(**{f"{side}_module_{what}": how for side in ("student", "teacher") for what, how in PLACE}, **options)
    return lambda s: loss({".": {"output": s}}, {".": {"output": t}})


def ways(t: Tensor, target: Tensor) -> dict[str, dict[str, Way]]:
    """Every loss as a function of the student's logits."""
    how: dict[str, Any] = {"temperature": TEMPERATURE, "tau_squared": True}
    kept, on_pattern = rank(t, target), standardised("forward_kl")
    only = {"temperature": TEMPERATURE, "alpha": 0.0, "beta": 1.0}
    correlated = {"beta": 1.0, "gamma": 1.0, "tau": TEMPERATURE}
    return {
        "kd": {
            "limbeck": lambda s: forward_kl(s, t, **how),
            "torchdistill": theirs(KDLoss, t, **only),
            "plain": lambda s: plain_kd(s, t),
        },
        "dkd": {"limbeck": lambda s: dkd(s, t, target, **how), "plain": lambda s: plain_dkd(s, t, target)},
        "standardised": {
            "limbeck": lambda s: on_pattern(s, t, **how),
            "torchdistill": theirs(LogitStdKDLoss, t, **only),
            "plain": lambda s: plain_standardised(s, t),
        },
        "dist": {
            "limbeck": lambda s: dist(s, t, **how),
            "torchdistill": theirs(DISTLoss, t, **correlated),
            "plain": lambda s: plain_dist(s, t),
        },
        "pld kept": {"limbeck": lambda s: ranking_loss(s, kept), "plain": lambda s: plain_ranking(s, *kept)},
        "pld": {"limbeck": lambda s: pld(s, t, target), "plain": lambda s: plain_pld(s, t, target)},
    }


def measure(rows: int, classes: int, rounds: int) -> dict[str, Any]:
    """Time all ways in turns and compare what they give."""
    draw = torch.Generator().manual_seed(0)
    s, t = (2 * torch.randn(rows, classes, generator=draw) for _ in range(2))
    s.requires_grad_()
    target = torch.randint(classes, (rows,), generator=draw)
    every = ways(t, target)
    seconds = {(loss, who): list[float]() for loss, by in every.items() for who in by}
    found = {}
    for _ in range(rounds):
        for loss, who in seconds:
            s.grad = None
            begin = time.process_time()
            every[loss][who](s).backward()
            seconds[loss, who].append(time.process_time() - begin)
            found[loss, who] = s.grad
    least = {key: min(times) for key, times in seconds.items()}
    base = {who: least["kd", who] for who in every["kd"]}
    table = {}
    for loss, by in every.items():
        mine = least[loss, "limbeck"]
        one = {"milliseconds": {who: 1e3 * least[loss, who] for who in by}}
        one["times_kd"] = {who: least[loss, who] / base["limbeck"] for who in by}
        one["times_kd_of_torchdistill"] = mine / base["torchdistill"]
        one["faster_than"] = {who: least[loss, who] / mine for who in by if who != "limbeck"}
        both = (found[loss, who].double() for who in ("limbeck", "plain"))
        one["gradient_cosine_with_plain"] = float(F.cosine_similarity(*(g.flatten() for g in both), 0))
        if loss in TARGETS:
            one["at_most"], one["aim"] = TARGETS[loss]
            one["met"] = one["times_kd"]["limbeck"] <= one["at_most"]
        table[loss] = one
    return {"rows": rows, "classes": classes, "rounds": rounds, "losses": table}


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    head = ("N x C", "loss", "ms", "torchdistill, ms", "plain, ms", "times KD", "times torchdistill's KD")
    table = Table(*head, "plain times KD", "at most (aim)", "1 - cosine")
    for case in result["cases"]:
        for name, one in case["losses"].items():
            times = one["milliseconds"]
            table.add_row(
                f"{case['rows']} x {case['classes']}", name, f"{times['limbeck']:.2f}",
                f"{times['torchdistill']:.2f}" if "torchdistill" in times else "", f"{times['plain']:.2f}",
                f"{one['times_kd']['limbeck']:.2f}", f"{one['times_kd_of_torchdistill']:.2f}",
                f"{one['times_kd']['plain']:.2f}",
                f"{one['at_most']:.0f} ({one['aim']:.0f})" if "at_most" in one else "",
                f"{1 - one['gradient_cosine_with_plain']:.0e}",
            )  # fmt: skip
    Console(width=150).print(table)
    facts = result["machine"]
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, torch {result['torch']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="five rounds; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__, "torchdistill": version("torchdistill")}
    result |= {"temperature": TEMPERATURE, "cases": []}
    for rows, classes in SHAPES:
        result["cases"].append(measure(rows, classes, 5 if options.quick else 40))
    show(result)
    if not options.quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
