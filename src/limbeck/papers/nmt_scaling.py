"""Scaling Laws for Neural Machine Translation: sizes of encoder and decoder count apart.

Sixteen shapes of a small encoder and decoder learn a made-up translation. Two source words choose a lemma through a
random table: what the encoder has to store. The inflection depends on the lemma and on the target word before: what the
decoder has to store. The product law of both sizes is compared with the law of the total, and with an additive law.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.laws import best_split, fit_two_part
from limbeck.laws.translation import GHORBANI
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

WORDS, LEMMAS, FORMS, EMBEDDING = 64, 16, 4, 16
BATCH, FRESH = 512, 20_000
SHAPES = [(e, d) for e in (4, 8, 16, 32, 64) for d in (4, 8, 16, 32, 64) if (e, d) not in
          {(4, 8), (8, 4), (8, 32), (16, 4), (16, 16), (32, 8), (32, 64), (64, 32), (64, 16)}]  # fmt: skip
"""Widths of encoder and decoder: 16 of 25."""


class NmtScaling(Paper):
    """Encoders and decoders of five widths each on a made-up language."""

    source = GHORBANI
    claim = "The loss of an encoder and decoder follows a product of powers of both sizes, not a power of their total."
    metric = "root mean square error of the law of the total minus that of the product law"
    unit = "nats"
    baseline = "law of the total"
    extras = ("distill",)

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Train every shape, from two starts in a full run, and fit the laws."""
        language = Language(seed)
        text = language.draw((150 if quick else 500) * BATCH + FRESH, np.random.default_rng([seed, 2]))
        starts = [seed] if quick else [seed, 1000 + seed]
        losses = [float(np.mean([train(text, *shape, start) for start in starts])) for shape in SHAPES]
        sizes = [{"encoder_params": encoder_size(e), "decoder_params": decoder_size(d)} for e, d in SHAPES]
        rows = [{**size, "loss": loss} for size, loss in zip(sizes, losses, strict=True)]
        found = fit_two_part(rows, bootstrap=50)
        held = {c.name: c.validation.error for c in found.comparison.candidates}
        return {
            "runs": rows, "floor": language.floor, "chosen": found.form,
            "rmse": {form: float(np.sqrt(2 * fit.objective / len(rows))) for form, fit in found.fits.items()},
            "R2": {form: found.r2(form) for form in found.fits},
            "largest held out": {form: held[fit.model.name] for form, fit in found.fits.items()},
            "a shape left out": found.left_out,
            "parameters": {form: fit.parameters for form, fit in found.fits.items()},
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the errors of the three laws, seed by seed."""
        floors, runs = stacked(measured, "floor", "runs")
        forms, picked = list(measured[0]["rmse"]), [one["chosen"] for one in measured]
        rmse = {form: np.array([one["rmse"][form] for one in measured]) for form in forms}
        away = {form: np.mean([one["largest held out"][form] for one in measured]) for form in forms}
        laws = {form: [one["parameters"][form] for one in measured] for form in forms}
        product, total = rmse["product"].mean(), rmse["univariate"].mean()
        products, errors = laws["product"], ", ".join(f"{form} {error:.3f}" for form, error in away.items())
        lowest = np.mean([p["L_inf"] for p in products])
        width, x, loss = np.array([tuple(run.values()) for run in runs[0]]).T
        series = [Series(f"encoder {w:.0f}", x[width == w], loss[width == w]) for w in np.unique(width)]
        title = f"Error by the total {total:.2f} nats, by both sizes {product:.2f}"
        return Outcome(
            effects=rmse["univariate"] - rmse["product"],
            checks={"the product law's mean error is at most two thirds of the total's": product <= 2 / 3 * total},
            details={
                **{form: {"rmse": rmse[form], "largest held out": away[form]} for form in forms},
                **{name: [one[name] for one in measured] for name in ("R2", "chosen", "a shape left out")},
                "encoder's best share by the product law": [best_split(p["p_e"], p["p_d"], 1.0)[0] for p in products],
                "floor": floors,
                "floor by law": {form: [p.get("L_inf", p.get("E")) for p in laws[form]] for form in forms},
            },
            notes=[
                f"on the largest shapes held out: {errors}; "
                f"the additive law is chosen on {picked.count('additive')} of {len(picked)} languages",
                f"the product law puts the floor at {lowest:.2f} nats, the truth is {floors.mean():.2f}",
                "no natural language: one made-up one per seed, its true floor known",
            ],
            figure=Figure(title, "decoder parameters", "loss, nats/token", series, log_x=True),
        )  # fmt: skip


class Language:
    """A random table of lemmas and random distributions of their forms."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        zipf = np.arange(1, WORDS + 1) ** -0.7
        self.source = zipf / zipf.sum()
        self.lemma = rng.integers(0, LEMMAS, (WORDS, WORDS))
        self.forms = rng.dirichlet(np.full(FORMS, 0.35), (WORDS, LEMMAS))
        entropy = -(self.forms * np.log(np.maximum(self.forms, 1e-300))).sum(-1).mean(0)
        chance = np.bincount(self.lemma.ravel(), np.outer(self.source, self.source).ravel(), LEMMAS)
        self.floor = float(entropy @ chance)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Return two source words and the target word before, [count, 3], and the target word, [count]."""
        first, second = rng.choice(WORDS, (2, count), p=self.source)
        before, lemma = rng.integers(0, WORDS, count), self.lemma[first, second]
        form = (rng.random((count, 1)) > self.forms[before, lemma].cumsum(-1)).sum(-1).clip(0, FORMS - 1)
        return np.stack([first, second, before], 1), lemma * FORMS + form


def encoder_size(width: int) -> int:
    """Return the parameters of an encoder, embeddings excluded."""
    return (2 * EMBEDDING + 1) * width + (width + 1) * EMBEDDING


def decoder_size(width: int) -> int:
    """Return the parameters of a decoder, embeddings and softmax excluded."""
    return (2 * EMBEDDING + 1) * width + (width + 1) * width + (width + 1) * EMBEDDING


def train(text: tuple[Any, Any], encoder: int, decoder: int, seed: int) -> float:
    """Train one shape with Adam, cosine from 0.01, and return its loss on the last words of a text, nats."""
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        words, before = nn.Embedding(WORDS, EMBEDDING), nn.Embedding(WORDS, EMBEDDING)
        read = nn.Sequential(nn.Linear(2 * EMBEDDING, encoder), nn.ReLU(), nn.Linear(encoder, EMBEDDING))
        first, second = nn.Linear(2 * EMBEDDING, decoder), nn.Linear(decoder, decoder)
        last = nn.Linear(decoder, EMBEDDING), nn.Linear(EMBEDDING, WORDS)
        write = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *last)
    model = nn.ModuleList([words, before, read, write])
    steps = (len(text[1]) - FRESH) // BATCH
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    inputs, targets = (torch.from_numpy(values) for values in text)

    def loss(x: Any, y: Any) -> Any:
        source = read(words(x[:, :2]).flatten(1))
        return nn.functional.cross_entropy(write(torch.cat([source, before(x[:, 2])], 1)), y)

    for k in range(steps):
        batch = slice(k * BATCH, (k + 1) * BATCH)
        optimizer.zero_grad()
        loss(inputs[batch], targets[batch]).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return float(loss(inputs[steps * BATCH :], targets[steps * BATCH :]))
