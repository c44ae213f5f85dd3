"""Auditing models: two or three of them answer the same prompts, and predict the same tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import forward_kl, reverse_kl, total_variation
from limbeck.errors import ConfigError
from limbeck.fitting import Interval, calibration_error, holm
from limbeck.fitting.plain import Plain
from limbeck.lm import audit
from limbeck.lm.conversations import Example, collate, has_prompts, read_examples
from limbeck.lm.models import context_length, load_model
from limbeck.lm.pass_rates import answer_text, final_answer
from limbeck.lm.rollouts import TransformersSampler
from limbeck.lm.slots import Batch, counted_logits
from limbeck.lm.tokenizers import load_tokenizer, separator_token

AT_ONCE = 16


@dataclass(frozen=True)
class Fidelity(Plain):
    """How alike two models predict the tokens of a text: means per token, and one number for each model.

    Args:
        means: `loss`, `teacher_loss`, `forward_kl` (teacher‖student), `reverse_kl`, in nats; `total_variation`;
            `same_favourite`, the share of tokens on which both have one favourite.
        calibration_error, teacher_calibration_error: how far confidence is from accuracy.
    """

    means: Mapping[str, Interval]
    calibration_error: float
    teacher_calibration_error: float

    def summary(self) -> str:
        """Return two lines."""
        at = {name: f"{one.value:.4f}" for name, one in self.means.items()}
        loss = self.means["loss"]
        return (
            f"loss {at['loss']} nats/token ({loss.lower:.4f} – {loss.upper:.4f}), teacher {at['teacher_loss']}; "
            f"KL(teacher‖student) {at['forward_kl']}, KL(student‖teacher) {at['reverse_kl']}\n"
            f"  one favourite {self.means['same_favourite'].value:.1%}, total variation {at['total_variation']}, "
            f"calibration error {self.calibration_error:.3f} (teacher {self.teacher_calibration_error:.3f})"
        )


@torch.no_grad()
def fidelity(student: Any, teacher: Any, batches: Sequence[Batch], *, level: float = 0.95, seed: int = 0) -> Fidelity:
    """Compare predictions of the same tokens; intervals resample whole sequences."""
    names = "loss", "teacher_loss", "forward_kl", "reverse_kl", "total_variation", "same_favourite"
    parts, clusters, sequences = [], [], 0
    for batch in batches:
        both = [counted_logits(model, batch).float() for model in (student, teacher)]
        pair = s, t = [logits[:, : min(one.shape[-1] for one in both)] for logits in both]
        losses = [F.cross_entropy(logits, batch.targets, reduction="none") for logits in pair]
        apart = [divergence(s, t, reduction="none") for divergence in (forward_kl, reverse_kl, total_variation)]
        (p, mine), (q, theirs) = (logits.softmax(-1).max(-1) for logits in pair)
        favourites = [mine == theirs, p, mine == batch.targets, q, theirs == batch.targets]
        parts.append(torch.stack([*losses, *apart, *(one.float() for one in favourites)]))
        clusters.append(sequences + batch.mask.nonzero()[:, 0])
        sequences += len(batch.tokens)
    rows, place = torch.cat(parts, 1).double().cpu().numpy(), torch.cat(clusters).cpu().numpy()
    means = {k: audit.clustered_mean(row, place, level=level, seed=seed) for k, row in zip(names, rows, strict=False)}
    return Fidelity(means, calibration_error(*rows[6:8]), calibration_error(*rows[8:]))


@dataclass(frozen=True)
class TaskAudit(Plain):
    """One task.

    Args:
        prompts: their number.
        gain: of the student, over the baseline or, without one, over the teacher.
        p: the gain's, corrected for the number of tasks.
        agreement: with the teacher.
        closer: agreement with the teacher minus the baseline's; None without one.
        bleu: of the student's texts against the teacher's.
    """

    prompts: int
    gain: audit.Gain
    p: float
    agreement: audit.Agreement
    closer: Interval | None
    bleu: float

    def summary(self, over: str) -> str:
        """Return accuracy, agreement and, with a baseline, whether the two went together."""
        gain, same, won = self.gain, self.agreement.same, self.gain.gain
        room = "" if gain.headroom is None or over == "teacher" else f", {gain.headroom:.0%} of what was wrong"
        copied = "" if (c := self.agreement.copied) is None else f", repeats {c:.0%} of the teacher's errors"
        text = (
            f"{self.prompts} prompts, {gain.after:.1%} right: {100 * won.value:+.1f} points on the {over} "
            f"({won.level:.0%}: {100 * won.lower:+.1f} – {100 * won.upper:+.1f}; p = {self.p:.2g}{room})\n"
            f"  answers like the teacher {same.value:.1%} ({same.lower:.1%} – {same.upper:.1%}), "
            f"kappa {self.agreement.kappa:.2f}{copied}; BLEU {self.bleu:.0f}"
        )
        if self.closer is None:
            return text
        ways = ["up" if one.lower > 0 else "down" if one.upper < 0 else "unclear" for one in (won, self.closer)]
        return f"{text}\n  accuracy {ways[0]}, agreement {ways[1]} ({100 * self.closer.value:+.1f} points)"


@dataclass(frozen=True)
class Audit(Plain):
    """What `evaluate` found: by task, and on the tokens of the reference answers or of the text.

    Args:
        over: what a gain is over, `baseline` or `teacher`.
        tasks: empty for a text.
        fidelity: None where the tokenizers differ.
    """

    over: str
    tasks: Mapping[str, TaskAudit]
    fidelity: Fidelity | None

    def summary(self) -> str:
        """Return the tasks, then the predictions."""
        differ = "the tokenizers differ: answers are compared, predictions of tokens cannot be"
        tasks = [f"{name}: {one.summary(self.over)}" for name, one in self.tasks.items()]
        return "\n".join([*tasks, self.fidelity.summary() if self.fidelity else differ])

    def plot(self) -> Any:
        """Return how student and teacher split the prompts of each task, as a plotly figure."""
        from plotly import graph_objects as go

        rows = {name: one.agreement.split for name, one in self.tasks.items()}
        figure = go.Figure(
            [go.Bar(name=case, x=[*rows], y=[row[case] for row in rows.values()]) for case in audit.SPLIT]
        )
        title = "; ".join(f"{name}: {one.agreement.same.value:.0%} answered alike" for name, one in self.tasks.items())
        return figure.update_layout(title=title, barmode="stack", template="simple_white", yaxis_title="share")


def evaluate(
    student: Path | str, teacher: Path | str, data: Path | str, *, baseline: Path | str | None = None,
    length: int | None = None, limit: int | None = None, level: float = 0.95, seed: int = 0,
) -> Audit:  # fmt: skip
    """Audit a student against its teacher on answered prompts, or on plain text.

    Args:
        student, teacher: model folders with their tokenizers.
        data: JSON lines of `prompt` and `completion` (and, if there are several, the `task`); or a UTF-8 text.
        baseline: the same student trained without the teacher: what a gain is measured over.
        length: most tokens of an answer; twice the longest reference by default.
        limit: prompts or windows to read, from the start; None for all.
        level: of the intervals.
        seed: of the resamples.

    Raises:
        ConfigError: a folder that is no model, or data that cannot be used.

    Source: Ramesh, Sengupta, Chakraborty, On the Generalization vs Fidelity Paradox in Knowledge Distillation (2025),
        arXiv 2505.15442.
    """
    folders = {"student": student, "teacher": teacher, **({"baseline": baseline} if baseline else {})}
    models = {name: load_model(folder).eval() for name, folder in folders.items()}
    tokenizers = {name: load_tokenizer(folder) for name, folder in folders.items()}
    how: dict[str, Any] = {"level": level, "seed": seed}
    context, tasks = min(context_length(model.config) for model in models.values()), dict[str, TaskAudit]()
    if has_prompts(data):
        examples = {name: read_examples(data, one, context=context)[:limit] for name, one in tokenizers.items()}
        own = examples["student"]
        if silent := sum(not one.answer for one in own):
            raise ConfigError(f"{data}: {silent} of {len(own)} prompts have no completion to check an answer by")
        batches = [collate(own[at : at + AT_ONCE]) for at in range(0, len(own), AT_ONCE)]
        texts = {name: _write(models[name], tokenizers[name], examples[name], length, context) for name in models}
        texts["truth"] = [answer_text(tokenizers["student"], one.answer) for one in own]
        rows = [json.loads(line) for line in Path(data).read_text("utf-8").splitlines() if line.strip()][:limit]
        tasks = compare_texts(texts, [str(row.get("task", row.get("domain", "all"))) for row in rows], **how)
    else:
        ids = torch.tensor(tokenizers["student"](Path(data).read_text("utf-8"), add_special_tokens=False)["input_ids"])
        if len(ids) <= context:
            raise ConfigError(f"{data}: {len(ids)} tokens do not fill one window of {context + 1}")
        batches = [Batch.of(rows) for rows in ids.unfold(0, context + 1, context)[:limit].split(AT_ONCE)]
    same = tokenizers["student"].get_vocab() == tokenizers["teacher"].get_vocab()
    found = fidelity(models["student"], models["teacher"], batches, **how) if same else None
    return Audit("baseline" if baseline else "teacher", tasks, found)


def _write(model: Any, tokenizer: Any, examples: Sequence[Example], length: int | None, context: int) -> list[str]:
    """The model's favourite answers as texts."""
    longest = length or 2 * max(len(one.answer) for one in examples)
    room = min(longest, context - max(len(one.prompt) for one in examples))
    sampler = TransformersSampler(model, room, separator_token(tokenizer), top_k=1)
    pieces = [examples[at : at + AT_ONCE] for at in range(0, len(examples), AT_ONCE)]
    written = (sampler([one.prompt for one in some], 0) for some in pieces)
    return [answer_text(tokenizer, answer) for answers in written for answer in answers]


