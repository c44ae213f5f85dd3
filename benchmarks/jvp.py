"""What derivatives along the ODE cost: of whole networks, and of attention in blocks of keys beside the plain formula.

Float32, without gradients. Networks: the exact tangent that consistency needs, and central differences, over a forward
pass; they are asked through their TrigFlow velocity, as `Tangent` asks them. Attention: `attention_jvp` beside
`torch.func.jvp` of softmax(q k^T / sqrt(d)) v, with one batch of two heads, d = 64. One thread; times are processor
seconds, all ways take turns within a round, the least of each counts. Peaks are the most bytes held at once beside the
inputs, by the record of PyTorch's allocator.

    .venv/bin/python benchmarks/jvp.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import least, machine
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from limbeck.diffusion import Sizes, attention_jvp, tangent

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "jvp.json"
AT_MOST = 2.5  # times a forward pass
NETWORKS = {
    "perceptron 256 x 3": (Sizes(256, 3, clock="angle"), [1, 8, 8], 256),
    "U-Net 32, 2 levels": (Sizes(32, 1, 2, "angle"), [1, 8, 8], 64),
    "U-Net 64, 3 levels": (Sizes(64, 2, 3, "angle"), [3, 32, 32], 4),
}
LENGTHS = (256, 512, 1024, 2048, 4096)


def peak(call: Callable[[], Any]) -> int:
    """Most bytes that a call holds at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    return int(torch.tensor([one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]).cumsum(0).max())


def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention as it is written."""
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


def network(sizes: Sizes, shape: list[int], batch: int, rounds: int) -> dict[str, Any]:
    """Time the tangents of one network."""
    torch.manual_seed(0)
    field, x, slope = sizes.build(shape, classes=10).velocity, torch.randn(batch, *shape), torch.randn(batch, *shape)
    t = torch.rand(batch, dtype=torch.float64) + 0.2
    along = partial(tangent, field, x, t, slope, torch.ones(batch))
    found = least({"forward": lambda: field(x, t), "exact": along, "finite": lambda: along("finite")}, rounds)
    times = {name: found[name] / found["forward"] for name in ("exact", "finite")}
    facts = {"shape": shape, "batch": batch, "milliseconds": found, "times_forward": times}
    return facts | {"at_most": AT_MOST, "met": times["exact"] <= AT_MOST}


def attention(length: int, rounds: int) -> dict[str, Any]:
    """Time and weigh both ways at one length."""
    draw = torch.Generator().manual_seed(0)
    tensors = torch.randn(6, 1, 2, length, 64, generator=draw).unbind()
    ways: dict[str, Callable[[], Any]] = {
        "limbeck": lambda: attention_jvp(*tensors),
        "plain": lambda: torch.func.jvp(naive, tensors[:3], tensors[3:]),
        "forward": lambda: scaled_dot_product_attention(*tensors[:3]),
    }
    mine, plain = ways["limbeck"]()[1], ways["plain"]()[1]
    found, peaks = least(ways, rounds), {name: peak(way) for name, way in ways.items()}
    facts = {"length": length, "milliseconds": found, "faster_than_plain": found["plain"] / found["limbeck"]}
    apart = float((mine - plain).norm() / plain.norm())
    return facts | {"peak_bytes": peaks, "less_than_plain": peaks["plain"] / peaks["limbeck"], "difference": apart}


def show(result: dict[str, Any]) -> None:
    """Print both tables."""
    console = Console(width=120)
    table = Table("network", "batch", "forward, ms", "tangent, times it", "differences, times it", "at most", "met")
    for name, one in result["networks"].items():
        row = [f"{one['milliseconds']['forward']:.2f}", *(f"{times:.2f}" for times in one["times_forward"].values())]
        table.add_row(name, str([one["batch"], *one["shape"]]), *row, str(AT_MOST), "yes" if one["met"] else "no")
    console.print(table)
    table = Table(
        "keys", "ms", "plain, ms", "times faster", "forward, ms", "peak, MB", "plain, MB", "times less", "apart"
    )
    for one in result["attention"]:
        (mine, plain, forward), peaks = one["milliseconds"].values(), one["peak_bytes"]
        table.add_row(
            str(one["length"]), f"{mine:.1f}", f"{plain:.1f}", f"{one['faster_than_plain']:.2f}", f"{forward:.1f}",
            f"{peaks['limbeck'] / 1e6:.1f}", f"{peaks['plain'] / 1e6:.1f}", f"{one['less_than_plain']:.1f}",
            f"{one['difference']:.0e}",
        )  # fmt: skip
    console.print(table)
    powers = ", ".join(f"{name} {power:.2f}" for name, power in result["memory_grows_with_power"].items())
    facts = result["machine"]
    print(f"peaks grow with this power of the keys, between the two longest: {powers}")
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, torch {result['torch']}")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds, up to 1024 keys; writes nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__}
    result["networks"] = {name: network(*facts, 3 if quick else 40) for name, facts in NETWORKS.items()}
    result["attention"] = [attention(length, 3 if quick else 8) for length in LENGTHS[: 3 if quick else None]]
    last, longest = (torch.tensor(list(one["peak_bytes"].values())) for one in result["attention"][-2:])
    result["memory_grows_with_power"] = dict(zip(("limbeck", "plain"), (longest / last).log2().tolist(), strict=False))
    show(result)
    if not quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
