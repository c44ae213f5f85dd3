"""Ladders of click networks: grades, amounts of data and seeds, and the law of their error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.fitting import Fit
from limbeck.fitting.plain import Plain
from limbeck.laws import Power, fit
from limbeck.recsys.clicks import Clicks
from limbeck.recsys.networks import Sizes
from limbeck.recsys.training import one_epoch, train_clicks


@dataclass(frozen=True)
class Rung(Plain):
    """One grade on one amount of data.

    Args:
        grade: its name.
        events: different training events.
        params: without tables; `latency_ms` of a request for 200 items.
        auc, loss: of each seed.
    """

    grade: str
    events: int
    params: int
    latency_ms: float
    auc: tuple[float, ...]
    loss: tuple[float, ...]

    def summary(self) -> str:
        """One line."""
        mean, spread = np.mean(self.auc), np.std(self.auc, ddof=1) / len(self.auc) ** 0.5 if len(self.auc) > 1 else 0
        return (
            f"{self.grade:<16}{self.events:>10,}{self.params:>10,}{self.latency_ms:>10.1f}    {mean:.4f} ± {spread:.4f}"
            f"   {np.mean(self.loss):.4f}"
        )


@dataclass(frozen=True)
class Ladder:
    """Trainings of a ladder; `limbeck plan grade` reads their folder.

    Args:
        rungs: by grade and data.
        folder: of all records, for `read_runs`.
        laws: of every grade with three amounts of data or more, 1 - AUC = A / events^alpha.
    """

    rungs: tuple[Rung, ...]
    folder: Path
    laws: Mapping[str, Fit] = field(repr=False)

    def summary(self) -> str:
        """A table, and the laws."""
        head = f"{'grade':<16}{'events':>10}{'params':>10}{'ms':>10}    {'AUC ± s.e.':<18}loss"
        lines = [head, *(rung.summary() for rung in self.rungs)]
        for name, law in self.laws.items():
            band = law.intervals(0.8).get("alpha")
            width = f" (80 %: {band[0]:.3f} – {band[1]:.3f})" if band else ""
            lines.append(f"{name}: 1 - AUC falls as events^-{law.parameters['alpha']:.3f}{width}")
        return "\n".join([*lines, f"next: limbeck plan grade {self.folder} --latency 5"])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        laws = {name: law.to_dict() for name, law in self.laws.items()}
        return {"rungs": [rung.to_dict() for rung in self.rungs], "folder": str(self.folder), "laws": laws}


def climb(
    clicks: Clicks,
    grades: Mapping[str, Sizes],
    out: Path | str,
    *,
    shares: Sequence[float] = (1.0,),
    seeds: int = 3,
    steps: int = 0,
    progress: bool = True,
) -> Ladder:
    """Train every grade on nested parts of the log, each with several seeds; the same call goes on after a stop.

    Args:
        clicks: the log.
        grades: sizes by name.
        out: folder of one folder for each training.
        shares: of the training events; smaller ones lie inside of larger ones of the same seed.
        seeds: how many.
        steps: of every training, whatever its data; 0 is one epoch of its own data, where few events also mean few
            steps, so that scarce data and short training are one.
        progress: one line on a terminal.

    Example:
        >>> import tempfile
        >>> from limbeck.recsys import Suan, synthetic
        >>> with tempfile.TemporaryDirectory() as out:
        ...     ladder = climb(synthetic(40, 40), {"A": Suan()}, out, shares=[0.5, 1], seeds=1, progress=False)
        >>> [rung.events for rung in ladder.rungs]
        [640, 1280]
    """
    out, rungs, laws = Path(out), [], {}
    for name, sizes in grades.items():
        rows: dict[str, list[float]] = {"events": [], "error": []}
        for share in sorted(shares):
            found = []
            for seed in range(seeds):
                positions, regime = clicks.some(share, seed), one_epoch(clicks, share=share)
                regime = replace(regime, steps=steps) if steps else regime
                how: dict[str, Any] = {"positions": positions, "regime": regime, "seed": seed, "progress": progress}
                about = {"grade": name, "events": len(positions)}
                place = out / f"{name}-{share:g}-{seed}"
                found.append(train_clicks(sizes.build(clicks.schema, seed), clicks, out=place, columns=about, **how))
            auc = tuple(one.judged.auc for one in found)
            cost, loss = found[0].cost, tuple(one.judged.loss for one in found)
            rungs.append(Rung(name, len(positions), cost.params, cost.latency_ms, auc, loss))
            rows = {"events": rows["events"] + [len(positions)] * seeds, "error": rows["error"] + [1 - a for a in auc]}
        if len(shares) > 2:
            laws[name] = fit(Power("events", "error"), rows, bootstrap=200)
    return Ladder(tuple(rungs), out, laws)
