"""A survey of on-policy distillation: which divergence, and which estimator of its gradient on what a student wrote.

A bell curve on a grid, too simple for its teacher of two peaks, is fitted under every divergence; the best of five
starts counts. A Markov chain over 8 tokens writes sequences of 6; the gradient of the divergence between sequences is
known exactly, and every estimator makes one estimate from each of 1500 sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

SEEKERS = ("reverse_kl", "generalized_jsd", "total_variation", "skew_forward_kl", "skew_reverse_kl", "alpha_divergence")
DIVERGENCES = ("forward_kl", "entropy_aware_kl", "jeffreys", "todi", *SEEKERS)
STARTS = ((2.0, -1.0), (-2.0, -1.0), (0.0, 1.0), (-1.0, 0.5), (1.0, 0.5))
"""Of the bell curve: middle and log of the width; the first is the teacher's smaller peak."""
ESTIMATORS = ("reinforce", "to_go", "minillm", "to_go, baseline", "sampled", "full")
"""The last two hold prefixes fixed."""
TOKENS, LENGTH, SEQUENCES = 8, 6, 1500


class OnPolicyDistillationSurvey(Paper):
    """A bell curve under ten divergences, and a Markov chain under six estimators."""

    source = Source("A Survey of On-Policy Distillation for Large Language Models", "Song, Zheng", 2026, "2604.00626")
    claim = "Forward KL covers the teacher, reverse KL seeks its peak; whole vocabularies are less noisy than samples."
    metric = "log10 of the variance of a gradient from sampled tokens over that from whole vocabularies"
    baseline = "sampled tokens"
    extras = ("lm",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the curves, variances, the length of the gradient and that of what fixed prefixes miss."""
        import torch

        from limbeck.distill import reverse_kl
        from limbeck.lm import future_returns, sequence_kl

        draw, mask = torch.Generator().manual_seed(seed), torch.ones(SEQUENCES, LENGTH, dtype=torch.bool)
        logits, guide = torch.randn(2, TOKENS, TOKENS, generator=draw).double()
        log_p, states = guide.log_softmax(-1), torch.zeros(2 * SEQUENCES, LENGTH + 1, dtype=torch.int64)
        for t in range(LENGTH):
            states[:, t + 1] = logits.softmax(-1)[states[:, t]].multinomial(1, generator=draw)[:, 0]
        (other, at), (after, tokens) = states[:, :-1].chunk(2), states[:, 1:].chunk(2)
        mean = future_returns((logits.log_softmax(-1) - log_p)[other, after], mask).mean(0)

        def divergence(q: Any, w: Any) -> Any:
            return sum(w.softmax(-1).matrix_power(t)[0] for t in range(LENGTH)) @ reverse_kl(q, guide, reduction="none")

        def estimate(q: Any, way: str) -> Any:
            said: Any = q.log_softmax(-1)[at], log_p[at], tokens, mask
            return sequence_kl(*said, estimator=way.split(",")[0], baseline=mean * ("," in way)).sum(1)  # type: ignore

        noise = [float(torch.func.jacfwd(estimate)(logits, way).var(0).sum()) for way in ESTIMATORS]
        ours, miss = torch.func.grad(divergence, (0, 1))(logits, logits)
        return {**shapes(seed), "noise": noise, "size": float((ours + miss).norm()), "bias": float(miss.norm())}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare shapes and variances, and tell how many sequences make up for a bias."""
        valley, side, noise, size, bias = stacked(measured, "valley", "side", "noise", "size", "bias")
        equal, n = (noise[:, 3] - noise[:, 5]) / bias**2, np.geomspace(1, 3000, 30)
        error = [(np.sqrt(v / n[:, None] + (k > 3) * bias**2) / size).mean(1) for k, v in enumerate(noise.T)]
        few, missing, stuck = np.median(equal), 100 * bias / size, np.array(DIVERGENCES)[side[:, 1].mean(0)[1:] < 0.5]
        title = f"Up to {few:.0f} sequences a step whole vocabularies come nearest to the true gradient"
        lines = [Series(way, n, one, kind="line") for way, one in zip(ESTIMATORS, error, strict=True)]
        return Outcome(
            effects=np.log10(noise[:, 4] / noise[:, 5]),
            checks={
                f"in every seed variance falls along {'; '.join(ESTIMATORS)}": np.diff(noise) < 0,
                "forward KL fills the valley": valley[:, 0, 1] > 10 * valley[:, 0, 0],
                f"the larger peak alone is left by {', '.join(SEEKERS)}": side[:, 0, -len(SEEKERS) :] > 0.95,
            },
            details={"valley": valley.mean(0)[0], "side": side.mean(0)[0], "variance": noise.mean(0), "equal": equal},
            notes=[
                f"sampled and full hold prefixes fixed and miss {missing.mean():.0f} ± {sem(missing):.0f} % of the "
                f"gradient, which to_go with a baseline makes up for from {few:.0f} sequences on (median)",
                f"stuck where they start at the smaller peak: {', '.join(stuck)}",
            ],
            figure=Figure(title, "sequences a step", "relative error of the gradient", lines, True, True),
        )  # fmt: skip


def shapes(seed: int) -> Numbers:
    """Return mass in the valley and on the larger peak's side [best or first start, teacher and divergences]."""
    import torch

    from limbeck.distill import get_loss
    from limbeck.papers._training import descend

    x, at = torch.linspace(-6, 6, 61), torch.nn.Parameter(torch.tensor(STARTS).repeat(len(DIVERGENCES), 1, 1))
    share, width, away = np.random.default_rng(seed).uniform((0.6, 0.32, 1.9), (0.7, 0.38, 2.1))
    large, small = (torch.exp(-(((x + peak) / width) ** 2) / 2) for peak in (away, -away))
    teacher = (share * large + (1 - share) * small).log().expand(len(STARTS), -1)

    def fitted() -> tuple[torch.Tensor, torch.Tensor]:
        logits = -(((x - at[..., :1]) / at[..., 1:].exp()) ** 2) / 2  # [divergence, start, x]
        losses = [get_loss(name).function for name in DIVERGENCES]
        return logits, torch.stack([loss(logits[k], teacher, reduction="none") for k, loss in enumerate(losses)])

    descend(torch.nn.ParameterList([at]), lambda _: fitted()[1].sum(), torch.zeros(150), learning_rate=0.1)
    z, values = (one.detach() for one in fitted())
    p = torch.cat([teacher[:2, None], torch.stack([z[range(len(at)), values.argmin(1)], z[:, 0]])], 1).softmax(-1)
    return {"valley": p[..., x.abs() < 1].sum(-1).numpy(), "side": p[..., x < 0].sum(-1).numpy()}
