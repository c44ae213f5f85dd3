"""Exploring Scaling Laws of CTR Model for Online Performance Improvement: a small click model beside a large one.

MovieLens-100k, one epoch: user and item rates alone, a network without a block, grade A (1 block, width 4, history 8),
grade B (1, 8, 16), A with sparse attention, and that student trained beside B on the same batches; A on parts of the
data. A quick run, or one without the wheel of the data, takes a made-up log.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

LAI = Source(
    "Exploring Scaling Laws of CTR Model for Online Performance Improvement",
    "Lai, Jin, Zhang, Zheng, Dong, Cheng, Lei, Wang", 2025, "2508.15326",
)  # fmt: skip
GRADES: dict[str, dict[str, Any]] = {
    "no block": {"blocks": 0, "width": 8, "length": 16},
    "A": {},
    "B": {"width": 8, "length": 16},
    "sparse A": {"window": 3, "dilation": 3},
}
SHARES = (0.0625, 0.25)


class SuanCtr(Paper):
    """Grades of a click network, its data, and a sparse student beside a dense teacher."""

    source = LAI
    claim = "A sparse click model trained beside a larger dense one ranks better than alone; error falls with data."
    metric = "AUC of a sparse student trained beside a larger network, minus alone"
    unit = "thousandths"
    baseline = "student alone"
    extras = ("recsys",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return AUC and loss of the rates, of every grade, of the distilled student, and of A on parts of the data."""
        from limbeck.recsys import Suan, judge_logits, one_epoch, read_clicks, synthetic, train_clicks

        try:
            log = synthetic(users=40, events=50) if quick else read_clicks("movielens")
        except LimbeckError:
            log = synthetic(users=1000)

        def judged(sizes: dict[str, Any], teacher: dict[str, Any] | None = None, share: float = 1.0) -> list[float]:
            network = Suan(**sizes).build(log.schema, seed)
            above = None if teacher is None else Suan(**teacher).build(log.schema, 1000 + seed)
            regime = one_epoch(log, 64 if quick else 256, share=share)
            how: dict[str, Any] = {"positions": log.some(share, seed), "regime": regime, "seed": seed}
            found = train_clicks(network, log, teacher=above, progress=False, **how).judged
            return [found.auc, found.loss]

        learnt, clicked = log.train, log.label.double()

        def log_odds(codes: Any) -> Any:
            """Logarithm of the odds of a click in training, of each event's code; ten made-up events at the mean."""
            counts, clicks = (np.bincount(codes[learnt], w, int(codes.max()) + 1) for w in (None, clicked[learnt]))
            rate = (clicks + 10 * float(clicked[learnt].mean())) / (counts + 10)
            return np.log(rate / (1 - rate))[codes[log.test]]

        import torch

        rates = torch.from_numpy(log_odds(log.event[:, 0]) + log_odds(log.profile[:, 0]))
        rows = {name: judged(sizes) for name, sizes in GRADES.items()}
        rows["distilled"] = judged(GRADES["sparse A"], GRADES["B"])
        parts = [judged({}, share=share)[0] for share in SHARES]
        events = [len(log.some(share, seed)) for share in (*SHARES, 1.0)]
        by_rates = judge_logits(rates, log, log.test)
        return {
            "log": log.name, "events": events, "parts": [*parts, rows["A"][0]], "rates": by_rates.auc,
            "auc": [row[0] for row in rows.values()], "loss": [row[1] for row in rows.values()],
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare grades, the student alone and beside its teacher, and amounts of data, by pairs of one seed."""
        auc, loss, parts, rates = stacked(measured, "auc", "loss", "parts", "rates")
        events, names = measured[0]["events"], [*GRADES, "distilled"]
        none, a, b, sparse, distilled = 1000 * auc.T
        slopes = [np.polyfit(np.log(events), np.log(1 - row), 1)[0] for row in parts]
        gain, made_up = distilled - sparse, measured[0]["log"] == "synthetic"
        title = f"Beside a larger network a sparse click model gains {gain.mean():+.1f} thousandths of AUC"
        series = [Series.measured("A, on parts of the data", events, parts)]
        series += [Series.measured(name, events[-1:], auc[:, [k]]) for k, name in enumerate(names) if name != "A"]
        notes = ["a made-up log, not MovieLens"] if made_up else []
        notes.append("one epoch: few events are also few steps, so the law of data holds under-training too")
        return Outcome(
            effects=gain,
            checks={
                "a block is worth more than 15 thousandths over the same inputs": (a - none).mean() > 15,
                "grade B beats A": (b - a).mean() > 0,
                "a distilled student is more likely too, in nats": (loss[:, 4] - loss[:, 3]).mean() < 0,
                "the error of A falls with data in every seed": np.max(slopes) < 0,
            },
            details={
                "AUC": dict(zip(names, auc.mean(0), strict=True)), "loss": dict(zip(names, loss.mean(0), strict=True)),
                "AUC by seed": dict(zip(names, auc.T, strict=True)), "AUC of user and item rates": rates.mean(),
                "events": events, "AUC of A on them": parts.mean(0), "exponent of 1 - AUC": np.mean(slopes),
                "B minus A": b - a, "distilled minus dense A": distilled - a,
            },
            notes=notes,
            figure=Figure(title, "training events", "AUC", series, log_x=True),
        )  # fmt: skip
