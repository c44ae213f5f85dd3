"""Whole training steps: limbeck's trainer beside TRL's GKDTrainer, and beside a bare loop of PyTorch.

A tiny Llama 64 wide learns from one 128 wide by the generalised JSD (beta 1/2): batches of 8, prompts of 32 tokens and
answers of 64, from the data alone or from the student in every other step. Both trainers read the same examples in the
same order, with the same models, optimiser (fused AdamW), clipping and no gradient checkpointing; so without the
student's own answers their mean losses must agree. Every measurement is a process of its own, both take turns, the
least of each counts. The bare loop takes turns with the trainer within one process. One thread, processor seconds.

    .venv-bench/bin/python benchmarks/lm_step.py [--quick]
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
import torch
from machine import machine
from rich.console import Console
from rich.table import Table

from limbeck.distill import Player, Trainer
from limbeck.lm import (
    Conversations,
    Divergence,
    Example,
    Mixture,
    Regime,
    Rollouts,
    Teaching,
    TransformersSampler,
    byte_tokenizer,
    tiny_llama,
)
from limbeck.lm.training import optimizer

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "lm_step.json"
BATCH, PROMPT, ANSWER, BETA, RATE = 8, 32, 64, 0.5, 1e-3
CASES = ((256, 0.0), (256, 0.5), (32_000, 0.0), (32_000, 0.5))  # vocabulary, share of steps with own answers
WAYS, WARM = ("limbeck", "trl"), 2


def models(vocabulary: int) -> tuple[Any, Any]:
    """Student and teacher."""
    return tuple(tiny_llama(width, vocabulary=vocabulary, context=128, seed=width) for width in (64, 128))  # type: ignore[return-value]


def examples(vocabulary: int, steps: int) -> list[Example]:
    """Random tokens, 0 not among them; what the text says takes no time."""
    rows = np.random.default_rng(0).integers(1, vocabulary, (steps * BATCH, PROMPT + ANSWER)).tolist()
    return [Example(tuple(row[:PROMPT]), tuple(row[PROMPT:])) for row in rows]


def own(step: int, share: float) -> bool:
    """Whether the student writes the answers of a step: in every other one for a share of one half."""
    return share > 0 and step % round(1 / share) == 0


def limbeck_run(vocabulary: int, share: float, steps: int) -> tuple[float, list[float]]:
    """Seconds a step after the first ones, and the losses."""
    student, teacher = models(vocabulary)
    read = Conversations(examples(vocabulary, steps), BATCH, seed=0)
    source = Mixture(
        Rollouts(read.examples, BATCH, 0, TransformersSampler(student, ANSWER, 0)),
        read,
        lambda step: float(own(step, share)),
        seed=0,
    )
    teaching = Teaching(teacher, Divergence("generalized_jsd", beta=BETA))
    begin, losses = 0.0, list[torch.Tensor]()

    def batch(step: int) -> Any:
        nonlocal begin
        begin = time.process_time() if step == WARM else begin
        return source(step)

    def loss(_: str, batch: Any, step: int) -> Any:
        parts = teaching.loss(student, batch, step)
        losses.append(parts["loss"].detach())
        return parts

    player = Player("student", student, optimizer(student, Regime(learning_rate=RATE)), clip=1.0)
    Trainer([player], loss, batch, steps=steps, frozen=teaching.frozen, progress=False).run()
    return (time.process_time() - begin) / (steps - WARM), [float(one) for one in losses]


def trl_run(vocabulary: int, share: float, steps: int) -> tuple[float, list[float]]:
    """The same with TRL."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.gkd import GKDConfig, GKDTrainer, gkd_trainer

    student, teacher = models(vocabulary)
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)
    turns = iter(range(10**9))  # the trainer draws one number a step
    gkd_trainer.random = SimpleNamespace(random=lambda: 0.0 if own(next(turns), share) else 1.0)
    read = Conversations(examples(vocabulary, steps), BATCH, seed=0)
    order = [one for step in range(steps) for one in read.at(step)]
    marks: dict[int, float] = {}

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        prompts, answers = (torch.tensor([row[name] for row in rows]) for name in ("prompt_ids", "answer_ids"))
        ids = torch.cat([prompts, answers], 1)
        labels = torch.cat([torch.full_like(prompts, -100), answers], 1)
        whole, part = torch.ones_like(ids), torch.ones_like(prompts)
        return {
            "input_ids": ids, "attention_mask": whole, "labels": labels, "prompts": prompts,
            "prompt_attention_mask": part,
        }  # fmt: skip

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            marks[state.global_step] = time.process_time()

    class Watched(GKDTrainer):
        losses: list[torch.Tensor] = []  # noqa: RUF012

        def compute_loss(self, *args: Any, **how: Any) -> Any:
            loss = super().compute_loss(*args, **how)
            self.losses.append(loss.detach())
            return loss

    with TemporaryDirectory() as out:
        settings = GKDConfig(
            output_dir=out, max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=RATE,
            lr_scheduler_type="constant", weight_decay=0.1, adam_beta2=0.95, max_grad_norm=1.0,
            optim="adamw_torch_fused", gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none",
            logging_strategy="no", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
            train_sampling_strategy="sequential", lmbda=0.5, beta=BETA, temperature=1.0, max_new_tokens=ANSWER,
        )  # fmt: skip
        rows = {"prompt_ids": [list(one.prompt) for one in order], "answer_ids": [list(one.answer) for one in order]}
        trainer = Watched(
            student, teacher, settings, collate, Dataset.from_dict(rows), processing_class=tokenizer,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    return (marks[steps] - marks[WARM]) / (steps - WARM), [float(one) for one in trainer.losses]


def beside_trl(vocabulary: int, share: float, rounds: int, steps: int) -> dict[str, Any]:
    """Processes of both in turns."""
    said: dict[str, list[Any]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            call = [sys.executable, __file__, "--run", way, str(vocabulary), str(share), str(steps)]
            done = subprocess.run(call, check=True, capture_output=True, text=True)
            said[way].append(json.loads(done.stdout.splitlines()[-1]))
    seconds = {way: [one["seconds"] for one in found] for way, found in said.items()}
    means = {way: statistics.mean(found[0]["losses"]) for way, found in said.items()}
    return {
        "vocabulary": vocabulary,
        "share_of_own_answers": share,
        "seconds_per_step": {way: min(times) for way, times in seconds.items()},
        "faster": min(seconds["trl"]) / min(seconds["limbeck"]),
        "faster_by_round": [b / a for a, b in zip(*seconds.values(), strict=True)],
        "mean_loss_relative_difference": abs(means["limbeck"] / means["trl"] - 1) if not share else None,
    }


def beside_bare_loop(vocabulary: int, rounds: int, steps: int) -> dict[str, Any]:
    """The trainer and a loop of the same calls, in turns, from the same weights on the same batches."""
    student, teacher = models(vocabulary)
    teaching = Teaching(teacher.eval().requires_grad_(False), Divergence("generalized_jsd", beta=BETA))
    read = Conversations(examples(vocabulary, steps), BATCH, seed=0)
    seconds: dict[str, list[float]] = {"bare": [], "limbeck": []}

    def bare(model: Any, adam: torch.optim.Optimizer, steps: int) -> None:
        for step in range(steps):
            loss = teaching.loss(model, read(step), step)["loss"]
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()

    def ours(model: Any, adam: torch.optim.Optimizer, steps: int) -> None:
        player = Player("student", model, adam, clip=1.0)
        Trainer(
            [player], lambda _, batch, step: teaching.loss(model, batch, step), read, steps=steps, progress=False
        ).run()

    for k in range(rounds + 1):
        for name, way in (("bare", bare), ("limbeck", ours)) if k % 2 else (("limbeck", ours), ("bare", bare)):
            model = copy.deepcopy(student)
            adam = optimizer(model, Regime(learning_rate=RATE))
            begin = time.process_time()
            way(model, adam, steps)
            if k:  # the first round warms up
                seconds[name].append((time.process_time() - begin) / steps)
    ratios = [b / a for a, b in zip(seconds["bare"], seconds["limbeck"], strict=True)]
    return {
        "vocabulary": vocabulary,
        "seconds_per_step": {name: min(times) for name, times in seconds.items()},
        "overhead": min(seconds["limbeck"]) / min(seconds["bare"]) - 1,
        "overhead_by_round": [ratio - 1 for ratio in ratios],
        "median_overhead": statistics.median(ratios) - 1,
    }


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    table = Table("V", "own answers", "limbeck, ms", "TRL, ms", "faster", "losses apart")
    for one in result["beside_trl"]:
        times, apart = one["seconds_per_step"], one["mean_loss_relative_difference"]
        table.add_row(
            str(one["vocabulary"]), f"{one['share_of_own_answers']:g}", *(f"{1e3 * times[way]:.1f}" for way in WAYS),
            f"{one['faster']:.2f}×", "" if apart is None else f"{apart:.0e}",
        )  # fmt: skip
    Console(width=120).print(table)
    for one in result["beside_bare_loop"]:
        times = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in one["seconds_per_step"].items())
        least, median = f"{100 * one['overhead']:+.1f} %", f"{100 * one['median_overhead']:+.1f} %"
        print(f"trainer over a bare loop, V = {one['vocabulary']}: {times}: {least} (median of rounds {median})")
    facts, versions = result["machine"], f"torch {result['torch']}, TRL {result['trl']}"
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, {versions}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short round of each; writes nothing")
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.run:
        way, vocabulary, share, steps = options.run
        run = limbeck_run if way == "limbeck" else trl_run
        seconds, losses = run(int(vocabulary), float(share), int(steps))
        print(json.dumps({"seconds": seconds, "losses": losses}))
        return
    import trl

    rounds, few, many = (1, 6, 6) if options.quick else (2, 6, 32)
    result: dict[str, Any] = {"machine": machine(), "torch": torch.__version__, "trl": trl.__version__}
    result |= {"batch": BATCH, "prompt": PROMPT, "answer": ANSWER, "widths": {"student": 64, "teacher": 128}}
    result["beside_bare_loop"] = [
        beside_bare_loop(vocabulary, 7 * rounds, 20 if vocabulary < 1000 else 2) for vocabulary in (256, 32_000)
    ]
    result["beside_trl"] = []
    for vocabulary, share in CASES:
        result["beside_trl"].append(beside_trl(vocabulary, share, rounds, many if vocabulary < 1000 else few))
        if not options.quick:
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


if __name__ == "__main__":
    main()
