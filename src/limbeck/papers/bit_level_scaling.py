"""Bit-level scaling laws: how many bits a weight should have when the memory of a model is given.

Handwritten digits are 32 tokens of two pixels each, and MLPs of one hidden layer predict the next one. Trained models
are rounded to 2 to 8 bits a weight. The law of loss against total bits, fitted to small models, chooses a precision for
more memory; larger models, one for each precision of that memory, tell what the choice was worth. Students of 2 to 4
bits, of four widths, are then trained with rounded weights, by labels, by KL and by two readings of the paper's top-k
divergence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import fit, total_bits
from limbeck.laws.precision import DING
from limbeck.papers import Figure, Outcome, Paper, Series, stacked
from limbeck.papers._data import shuffled_digits
from limbeck.planning import choose_bits

BITS, PRECISE, WIDTHS, TAUGHT = (2, 3, 4, 6, 8, 16), 16, (4, 6, 8, 12, 16, 24), (12, 24, 48, 96)
COLUMNS = ("total_bits", "bits", "loss")
TOKENS, LEVELS, WINDOW, TRAIN = 32, 6, 8, 1400
SYMBOLS, CLASSES = LEVELS**2, 10
INPUTS = WINDOW * (SYMBOLS + 1) + TOKENS + CLASSES


class BitLevelScaling(Paper):
    """Models of digits, rounded after their training."""

    source = DING
    claim = "Loss against the bits of a model is one curve per precision, which tells the best precision for a memory."
    metric = "loss of the 16-bit model minus that of the precision chosen from smaller models, at the same memory"
    unit = "nats/token"
    baseline = "16 bits"
    extras = ("distill", "vision")
    seeds = 5

    def measure(self, seed: int, quick: bool) -> list[Any]:
        """Return small models at every precision, one per precision for the largest's memory at 16 bits, students."""
        import torch

        from limbeck.papers._quantised_students import students

        text, steps, widths = tokens(seed), 150 if quick else 600, WIDTHS[1::2] if quick else WIDTHS
        small = [row for width in widths for row in rounded(text, width, BITS, steps, seed)]
        large = [rounded(text, widths[-1] * PRECISE // b, [b], steps, seed)[0] for b in BITS]
        inputs, target = (torch.from_numpy(values) for values in text)
        found = []
        for width in TAUGHT[:1] if quick else TAUGHT:
            teacher = network(inputs, target, width, 60 if quick else 350, seed)
            found.append(students(teacher, inputs, target, TRAIN, 30 if quick else 100, seed))
        mean = {name: np.mean([one[name] for one in found], 0).tolist() for name in found[0]}
        return [small, large, mean]

    def conclude(self, measured: Sequence[list[Any]]) -> Outcome:
        """Fit the small models of every seed, choose a precision for the memory, and look at the larger ones."""
        from limbeck.papers._quantised_students import remarks

        taught = stacked([one[2] for one in measured], "loss", "top", "longer")
        columns = [{name: [row[name] for row in small] for name in COLUMNS} for small, *_ in measured]
        memory = measured[0][1][-1]["total_bits"]
        plans = [choose_bits(fit("bit-level", one), total_bits=memory) for one in columns]
        loss = np.array([[row["loss"] for row in large] for _, large, _ in measured])  # [seed, precision]
        law = np.array([[option.loss.value for option in plan.options] for plan in plans])
        got = np.array([row[BITS.index(int(plan.best))] for row, plan in zip(loss, plans, strict=True)])
        gain, above, missed = loss[:, BITS.index(8)] - got, got - loss.min(1), np.abs(law - loss).mean(0)
        size, bits, off = (np.array([row[name] for part in measured[0][:2] for row in part]) for name in COLUMNS)
        title = f"{plans[0].best:g} bits a weight for a memory of {memory / 8e3:.0f} kB"
        series = [Series(f"{b} bits", size[bits == b], off[bits == b]) for b in BITS]
        return Outcome(
            effects=loss[:, -1] - got,
            checks={"the choice is within 0.02 nats of the best at that memory": above.mean() < 0.02},
            details={
                "bits": BITS, "chosen": [plan.best for plan in plans], "loss at the memory": loss,
                "by the law": law, "small models": columns, "students: bits": (2, 3, 4),
                "students: excess loss": taught[0].mean(0), "students: divergence of favourites": taught[1].mean(0),
            },
            notes=[
                f"gain over 8 bits {gain.mean():+.3f} ± {sem(gain):.3f} nats; "
                f"{above.mean():.3f} above the best precision",
                "error of the law: " + ", ".join(f"{b} bits {x:.3f}" for b, x in zip(BITS, missed, strict=True)),
                *remarks(*taught),
                "the law is of rounding after training; no diffusion model",
            ],
            figure=Figure(title, "bits of the model", "test loss, nats/token", series, log_x=True),
        )  # fmt: skip


def tokens(seed: int) -> tuple[Any, Any]:
    """Return which inputs are 1, [image, 32, 10], and the next token, [image, 32]; images in random order."""
    images, labels = shuffled_digits(np.random.default_rng(seed))
    pixels = (16 * images * LEVELS // 17).astype(int)
    target = pixels[:, ::2] * LEVELS + pixels[:, 1::2]
    padded = np.pad(target, ((0, 0), (WINDOW, 0)), constant_values=SYMBOLS)
    seen = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, :-1] + (SYMBOLS + 1) * np.arange(WINDOW)
    place = INPUTS - CLASSES - TOKENS + np.arange(TOKENS)
    rest = np.broadcast_arrays(place, INPUTS - CLASSES + labels[:, None])
    return np.concatenate([seen, np.stack(rest, -1)], -1), target


def network(inputs: Any, target: Any, width: int, steps: int, seed: int) -> Any:
    """Return an MLP of one hidden layer after its training on tokens: logits [n, 36] of inputs [n, 10]."""
    import torch
    from torch import nn

    from limbeck.papers._training import descend, draws, seeded

    def build() -> nn.Module:
        first = nn.EmbeddingBag.from_pretrained(torch.randn(INPUTS, width) / 3, freeze=False, mode="sum")
        return nn.Sequential(first, nn.ReLU(), nn.Linear(width, SYMBOLS))

    model = seeded(build, seed)
    order = draws(TRAIN, steps, 32, seed)
    descend(
        model, lambda images: token_loss(model, inputs[images], target[images]), order,
        learning_rate=6e-3, weight_decay=0.01, anneal=True,
    )  # fmt: skip
    return model


def token_loss(model: Any, inputs: Any, target: Any) -> Any:
    """Return the mean cross-entropy of the next tokens, nats."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(model(inputs.flatten(0, 1)), target.flatten())


def rounded(text: tuple[Any, Any], width: int, bits: Sequence[int], steps: int, seed: int) -> list[dict[str, float]]:
    """Train one MLP and return its test loss at each precision, with one 16-bit scale a unit; 16 is not rounded."""
    import torch

    from limbeck.papers._quantised_students import coarse

    inputs, target = (torch.from_numpy(values) for values in text)
    model, rows, held_out = network(inputs, target, width, steps, seed), [], slice(TRAIN, None)
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    for b in bits:
        model.load_state_dict(trained)
        with torch.no_grad():
            for name, value in coarse(model, b).items() if b != PRECISE else ():
                model.get_parameter(name).copy_(value)
            size = float(total_bits(width * (INPUTS + SYMBOLS), b, unquantised=width + 2 * SYMBOLS))
            loss = float(token_loss(model, inputs[held_out], target[held_out]))
        rows.append(dict(zip(COLUMNS, (size, b, loss), strict=True)))
    return rows
