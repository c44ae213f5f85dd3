"""Towards Neural Scaling Laws for Time Series Foundation Models: loss falls with size outside the training sources too.

Patch Transformers of 956 to 59456 parameters, an encoder and a decoder of each size, learn four made-up sources and are
tested on those and on the fifth, which is another one for every seed. L = (N_0/N)^alpha is fitted to both losses. The
points of the paper's own figures, where they are found (`LIMBECK_DATA`), are fitted as well.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from limbeck.laws import YAO_2024, SplitLaw, split_law
from limbeck.laws.time_series import YAO
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import run_table
from limbeck.planning import compare_splits

KINDS = ("encoder", "decoder")
WIDTHS = (4, 8, 16, 32, 64)


class TimeseriesScaling(Paper):
    """A source left out per seed, two architectures, five sizes."""

    source = YAO
    claim = "A forecaster's loss falls as a power of its size, on sources that it never saw as on those it learnt from."
    metric = "exponent of size on the source left out, mean of encoder and decoder"
    baseline = "no scaling"
    extras = ("distill",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Train every size of both architectures without one source; return their losses on it and on the others."""
        import torch

        from limbeck.papers import _forecasters as tiny
        from limbeck.papers._training import draws

        left_out = tiny.SOURCES[seed % len(tiny.SOURCES)]
        inside = [source for source in tiny.SOURCES if source != left_out]
        train, known = (
            torch.cat([tiny.series(s, n, k) for s in inside]) for n, k in ((1000, seed), (200, seed + 1000))
        )
        tests = {"id": known, "ood": tiny.series(left_out, 800, seed + 1000)}
        batches = draws(len(train), 40 if quick else 300, 32, seed)
        found: Numbers = {"left out": left_out}
        for kind in KINDS:
            widths = WIDTHS[::2] if quick else WIDTHS
            models = [tiny.learn(width, kind == "decoder", train, batches, seed) for width in widths]
            with torch.no_grad():
                found[kind] = {split: [float(tiny.loss_of(m, x)) for m in models] for split, x in tests.items()}
            found[kind]["params"] = [sum(w.numel() for w in model.parameters()) for model in models]
            if kind == "encoder":
                few = known[::8]
                past, truth = few.flatten(1).chunk(2, 1)
                forecasts = tiny.forecast(models[-1], few, seed), tiny.seasonal_naive(past, truth.shape[1], 16)
                found["scores"] = [tiny.scores(quantiles, truth, past, 16) for quantiles in forecasts]
        return found

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Fit both splits of every seed, and the points of the paper's figures."""
        plans = {kind: [compare_splits(one[kind], ["id", "ood"]) for one in measured] for kind in KINDS}
        alpha = np.array([[[row.law.alpha for row in plan.rows] for plan in plans[kind]] for kind in KINDS])
        left_out, scores = [one["left out"] for one in measured], np.mean([one["scores"] for one in measured], 0)
        inside, outside = alpha.mean((0, 1))
        checks = {
            "the loss on learnt sources falls with size in every run": (alpha[..., 0] > 0).all(),
            "the largest encoder has a lower CRPS than the seasonal-naive forecast": scores[0, 0] < scores[1, 0],
        }
        details: Numbers = {"left out": left_out, "CRPS and MASE, encoder and naive": scores}
        for kind, a in zip(KINDS, alpha, strict=True):
            verdicts = [plan.rows[1].verdict for plan in plans[kind]]
            details[kind] = {"id": a[:, 0], "ood": a[:, 1], "verdicts": verdicts}
        rising = [f"{left_out[k]} ({KINDS[i]})" for i, k in np.argwhere(alpha[..., 1] < 0)]
        alone = " and ".join(f"{a:.3f} ({kind})" for kind, a in zip(KINDS, alpha[..., 0].mean(1), strict=True))
        notes = [f"made-up sources, not real series; exponents on learnt sources {alone}"]
        notes += [f"left out, these get worse with size: {', '.join(rising)}"] if rising else []
        path = run_table("tsfm_scaling/digitised_points.csv")
        if path is None:
            notes.append("the points of the paper's figures are absent (see LIMBECK_DATA)")
        else:
            laws = laws_of_figures(pl.read_csv(path))
            checks |= check_figures(laws)
            details["exponents of the paper's figures"] = {" ".join(key): law.alpha for key, law in laws.items()}
        sizes, splits = measured[0]["encoder"]["params"], {"id": "learnt sources", "ood": "source left out"}
        title = f"Loss falls as N^{-inside:.3f} on learnt sources and as N^{-outside:.3f} on others"
        series = [
            Series.measured(f"{kind}, {name}", sizes, [one[kind][split] for one in measured])
            for kind in KINDS
            for split, name in splits.items()
        ]
        figure = Figure(title, "parameters", "negative log-likelihood, nats per value", series, log_x=True, log_y=True)
        return Outcome(alpha[..., 1].mean(0), checks, details, notes, figure)


def laws_of_figures(points: pl.DataFrame) -> dict[tuple[str, str, str], SplitLaw]:
    """Return the law of every architecture, scale and split in the paper's figures."""
    names = {"params": "params", "data": "samples"}
    groups = points.group_by("arch", "axis", "split", maintain_order=True)
    return {(str(kind), names[str(axis)], str(split)): split_law(g["x"], g["nll"]) for (kind, axis, split), g in groups}


def check_figures(laws: dict[tuple[str, str, str], SplitLaw]) -> dict[str, bool]:
    """Return what those laws must show: the printed exponents, encoder above decoder, data that help inside only."""
    off = {key: abs(law.alpha - YAO_2024[key].parameters["alpha"]) for key, law in laws.items()}
    hidden = off.pop(("decoder", "params", "lsf"))
    encoder, decoder = (laws[kind, "params", "id"].interval() for kind in KINDS)
    data = {split: laws["encoder", "samples", split].alpha for split in ("id", "lsf", "monash")}
    gap, largest = encoder.lower - decoder.upper, max(*off.values(), hidden / 2)
    return {
        "figures: the printed exponents to 0.002, one with a hidden marker to 0.004": largest < 2e-3,
        "figures: size helps an encoder more than a decoder, outside both 80 % intervals": gap > 0,
        "figures: more data help less than half as much outside": max(data["lsf"], data["monash"]) < data["id"] / 2,
    }
