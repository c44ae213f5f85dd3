"""On teacher hacking in language model distillation: on little fixed data a student leaves the truth.

The truth is an exact distribution: four-grams of the documentation that every Python carries, over 30 characters. The
teacher has learnt from 1500 samples of it; the student is distilled from the teacher's continuations of a few fixed
prompts, of many, from several continuations of each, or from new ones in every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

STEPS, BATCH, LENGTH = 500, 32, 13  # characters after a prompt of three
WAYS = {
    "40 prompts": (40, 1), "40 prompts, 8 answers each": (40, 8), "300 prompts": (300, 1),
    "new answers in every step": (300, 0),
}  # fmt: skip
"""Prompts, and answers to each that are kept; 0 for none."""


class TeacherHacking(Paper):
    """MLPs of three characters that learn from each other, and the truth beside them."""

    source = Source("On Teacher Hacking in Language Model Distillation", "Tiapkin et al.", 2025, "2502.02671")
    claim = "On fixed teacher data a student moves away from the truth again; new teacher samples prevent it."
    metric = "rise of the distance to the truth from its minimum to the end, 40 fixed answers minus new ones"
    unit = "%"
    baseline = "new teacher samples"
    extras = ("lm",)
    seeds = 4

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return proxy and golden distance by way and step, nats per character, and those of the teacher."""
        return learn(seed, [*WAYS][::3] if quick else [*WAYS], 60 if quick else STEPS)

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Look for what rises."""
        proxy, golden, teacher = stacked(measured, "proxy", "golden", "teacher")  # [seed, way, step]
        steps, ways = measured[0]["steps"], measured[0]["ways"]
        rise, end = 100 * (golden[..., -1] / golden.min(-1) - 1), golden[..., -1].mean(0)
        back, turn = 100 * (proxy[:, 0, -1] / proxy[:, 0].min(-1) - 1), proxy[:, 0].argmin(-1)
        early = 100 * (golden[np.arange(len(turn)), 0, turn] / golden[:, 0].min(-1) - 1)
        verdicts = [one["verdicts"][0] for one in measured]
        title = f"On 40 fixed answers the distance to the truth rises by {rise[:, 0].mean():.0f} % again"
        series = [Series(way, proxy.mean(0)[k], golden.mean(0)[k], kind="line") for k, way in enumerate(ways)]
        return Outcome(
            effects=rise[:, 0] - rise[:, -1],
            checks={
                "it rises by 5 % or more on 40 fixed answers in every seed": rise[:, 0] >= 5,
                "and by 1 % at most on new answers": rise[:, -1] <= 1,
                "new answers end nearest, 40 fixed ones farthest": [end[-1] == end.min(), end[0] == end.max()],
            },
            details={
                "ways": ways, "steps": steps, "proxy": proxy.mean(0), "golden": golden.mean(0), "rise": rise,
                "rise of the proxy": back, "teacher": teacher, "verdicts": verdicts,
            },
            notes=[
                f"40 answers: when the distance to the teacher on held-out prompts is least, that to the truth has "
                f"risen by {early.mean():.1f} ± {sem(early):.1f} % (hacking); then both rise, by {back.mean():.1f} and "
                f"{rise[:, 0].mean():.1f} % in all (by the strict rule {', '.join(sorted(set(verdicts)))})",
                f"ends at {', '.join(f'{x:.3f}' for x in end)} nats per character ({', '.join(ways)}); the teacher is "
                f"at {teacher.mean():.3f}",
            ],
            figure=Figure(title, "distance to the teacher, nats", "distance to the truth, nats", series, True, True),
        )  # fmt: skip


def learn(seed: int, ways: Sequence[str], steps: int) -> Numbers:
    """Train a teacher on samples of the truth and a student in every way."""
    import torch
    from torch import nn

    from limbeck.distill import Player, Trainer
    from limbeck.lm import Example, HackingMonitor, NextToken, Replay, Rollouts, Teaching, collate
    from limbeck.papers._characters import ALPHABET, split
    from limbeck.papers._training import seeded

    classes, rng, text = len(ALPHABET) + 1, np.random.default_rng(seed), split()[0]
    counts = torch.zeros(*[classes] * 4).index_put_(tuple(text[:, -4:].T), torch.ones(()), accumulate=True)
    p = counts.sum((0, 1, 2)) + 1
    for given in (counts.sum((0, 1)), counts.sum(0), counts):
        p = (given + 5 * p / p.sum(-1, keepdim=True)) / (given.sum(-1, keepdim=True) + 5)

    class Characters(nn.Module):
        """The next character from the last three."""

        config = SimpleNamespace(vocab_size=classes)

        def __init__(self, head: Any) -> None:
            super().__init__()
            self.head = head

        def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
            last = nn.functional.pad(input_ids, (2, 0), value=ALPHABET.index(" ")).unfold(1, 3, 1)
            return SimpleNamespace(logits=self.head(last))

        @torch.no_grad()
        def write(self, prompts: Sequence[Sequence[int]], seed: int) -> Any:
            ids, generator = torch.tensor(prompts), torch.Generator().manual_seed(seed)
            for _ in range(LENGTH):
                ids = torch.cat([ids, self.head(ids[:, -3:]).softmax(-1).multinomial(1, generator=generator)], 1)
            return ids[:, 3:].tolist()

    def mlp(width: int) -> Any:
        layers = nn.Embedding(classes, 32), nn.Flatten(-2), nn.Linear(96, width), nn.ReLU(), nn.Linear(width, classes)
        return Characters(nn.Sequential(*layers))

    def train(model: Any, signal: Any, source: Any, steps: int, rate: float, **evaluation: Any) -> None:
        player = Player("model", model, torch.optim.Adam(model.parameters(), lr=rate))
        options = {"steps": steps, "frozen": signal.frozen, "progress": False, **evaluation}
        Trainer([player], lambda _, batch, step: signal.loss(model, batch, step), source, **options).run()

    prompts = [Example(tuple(row)) for row in text[rng.choice(len(text), 2200, replace=False), :3].tolist()]
    truth, held = Characters(lambda last: p[tuple(last.movedim(-1, 0))].log()), prompts[2000:]
    teacher, student = (seeded(partial(mlp, width), seed) for width in (256, 96))
    written = Replay(prompts[:1500], BATCH, seed, [truth.write])
    train(teacher, NextToken(), written, 350, 2e-3)
    train(student, NextToken(), written, 150, 5e-3)
    fresh = [[collate(held, one.write([row.prompt for row in held], seed + 1))] for one in (teacher, truth)]  # type: ignore[operator]
    marks, reports = set(np.geomspace(5, steps, 14).round().astype(int).tolist()), []
    for count, each in (WAYS[way] for way in ways):
        own, model = prompts[1500 : 1500 + count], deepcopy(student)
        source = Replay(own, BATCH, seed, [teacher.write], each) if each else Rollouts(own, BATCH, seed, teacher.write)  # type: ignore
        monitor = HackingMonitor(teacher, fresh[0], oracle=truth, truth=fresh[1], act="record")
        watch = {"evaluate": partial(monitor.measure, model), "evaluate_at": marks}
        train(model, Teaching(teacher), source, steps, 5e-3, **watch)
        reports.append(monitor.report())
    at_teacher = HackingMonitor(teacher, fresh[0], oracle=truth, truth=fresh[1]).measure(teacher, 0)["golden"]
    curves = {name: np.array([getattr(one, name) for one in reports]) / LENGTH for name in ("proxy", "golden")}
    verdicts = [one.verdict for one in reports]
    return {"steps": reports[0].steps, "ways": ways, "teacher": at_teacher / LENGTH, "verdicts": verdicts, **curves}