def compare_texts(texts: Mapping[str, Sequence[str]], tasks: Sequence[str], **how: Any) -> dict[str, TaskAudit]:
    """Compare what was written by task.

    Args:
        texts: of `student`, `teacher`, `truth` and perhaps `baseline`, in the order of the prompts.
        tasks: the task of every prompt.
        how: level and seed of the intervals.
    """
    found, over = dict[str, TaskAudit](), "baseline" if "baseline" in texts else "teacher"
    for name in dict.fromkeys(tasks):
        own = {who: [one[k] for k, task in enumerate(tasks) if task == name] for who, one in texts.items()}
        said = {who: [final_answer(text) for text in some] for who, some in own.items()}
        answers = {who: np.array(some, dtype=object) for who, some in said.items()}
        right = {who: some == answers["truth"] for who, some in answers.items()}
        like = {who: (some == answers["teacher"]).astype(float) for who, some in answers.items()}
        gain = audit.paired_gain(right[over], right["student"], **how)
        alike = audit.agreement(said["student"], said["teacher"], said["truth"], **how)
        closer = None if over == "teacher" else audit.clustered_mean(like["student"] - like[over], **how)
        found[name] = TaskAudit(
            len(like["student"]), gain, gain.p, alike, closer, audit.bleu(own["student"], own["teacher"])
        )
    corrected = holm([one.p for one in found.values()])
    return {name: replace(one, p=float(p)) for (name, one), p in zip(found.items(), corrected, strict=True)}
