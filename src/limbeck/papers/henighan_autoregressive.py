"""Scaling Laws for Autoregressive Generative Modeling: a larger model uses more of what its condition tells it.

An autoregressive model of handwritten digits, 64 binary pixels each, reads the pixels before a position and the digit's
label, which is blanked in half of the examples. What the label tells it about the image is I = L(image | blank) -
L(image | label), in nats per image, and cannot exceed the entropy of the labels. The paper finds I growing with ln N
(eq. 4.1). With shuffled labels the same model must lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from limbeck.fitting import SQUARED
from limbeck.fitting.model import Array
from limbeck.laws import MODALITIES, fit, infogain, mutual_information
from limbeck.laws.loss import HENIGHAN
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._data import shuffled_digits

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTHS = (4, 8, 16, 32, 64, 128)
TEST, PIXELS, LABELS = 400, 64, 10
DOMAINS = ("image_8x8", "language")


class HenighanAutoregressive(Paper):
    """Label-conditioned autoregressive MLPs of six sizes on the digits of scikit-learn."""

    source = HENIGHAN
    claim = "What a conditional model learns from its condition, in nats, grows as the logarithm of its size."
    metric = "slope of the information between label and image on ln N"
    unit = "nats per e-fold"
    baseline = "shuffled labels"
    extras = ("vision",)

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Train every width; return the loss of every test image under its label, a blank and a shuffled label."""
        import torch

        rng = np.random.default_rng(seed)
        pixels, digits = shuffled_digits(rng)
        images, labels = torch.tensor(pixels >= 0.5, dtype=torch.float32), torch.tensor(digits)
        test, blank = labels[:TEST], torch.full((TEST,), LABELS)
        shown = {"label": test, "blank": blank, "shuffled": test[torch.tensor(rng.permutation(TEST))]}

        widths = (4, 16, 64) if quick else WIDTHS
        models = [learn(images[TEST:], labels[TEST:], width, 500 if quick else 900, seed) for width in widths]
        share = np.bincount(test) / TEST
        return {
            "widths": widths,
            "params": [sum(weight.numel() for weight in model.parameters()) for model in models],
            "entropy": float(-share @ np.log(share)),
            "floors": [floor(domain, seed) for domain in DOMAINS],
            **{name: [image_loss(model, images[:TEST], label) for model in models] for name, label in shown.items()},
        }

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Regress the information on ln N for every seed; compare with shuffled labels and with the labels' entropy."""
        label, blank, shuffled, entropy, floors = stacked(measured, "label", "blank", "shuffled", "entropy", "floors")
        per_image, params = mutual_information(blank, label), measured[0]["params"]  # [seed, size, image]
        information, wrong = per_image.mean(2), mutual_information(blank, shuffled).mean(2)
        (slopes, levels), (wrong_slopes, _) = (np.polyfit(np.log(params), i.T, 1) for i in (information, wrong))
        ours = Series.measured("label", params, information)
        line = slopes.mean() * np.log(params) + levels.mean()
        wide, bend = np.array(measured[0]["widths"]) >= 16, MODALITIES["image_8x8"].params.L_inf
        title = f"What the label tells grows by {slopes.mean():.2f} nats per e-fold of N"
        fitted = Series("λ ln(N/N_c)", params, line, kind="line")
        series = ours, Series.measured("shuffled label", params, wrong), fitted
        return Outcome(
            effects=slopes,
            checks={
                "I > 0 at every size": min(ours.y) > 0,
                "I below the entropy of the labels at every size": information.mean(0) < entropy.mean(),
                "95 % interval over images above 0 from width 16": lower_end(per_image)[:, wide] > 0,
                "I < 0 with shuffled labels": wrong < 0,
                "simulated 8x8 images: L_inf within 1 %": np.abs(floors[:, 0, 0] / bend - 1) < 0.01,
                "simulated language: L_inf not told from 0": floors[:, 1, 1] < 1e-3,
            },
            details={
                "params": params, "loss with label": label.mean((0, 2)), "loss with blank": blank.mean((0, 2)),
                "information": ours.y, "standard error": ours.error,
                "infogain": infogain(information, entropy[:, None]).mean(0),
                "information with shuffled labels": wrong.mean(0), "slope with shuffled labels": wrong_slopes.mean(),
                "N where the line crosses 0": np.exp(-levels.mean() / slopes.mean()),
                "R²": np.corrcoef(np.log(params), ours.y)[0, 1] ** 2,
                "simulated L_inf, estimate and 95 % interval": {d: floors[:, k] for k, d in enumerate(DOMAINS)},
            },
            notes=["the irreducible loss of these binary images is not identified by so few small models"],
            figure=Figure(title, "parameters", "information, nats/image", series, log_x=True),
        )  # fmt: skip


def lower_end(per_image: Array) -> Array:
    """Return the lower end of the 95 % bootstrap interval over images: [seed, size, image] to [seed, size]."""
    picks = np.random.default_rng(0).integers(0, TEST, (400, TEST))
    return np.asarray(np.quantile(per_image[:, :, picks].mean(3), 0.025, axis=2))


def floor(domain: str, seed: int) -> list[float]:
    """Return L_inf and its 95 % interval, fitted to a row of table 1 at eight sizes with 0.2 % noise."""
    sizes = np.geomspace(1e4, 1e9, 8)
    losses = MODALITIES[domain].params.value(sizes) * np.exp(np.random.default_rng(seed).normal(0, 0.002, 8))
    fitted = fit("power-floor:params", {"params": sizes, "loss": losses}, loss=SQUARED, bootstrap=300, seed=seed)
    return [fitted.parameters["E"], *np.quantile(fitted.draws["E"], [0.025, 0.975]).tolist()]


def learn(images: Tensor, labels: Tensor, width: int, steps: int, seed: int) -> nn.Module:
    """Train on random pixels of random images, half of the labels blanked."""
    import torch
    from torch import nn

    from limbeck.papers._training import descend, draws, seeded

    def build() -> nn.Module:
        inputs, hidden = nn.Linear(2 * PIXELS + LABELS + 1, width), nn.Linear(width, width)
        return nn.Sequential(inputs, nn.ReLU(), hidden, nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

    def loss(batch: Tensor) -> Tensor:
        image, position, blank = batch.unbind(-1)
        label = torch.where(blank == 1, LABELS, labels[image])
        logits = model(features(images[image], position, label))
        return nn.functional.binary_cross_entropy_with_logits(logits, images[image, position])

    counts = (len(images), PIXELS, 2)
    batches = torch.stack([draws(count, steps, 256, 10 * seed + k) for k, count in enumerate(counts)], -1)
    model = seeded(build, seed)
    return descend(model, loss, batches, learning_rate=3e-3, weight_decay=0.01, anneal=True)


def features(images: Tensor, position: Tensor, label: Tensor) -> Tensor:
    """Return inputs [n, 139]: the pixels before a position as -1 or 1 (0 from there on), the position, the label."""
    import torch
    from torch.nn.functional import one_hot

    visible = torch.arange(PIXELS) < position[:, None]
    return torch.cat([(2 * images - 1) * visible, one_hot(position, PIXELS), one_hot(label, LABELS + 1)], 1)


def image_loss(model: nn.Module, images: Tensor, label: Tensor) -> list[float]:
    """Return the loss of each image under a label, nats per image."""
    import torch

    position = torch.arange(PIXELS).repeat(len(images))
    with torch.no_grad():
        logits = model(features(images.repeat_interleave(PIXELS, 0), position, label.repeat_interleave(PIXELS)))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.view(-1, PIXELS), images, reduction="none")
    return list(map(float, loss.sum(1)))
