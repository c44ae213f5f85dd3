"""Teacher hacking: a student that comes closer to its teacher and goes away from the truth.

The teacher is a proxy. The monitor measures the distance to it (proxy) on held-out prompts and, where there is one, the
distance to the truth (golden: an oracle, or real answers). Without a truth it watches the proxy alone: a healthy one
follows a power law with a floor in the steps, and an alarm says when it leaves that law.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from limbeck.distill import get_loss
from limbeck.errors import TrainingError
from limbeck.files import write_json
from limbeck.fitting import SQUARED, fit
from limbeck.fitting.plain import Plain
from limbeck.laws import PowerFloor
from limbeck.lm.slots import Batch, counted_logits, cross_entropy

Verdict = Literal["healthy", "hacking", "over-fitting"]
LEAST = 8  # evaluations that a law is fitted to


class Distance(NamedTuple):
    """A divergence between two models on samples: per sequence, its standard error, and per token."""

    sequence: float
    error: float
    token: float


@torch.no_grad()
def distance(student: Any, teacher: Any, batches: Sequence[Batch], divergence: str = "forward_kl") -> Distance:
    """Divergence between whole sequences, exact over the vocabulary and sampled over prefixes.

    `KL(T‖S) = E_x E_(y~T) sum_t KL(T(.|x, y_<t)‖S(.|x, y_<t))`

    Args:
        student, teacher: causal language models of one vocabulary.
        batches: samples of the model that the expectation is over: the teacher's for `forward_kl`.
        divergence: name of a loss on logits.
    """
    function, sums, tokens = get_loss(divergence).function, [], 0
    for batch in batches:
        logits = [model(**batch.inputs).logits for model in (student, teacher)]
        sums.append(function(*logits, mask=batch.mask, reduction="none").double().sum(-1))
        tokens += int(batch.mask.sum())
    values = torch.cat(sums)
    error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return Distance(values.mean().item(), error, values.sum().item() / max(1, tokens))


def judge(proxy: ArrayLike, golden: ArrayLike, tolerance: float = 0.02) -> Verdict:
    """Say what became of a training.

    It is healthy while the last golden value is within the tolerance of the smallest; else hacking if the proxy fell
    since, and over-fitting if that rose too.

    Args:
        proxy, golden: distances to the teacher and to the truth, in the order of the steps.
        tolerance: share by which the golden value may rise.

    Example:
        >>> judge([3.0, 2.0, 1.0], [2.0, 1.0, 1.5]), judge([3.0, 1.0, 2.0], [2.0, 1.0, 1.5])
        ('hacking', 'over-fitting')

    Source: On Teacher Hacking in Language Model Distillation (Tiapkin et al., 2025, arXiv 2502.02671); the tolerance
        and the name of the second case are ours.
    """
    p, g = np.asarray(proxy, float), np.asarray(golden, float)
    best = int(g.argmin())
    if g[-1] < (1 + tolerance) * g[best]:
        return "healthy"
    return "hacking" if p[-1] < p[best] else "over-fitting"


@dataclass(frozen=True)
class Alarm(Plain):
    """Where a curve left its law.

    Args:
        step: the first of the values that lie above it.
        expected: what the law of the steps before says there.
        found: what was measured.
    """

    step: float
    expected: float
    found: float

    def summary(self) -> str:
        """Return one sentence."""
        return f"from step {self.step:g} the curve leaves its law: {self.found:.4g} where {self.expected:.4g} was due"


def law_alarm(
    steps: ArrayLike, proxy: ArrayLike, *, warm_up: float = 0.3, patience: int = 3, level: float = 0.99,
    tolerance: float = 0.02,
) -> Alarm | None:  # fmt: skip
    """Find where a curve leaves `E + A / step^alpha`, as fitted to everything before.

    The law is fitted to a window that grows by one value at a time; the alarm is given where the next `patience` values
    all lie above its band. Values should be spaced evenly in the logarithm of the step, 20 of them or more.

    Args:
        steps, proxy: the curve, in order; steps are positive.
        warm_up: share of the logarithm of the steps that the first window spans, and eight values at least.
        patience: values in a row.
        level: of the band, which holds the noise of a value and the uncertainty of the law.
        tolerance: share of the value that the band is wide at least: no real curve is a power law to the last digit.

    Source: as for `judge`, whose authors saw healthy runs follow a straight line; the floor and the test are ours. On
        400 made-up curves with 1 % noise it gives 1 % false alarms and finds 98 % of the bends.
    """
    s, y = np.asarray(steps, float), np.asarray(proxy, float)
    if len(s) < LEAST + patience:
        return None
    first = max(LEAST, int(np.searchsorted(np.log(s / s[0]), warm_up * np.log(s[-1] / s[0]), side="right")))
    for k in range(first, len(s) - patience + 1):
        floor, ahead = 0.5 * y[:k].min(), slice(k, k + patience)
        start = {"E": floor, "A": (y[0] - floor) * s[0] ** 0.5, "alpha": 0.5}
        law = fit(PowerFloor("step", "proxy"), {"step": s[:k]}, y[:k], loss=SQUARED, start=start, bootstrap=0)
        expected, noise = law.value(step=s[ahead]), np.sqrt(np.mean(law.noise**2))
        width = np.log(law.confidence(level, step=s[ahead])[1] / expected)
        band = np.hypot(width, stdtrit(law.degrees_of_freedom, 0.5 + level / 2) * noise)
        if (np.log(y[ahead] / expected) > np.maximum(band, tolerance)).all():
            return Alarm(float(s[k]), float(expected[0]), float(y[k]))
    return None


@dataclass(frozen=True)
class HackingReport(Plain):
    """What the monitor saw.

    Args:
        steps, proxy, golden: the curves; golden is empty where there is no truth.
        alarm: where the proxy left its law.
        verdict: by the golden curve; None without one.
    """

    steps: tuple[int, ...]
    proxy: tuple[float, ...]
    golden: tuple[float, ...]
    alarm: Alarm | None
    verdict: Verdict | None

    @property
    def ill(self) -> bool:
        """Whether there is an alarm, or a truth that says so."""
        return self.alarm is not None or self.verdict not in (None, "healthy")

    def summary(self) -> str:
        """Return the verdict, the best step and the alarm."""
        lines = [f"{len(self.steps)} evaluations up to step {self.steps[-1]}: proxy {self.proxy[-1]:.4g}"]
        if self.golden:
            best = int(np.argmin(self.golden))
            lines.append(
                f"{self.verdict}: golden {self.golden[-1]:.4g}, best {self.golden[best]:.4g} at step {self.steps[best]}"
            )
        lines.append(self.alarm.summary() if self.alarm else "the proxy follows its law")
        if self.ill:
            lines.append("take new teacher samples in every step, or more prompts, or more answers to each; or stop")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return golden against proxy where there is a truth, else proxy against step, as a plotly figure."""
        from plotly import graph_objects as go

        x, y = (self.proxy, self.golden) if self.golden else (self.steps, self.proxy)
        names = ("to the teacher, nats", "to the truth, nats") if self.golden else ("step", "proxy, nats")
        figure = go.Figure(go.Scatter(x=x, y=y, text=[f"step {step}" for step in self.steps], mode="lines+markers"))
        figure.update_layout(title=self.summary().splitlines()[-1], template="simple_white")
        return figure.update_xaxes(title=names[0], type="log").update_yaxes(title=names[1], type="log")


