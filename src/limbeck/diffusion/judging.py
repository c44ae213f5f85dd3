"""Judging generators: quality, network calls and time of a student and its teacher, side by side in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.features import FeatureNetwork, to_signal
from limbeck.diffusion.metrics import frechet, judge_images
from limbeck.diffusion.mixtures import judge_mixture
from limbeck.diffusion.sampling import BATCH, Made, make
from limbeck.diffusion.sources import Exact, Pictures
from limbeck.fitting.picture import chart
from limbeck.fitting.plain import Plain

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLUMNS = {
    "frechet": {"frechet": "FD", "precision": "precis.", "recall": "recall", "coverage": "cover.", "accuracy": "class",
                "psnr": "PSNR"},
    "jsd": {"jsd": "JSD", "sliced_w2": "SW2", "modes": "modes", "high_quality": "near", "class_accuracy": "class"},
}  # fmt: skip
"""Numbers that a table shows, and their heads."""


@dataclass(frozen=True)
class Row(Plain):
    """One generator.

    Args:
        name: who, with how many steps.
        calls: of the network, for each picture.
        seconds: processor time of one picture.
        values: see `ImageJudgement`, `MixtureJudgement`.
    """

    name: str
    calls: int
    seconds: float
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Judged(Plain):
    """A student beside its teacher at several numbers of steps.

    Args:
        metric: the one that decides: frechet (of pictures) or jsd (of points); small is good.
        rows: teachers first, the finished student last.
        floor: the numbers of real data against real data.
        count: pictures of each set.
        threads: of the processor, at which time was taken.
        space: what pictures are compared by.
    """

    metric: str
    rows: Sequence[Row]
    floor: Mapping[str, float | None]
    count: int
    threads: int
    space: str

    @property
    def best(self) -> Row:
        """The teacher where it is best."""
        return min((row for row in self.rows if row.name.startswith("teacher")), key=self.value)

    def value(self, row: Row) -> float:
        """What decides about a row."""
        return float(row.values[self.metric] or 0.0)

    def summary(self) -> str:
        """A table, the answer above it."""
        student, best = self.rows[-1], self.best
        found, least, words = self.value(student), self.value(best), COLUMNS[self.metric]
        shown = [name for name in words if student.values.get(name) is not None]
        lines = [
            f"{words[self.metric]} {found:.3g}: {found / max(least, 1e-12):,.1f} times the teacher's best, {least:.3g} "
            f"in {best.calls} calls; {best.seconds / student.seconds:.3g} times as cheap",
            f"{'':19}{'calls':>5}{'CPU ms':>9}" + "".join(f"{words[name]:>9}" for name in shown),
        ]
        for row in (*self.rows, Row("real data, two sets", 0, 0.0, self.floor)):
            spent = f"{row.calls:>5}{1000 * row.seconds:>9.3g}" if row.calls else f"{'':14}"
            numbers = (row.values.get(name) for name in shown)
            lines.append(f"{row.name:19}{spent}" + "".join(f"{'–' if v is None else f'{v:.3g}':>9}" for v in numbers))
        lines += [f"{self.count:,} of each set, batches of {BATCH}, {self.threads} threads", self.space]
        if (near := student.values.get("memorised")) is not None:
            lines.append(f"distance to the nearest training picture: {near:.2f} of that from those to the next")
            lines.append(f"as near as the nearest 5 % of those: {100 * float(student.values['copies'] or 0):.1f} %")
        return "\n".join(lines)

    def plot(self) -> "go.Figure":
        """Quality against network calls."""
        traces = []
        for who in ("teacher", "student"):
            rows = [row for row in self.rows if row.name.startswith(who)]
            at = {"x": [row.calls for row in rows], "y": [*map(self.value, rows)], "text": [row.name for row in rows]}
            traces.append({"name": who, "mode": "lines+markers" if who == "teacher" else "markers", **at})
        name = COLUMNS[self.metric][self.metric]
        return chart(f"{name} against cost", "network calls for one picture", name, traces, log="xy")


@dataclass(frozen=True)
class Judge:
    """Compares what generators make with the data.

    Args:
        source: the data.
        network: features of its pictures; None for a law with a formula.
        count: pictures or points of each set, at most as many as there are.
        seed: of noise and classes.
    """

    source: Pictures | Exact
    network: FeatureNetwork | None
    count: int
    seed: int = 0

    @property
    def metric(self) -> str:
        """The number that decides."""
        return "jsd" if self.network is None else "frechet"

    def cond(self) -> Tensor | None:
        """Classes to ask for, with the shares of the data."""
        if not self.source.classes:
            return None
        if isinstance(self.source, Exact):
            return self.source.law.sample(self.count, self.seed)[1]  # type: ignore[no-any-return]
        labels = self.source.data.labels[self._rows()]
        return torch.where(labels < 0, self.source.classes, labels)

    def _rows(self) -> Tensor:
        assert isinstance(self.source, Pictures)
        return torch.randperm(len(self.source.data), generator=torch.Generator().manual_seed(self.seed))[: self.count]

    def make(self, model: nn.Module, **how: Any) -> Made:
        """Generate what is judged."""
        known = {"classes": self.source.classes, "seed": self.seed}
        return make(model, self.source.shape, self.count, self.cond(), **known | how)

    def quick(self, model: nn.Module) -> dict[str, float]:
        """The number that decides, while a training goes on."""
        x = self.make(model).x
        if isinstance(self.source, Exact):
            return {"jsd": judge_mixture(self.source.law, x, seed=self.seed).jsd}
        assert self.network is not None
        real = to_signal(self.source.data.inputs[self._rows()])
        return {"frechet": frechet(self.network.features(real), self.network.features(x))}

    def values(self, x: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        """All numbers of generated pictures, and their floor."""
        if isinstance(self.source, Exact):
            found = asdict(judge_mixture(self.source.law, x, seed=self.seed, labels=self.cond()))
            floor = {name: found[f"{name}_floor"] for name in ("jsd", "sliced_w2")}
            return found, floor | {"modes": found["modes_of"]}
        assert self.network is not None
        data = self.source.data
        said = judge_images(self.network, data.at(self._rows()), x, self.cond(), train=data, seed=self.seed)
        return asdict(said.found), asdict(said.floor)

    def compare(
        self, teacher: nn.Module, students: Mapping[str, nn.Module], steps: Sequence[int], guidance: float | None = None
    ) -> tuple[Judged, dict[str, Tensor]]:
        """Judge a teacher at several numbers of steps, and students; return the pictures too, by name.

        Args:
            teacher: denoiser.
            students: by name, the finished one last.
            steps: of the teacher's sampler, Heun's.
            guidance: of the teacher.
        """
        made = {f"teacher, {n} steps": self.make(teacher, steps=n, guidance=guidance) for n in steps}
        made |= {name: self.make(one) for name, one in students.items()}
        said = {name: self.values(one.x) for name, one in made.items()}
        rows = [Row(name, one.calls, one.seconds, said[name][0]) for name, one in made.items()]
        space = "exact law" if self.network is None else self.network.describe()
        judged = Judged(self.metric, rows, next(iter(said.values()))[1], self.count, torch.get_num_threads(), space)
        return judged, {name: one.x for name, one in made.items()}
