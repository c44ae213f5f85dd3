"""How to split a budget of parameters between the two parts of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limbeck.fitting.model import Array
from limbeck.laws.translation import PARTS, TwoPart, best_split
from limbeck.planning._search import root
from limbeck.planning.estimate import Ensemble, Estimate, Plan, Source, check_varied, outlook, positive
from limbeck.runs.quantities import si

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class TwoPartPlan(Plan):
    """The best split of k_e N_e + k_d N_d = budget.

    Args:
        budget: in the unit of the costs; parameters where both cost 1.
        encoder, decoder: sizes of the parts.
        share: part of the budget that the encoder gets.
        loss: of one run there, run-to-run noise included.
        penalty: loss at other shares of the encoder, minus that at the best one.
        level: nominal coverage.
        notes: reach and caveats, in words.
    """

    budget: float
    encoder: Estimate
    decoder: Estimate
    share: Estimate
    loss: Estimate
    penalty: dict[float, float]
    level: float
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        return [
            f"best split of {si(self.budget)} parameters",
            f"  encoder  {self.encoder.words('params', self.level)}",
            f"  decoder  {self.decoder.words('params', self.level)}",
            f"  share    {self.share.words('share', self.level)} to the encoder",
            f"  loss     {self.loss.words('loss', self.level)}",
            "  other shares cost " + ", ".join(f"{share:.0%}: +{more:.3f}" for share, more in self.penalty.items()),
        ]


def allocate_two_parts(
    source: Source, budget: float, *, cost: tuple[float, float] = (1.0, 1.0), level: float = 0.8
) -> TwoPartPlan:
    """Return the sizes of encoder and decoder with the least loss on k_e N_e + k_d N_d = budget.

    In closed form for the product law; for the additive law the root of p_e a N_e^(-p_e - 1)/k_e = p_d b N_d^(-p_d -
    1)/k_d.

    Args:
        source: a fit of `two-part` or `two-part-sum`, or published constants.
        budget: in the unit of the costs.
        cost: k_e and k_d of one parameter: 1 and 2 where a decoder runs twice as long.
        level: nominal coverage.

    Raises:
        PlanningError: the law does not read both sizes, or a budget or cost is not positive.

    Source: derived from Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740).

    Example:
        >>> from limbeck.laws import Published, TwoPart
        >>> law, p = TwoPart(1e8, 1e8), {"alpha": 0.5, "p_e": 0.1, "p_d": 0.3, "L_inf": 1.0}
        >>> round(allocate_two_parts(Published(law, p, law.source, "an example"), 8e8).share.value, 3)
        0.25
    """
    positive(budget=budget, cost_of_the_encoder=cost[0], cost_of_the_decoder=cost[1])
    check_varied(source, *PARTS)
    rows = Ensemble.of(source, *PARTS)
    p = rows.parameters
    if isinstance(rows.model, TwoPart):
        encoder = best_split(p["p_e"], p["p_d"], budget, cost)[0]
    else:

        def excess(share: Array) -> Array:
            gain = np.log(p["p_e"] * p["a"] / cost[0]) - (p["p_e"] + 1) * np.log(share * budget / cost[0])
            other = np.log(p["p_d"] * p["b"] / cost[1]) - (p["p_d"] + 1) * np.log((1 - share) * budget / cost[1])
            return other - gain

        encoder = root(excess, np.zeros((len(rows), 1)), np.ones((len(rows), 1))) * budget / cost[0]
    encoder = encoder[:, 0]
    decoder = (budget - cost[0] * encoder) / cost[1]
    at = outlook(source, level, encoder_params=float(encoder[0]), decoder_params=float(decoder[0]))
    f = np.array(SHARES)
    curve = source.value(encoder_params=f * budget / cost[0], decoder_params=(1 - f) * budget / cost[1])
    best = float(source.value(encoder_params=encoder[0], decoder_params=decoder[0]))
    first, second, share = Estimate.each(level, encoder, decoder, cost[0] * encoder / budget)
    penalty = dict(zip(SHARES, (curve - best).tolist(), strict=True))
    return TwoPartPlan(float(budget), first, second, share, at.loss, penalty, level, (at.note,))
