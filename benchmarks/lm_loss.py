"""The fused loss beside TRL's generalised JSD, from the same hidden states and heads to the same gradients.

512 positions, all of which count or every other one, a student 128 and a teacher 256 wide; forward and backward, to
hidden states and head. TRL's loss (GKDTrainer) is called as the library has it, on the full logits that its trainer
makes. One thread; times are processor seconds, both take turns within a round, the least of each counts. Memory is the
rise of the process's peak (VmHWM) over its inputs, each way in a fresh process.

    .venv-bench/bin/python benchmarks/lm_loss.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from machine import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from limbeck.distill import fused_divergence

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "lm_loss.json"
POSITIONS, STUDENT, TEACHER = 512, 128, 256
WAYS = ("limbeck", "trl")
CASES = ((0.0, 1), (0.5, 1), (1.0, 1), (0.5, 2))  # beta, and every how many-th position counts


def inputs(vocabulary: int, every: int) -> dict[str, Tensor]:
    """Hidden states and heads that give logits of a few nats, and the positions that count."""
    draw = torch.Generator().manual_seed(0)

    def normal(rows: int, width: int, scale: float) -> Tensor:
        return torch.randn(rows, width, generator=draw).mul_(scale)

    return {
        "student": normal(POSITIONS, STUDENT, 1.0).requires_grad_(),
        "student_head": normal(vocabulary, STUDENT, 2 * STUDENT**-0.5).requires_grad_(),
        "teacher": normal(POSITIONS, TEACHER, 1.0),
        "teacher_head": normal(vocabulary, TEACHER, 2 * TEACHER**-0.5),
        "mask": torch.arange(POSITIONS) % every == 0,
    }


def loss(way: str, given: dict[str, Tensor], beta: float) -> Tensor:
    """The loss of one way, from hidden states."""
    if way == "limbeck":
        return fused_divergence(**given, divergence="generalized_jsd", beta=beta)
    from trl.experimental.gkd import GKDTrainer

    student, teacher = (given[side] @ given[f"{side}_head"].T for side in ("student", "teacher"))
    labels = torch.where(given["mask"], 0, -100)
    return GKDTrainer.generalized_jsd_loss(student[None], teacher[None], labels[None], beta=beta)


def step(way: str, given: dict[str, Tensor], beta: float) -> tuple[float, list[Tensor]]:
    """Loss and gradients."""
    sides = given["student"], given["student_head"]
    for side in sides:
        side.grad = None
    found = loss(way, given, beta)
    found.backward()
    return float(found.detach()), [side.grad for side in sides if side.grad is not None]


def memory(way: str, vocabulary: int, beta: float, every: int) -> None:
    """Print by how much one step raises the peak, MB."""

    def now(what: str) -> int:
        return int(re.findall(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())[0])

    step(way, inputs(1000, every), beta)  # what the library loads once
    given = inputs(vocabulary, every)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins again at what is there now
    before = now("VmRSS")
    step(way, given, beta)
    print((now("VmHWM") - before) / 1024)


def measure(vocabulary: int, beta: float, every: int, rounds: int) -> dict[str, Any]:
    """Time both ways in turns, compare what they give, and measure their memory apart."""
    given, seconds = inputs(vocabulary, every), {way: list[float]() for way in WAYS}
    losses, gradients = {}, {}
    for _ in range(rounds):
        for way in WAYS:
            begin = time.process_time()
            losses[way], gradients[way] = step(way, given, beta)
            seconds[way].append(time.process_time() - begin)
    apart = [
        float(torch.nn.functional.cosine_similarity(a.flatten().double(), b.flatten().double(), 0))
        for a, b in zip(*gradients.values(), strict=True)
    ]
    how = (str(vocabulary), str(beta), str(every))
    rise = {way: float(subprocess.check_output([sys.executable, __file__, "--memory", way, *how])) for way in WAYS}
    return {
        "vocabulary": vocabulary,
        "beta": beta,
        "counted": len(given["mask"]) // every,
        "seconds": {way: min(times) for way, times in seconds.items()},
        "megabytes": rise,
        "faster": min(seconds["trl"]) / min(seconds["limbeck"]),
        "faster_by_round": [b / a for a, b in zip(*seconds.values(), strict=True)],
        "smaller": rise["trl"] / rise["limbeck"],
        "loss_relative_difference": abs(losses["limbeck"] / losses["trl"] - 1),
        "gradient_cosine": min(apart),
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    head = ("V", "beta", "counted", "s", "TRL, s", "faster", "MB", "TRL, MB", "smaller", "loss apart", "1 - cosine")
    table = Table(*head)
    for one in result["cases"]:
        times, rise = one["seconds"], one["megabytes"]
        table.add_row(
            *(str(one[name]) for name in ("vocabulary", "beta", "counted")),
            f"{times['limbeck']:.2f}", f"{times['trl']:.2f}", f"{one['faster']:.1f}×",
            f"{rise['limbeck']:.0f}", f"{rise['trl']:.0f}", f"{one['smaller']:.1f}×",
            f"{one['loss_relative_difference']:.0e}", f"{1 - one['gradient_cosine']:.0e}",
        )  # fmt: skip
    Console(width=120).print(table)
    facts = result["machine"]
    print(
        f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, torch {result['torch']}, TRL {result['trl']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smaller vocabulary, two rounds; writes nothing")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        way, vocabulary, beta, every = options.memory
        memory(way, int(vocabulary), float(beta), int(every))
        return
    import trl

    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__, "trl": trl.__version__}
    result |= {"positions": POSITIONS, "widths": {"student": STUDENT, "teacher": TEACHER}}
    result["cases"] = []
    for vocabulary, rounds in ((32_000, 2),) if options.quick else ((32_000, 4), (131_072, 2)):
        result["cases"] += [measure(vocabulary, *case, rounds) for case in CASES]
        show(result)
        if not options.quick:
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
            print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
