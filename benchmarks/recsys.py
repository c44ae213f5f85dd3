"""What sharing a history and looking at a part of it save: click networks on a request for 200 items.

Float32, one thread, networks of two blocks and states of 24 numbers. Shared: all items in one pass over the history;
one by one: a call for each; one batch: the history repeated for each. Sparse: 16 events back and every 16th, beside
dense attention, at lengths up to 1000, a forward pass of one request, and a training step on 8. Times are processor
seconds, all ways take turns within a round, the least of each counts.

    .venv/bin/python benchmarks/recsys.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from machine import least, machine
from rich.console import Console
from rich.table import Table
from torch.nn.functional import binary_cross_entropy_with_logits

from limbeck.distill import evaluating
from limbeck.recsys import Suan, batch_of, rank, synthetic

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "recsys.json"
ITEMS, AT_LEAST = 200, 20
SIZES = Suan(blocks=2, width=8, align="events")
SPARSE = {"window": 16, "dilation": 16}


def request(log: Any, length: int, rounds: int) -> dict[str, Any]:
    """Time one request by three ways at one length."""
    network = replace(SIZES, length=length).build(log.schema, 0)
    batch, items = batch_of(log, log.test[-1:], length), log.event[:ITEMS].clone()
    items[:, -1] = 0

    def one_by_one() -> torch.Tensor:
        with evaluating(network):
            return torch.cat([network(batch._replace(candidate=item[None])) for item in items])

    def one_batch() -> torch.Tensor:
        network.many = False
        found = rank(network, batch, items)
        network.many = True
        return found

    ways = {"shared": lambda: rank(network, batch, items), "one by one": one_by_one}
    ways |= {"one batch": one_batch} if length <= 200 else {}  # beyond, squares of 200 histories fill the memory
    found = least(ways, rounds)
    facts = {"length": length, "items": ITEMS, "milliseconds": found}
    facts |= {"difference": float((ways["shared"]() - one_by_one()).abs().max())}
    facts |= {
        f"faster_than_{name.replace(' ', '_')}": found[name] / found["shared"] for name in ways if name != "shared"
    }
    return facts | {"at_least": AT_LEAST, "met": facts["faster_than_one_by_one"] >= AT_LEAST}


def attention(log: Any, length: int, rounds: int) -> dict[str, Any]:
    """Time dense and sparse attention at one length."""
    sizes = replace(SIZES, length=length)
    networks = {"dense": sizes.build(log.schema, 0), "sparse": replace(sizes, **SPARSE).build(log.schema, 0)}
    one, some = (batch_of(log, log.test[-n:], length) for n in (1, 8))

    def step(network: Any) -> None:
        network.zero_grad()
        binary_cross_entropy_with_logits(network(some), some.label).backward()

    def forward(network: Any) -> None:
        with evaluating(network):
            network(one)

    facts: dict[str, Any] = {"length": length, "keys": {"dense": length}} | {"training_batch": len(some.label)}
    facts["keys"]["sparse"] = len(range(16)) + len(range(16, length, 16))
    for name, call in (("forward", forward), ("step", step)):
        found = least({kind: lambda n=n, call=call: call(n) for kind, n in networks.items()}, rounds)
        facts[name] = found | {"faster": found["dense"] / found["sparse"]}
    return facts


def show(result: dict[str, Any]) -> None:
    """Print both tables."""
    console = Console(width=120)
    table = Table("history", "shared, ms", "one by one, ms", "times", "one batch, ms", "times", "apart", "20 times")
    for one in result["requests"]:
        shared, single, *batch = one["milliseconds"].values()
        table.add_row(
            str(one["length"]), f"{shared:.1f}", f"{single:.0f}", f"{one['faster_than_one_by_one']:.0f}",
            f"{batch[0]:.0f}" if batch else "–",
            f"{one['faster_than_one_batch']:.1f}" if batch else "–", f"{one['difference']:.0e}",
            "met" if one["met"] else "no",
        )  # fmt: skip
    console.print(table)
    table = Table("history", "keys", "dense, ms", "sparse, ms", "times", "dense step, ms", "sparse step, ms", "times")
    for one in result["attention"]:
        row = [f"{value:.1f}" for name in ("forward", "step") for value in one[name].values()]
        table.add_row(str(one["length"]), str(one["keys"]["sparse"]), *row)
    console.print(table)
    facts = result["machine"]
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, torch {result['torch']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds, up to 200 events; writes nothing")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    log, rounds = synthetic(users=2, events=1500), 2 if quick else 3
    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__}
    lengths = (50, 200, 1000)[: 2 if quick else None]
    result["requests"] = [request(log, length, rounds) for length in lengths]
    result["attention"] = [attention(log, length, rounds) for length in lengths]
    show(result)
    if not quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