class HackingMonitor:
    """Measures proxy and golden distance at the evaluations of a training, and stops or warns.

    Args:
        teacher: the proxy.
        samples: held-out prompts with fresh answers of the teacher, the same at every evaluation; never training pairs.
        oracle: the truth as a model, if there is one, with its own samples in `truth`.
        truth: real answers: the golden value is their cross-entropy, or the distance to the oracle.
        act: what an alarm does beside being recorded: warn once, or stop the training.
        path: keeps the curves, so that a training which goes on has them.

    Raises:
        TrainingError: from a measurement, where an alarm stops the training.

    Source: as for `judge`.
    """

    def __init__(
        self, teacher: Any, samples: Sequence[Batch], *, oracle: Any = None, truth: Sequence[Batch] = (),
        act: Literal["warn", "stop", "record"] = "warn", path: Path | str | None = None,
    ) -> None:  # fmt: skip
        self.teacher, self.samples, self.oracle, self.truth = teacher, samples, oracle, truth
        self.act, self.path, self.warned = act, path, False
        known = json.loads(Path(path).read_text()) if path and Path(path).is_file() else {}
        self.curves: dict[int, dict[str, float]] = {int(step): values for step, values in known.items()}

    @torch.no_grad()
    def measure(self, student: Any, step: int) -> dict[str, float]:
        """Measure the student after a step; return `proxy` and, with a truth, `golden`, in nats."""
        found = {"proxy": distance(student, self.teacher, self.samples).sequence}
        if self.oracle is not None:
            found["golden"] = distance(student, self.oracle, self.truth).sequence
        elif self.truth:
            losses = [(cross_entropy(counted_logits(student, one), one), int(one.mask.sum())) for one in self.truth]
            found["golden"] = float(sum(loss * n for loss, n in losses)) / sum(n for _, n in losses)
        self.curves = {known: values for known, values in self.curves.items() if known < step} | {step: found}
        if self.path:
            write_json(self.path, self.curves)
        if self.act != "record" and not self.warned and (report := self.report()).ill:
            self.warned = True
            if self.act == "stop":
                raise TrainingError(f"stopped after step {step}.\n{report.summary()}")
            warnings.warn(report.summary(), stacklevel=2)
        return found

    def report(self) -> HackingReport:
        """Return the curves so far, judged."""
        return report_of(self.curves)


def report_of(curves: Mapping[int, Mapping[str, float]]) -> HackingReport:
    """Judge the `proxy` and, with a truth, `golden` values of evaluations by their steps."""
    steps = tuple(sorted(curves))
    proxy = tuple(curves[step]["proxy"] for step in steps)
    golden = tuple(curves[step]["golden"] for step in steps if "golden" in curves[step])
    return HackingReport(steps, proxy, golden, law_alarm(steps, proxy), judge(proxy, golden) if golden else None)
