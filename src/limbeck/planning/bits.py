"""How many bits per weight: a small precise model, or a large coarse one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting import Fit
from limbeck.laws import BitLevel, Precision, critical_tokens
from limbeck.planning.estimate import Ensemble, Estimate, Plan, Source, outlook
from limbeck.runs.quantities import quantity, si


@dataclass(frozen=True)
class BitOption:
    """One precision.

    Args:
        bits: per weight.
        params: weights of the model.
        loss: of one such model, run-to-run noise included.
        best_in: share of the draws in which it is the best option; None without draws.
        critical_tokens: data beyond which more training makes it worse; None where the law does not know.
    """

    bits: float
    params: float
    loss: Estimate
    best_in: float | None = None
    critical_tokens: Estimate | None = None


@dataclass(frozen=True)
class BitPlan(Plan):
    """What each precision would give.

    Args:
        options: by bits, increasing.
        best: bits of the option with the least loss.
        level: nominal coverage of the intervals.
        notes: the verdict, reach and caveats, in words.
    """

    options: tuple[BitOption, ...]
    best: float
    level: float
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        lines = [f"{'bits':>6}  {'model':<18}{f'loss ({100 * self.level:.0f} %)':<18}{'best in':>8}"]
        lines[0] += "   more data hurts beyond" * (self.options[0].critical_tokens is not None)
        for o in self.options:
            share = "" if o.best_in is None else f"{100 * o.best_in:.0f} %"
            data = "" if o.critical_tokens is None else f"{si(o.critical_tokens.value)} tokens"
            model, mark = quantity("params", o.params), "← best" * (o.bits == self.best)
            lines.append(f"{o.bits:>6g}  {model:<18}{o.loss.plus_minus():<18}{share:>8}   {data:<16}{mark}".rstrip())
        return lines


def choose_bits(
    source: Source, *, total_bits: float | None = None, params: float | None = None, tokens: float | None = None,
    bits: Sequence[float] | None = None, level: float = 0.8,
) -> BitPlan:  # fmt: skip
    """Compare precisions: at a budget of bits, which buys total_bits / b weights, or for one size of model.

    Args:
        source: a fit of `bit-level` or of `precision`. With `post` the precisions are those after a training at the
            largest ones of the runs; without, those of the training.
        total_bits: memory of the weights, bits; or
        params: weights of the model.
        tokens: training data, which `precision` reads.
        bits: precisions to compare; those of the runs by default.
        level: nominal coverage.

    Raises:
        PlanningError: another law, both or neither of total_bits and params, no tokens where the law reads them, a
            precision that the runs of `bit-level` do not have, or a number that is not positive.

    Source: Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models (Ding et al., 2025, arXiv
    2501.06218), reconstructed; Scaling Laws for Precision (Kumar et al., 2024, arXiv 2411.04330).

    Example:
        >>> from limbeck.laws import BitLevel, Published
        >>> p = {"E": 2.0, "x4": 1e6, "x8": 1.5e6, "alpha": 0.3}
        >>> plan = choose_bits(Published(BitLevel((4, 8)), p, BitLevel.source, "no table"), total_bits=1e10)
        >>> plan.best, [round(o.params / 1e9, 2) for o in plan.options]
        (4.0, [2.5, 1.25])
    """
    law, seen = source.model, source.data.columns if isinstance(source, Fit) else {}
    if not isinstance(law, BitLevel | Precision):
        raise PlanningError(f"bits are chosen by a fit of bit-level or precision; this is a fit of {law.name}.")
    if (total_bits is None) == (params is None):
        raise PlanningError("give the memory of the weights or the size of the model, one of the two.")
    if "tokens" in law.columns and tokens is None:
        raise PlanningError("the law precision reads tokens: give the training data of the model.")
    varied = law.trained if isinstance(law, Precision) and not law.post else law.columns[-1:]
    known = law.levels if isinstance(law, BitLevel) else tuple(np.unique(seen.get(varied[0], ())))
    chosen = sorted(map(float, known if bits is None else bits))
    if isinstance(law, BitLevel) and not set(chosen) <= set(known):
        raise PlanningError(f"the runs have {', '.join(f'{b:g}' for b in known)} bits: no curve for others.")
    given = [value for value in (total_bits, params, tokens, *chosen) if value is not None]
    if not chosen or min(given) <= 0:
        raise PlanningError(f"memory, size, tokens and bits must be positive; got {', '.join(map(str, given))}.")

    rows, options = Ensemble.of(source, *law.columns), []
    p = SimpleNamespace(**{name: row[:, 0] for name, row in rows.parameters.items()})
    losses, notes = np.empty((len(chosen), len(rows))), []
    for k, b in enumerate(chosen):
        size = float(total_bits) / b if total_bits is not None else float(params or 0.0)
        told = {"params": size, "tokens": tokens, "total_bits": size * b, **dict.fromkeys(varied, b)}
        setting = {name: float(told.get(name) or np.max(seen.get(name, 16.0))) for name in law.columns}
        losses[k] = rows.loss(**setting)[:, 0]
        look, post = outlook(source, level, **setting), "post_bits" in varied
        most = Estimate.of(critical_tokens(p, size, b), level) if post else None
        options.append(BitOption(b, size, look.loss, None, most))
        notes.append(f"{b:g} bits: {look.note}")
    best, verdict = int(losses[:, 0].argmin()), []
    if len(rows) > 1:
        shares = [float(np.mean(losses[:, 1:].argmin(0) == k)) for k in range(len(chosen))]
        options = [replace(option, best_in=share) for option, share in zip(options, shares, strict=True)]
        if shares[best] < 0.9:
            verdict = ["these runs do not decide which precision is best: add larger models at the best ones"]
    if tokens is not None and "tokens" not in law.columns:
        verdict.append(f"the law {law.name} does not read tokens: another number of them changes nothing here")
    return BitPlan(tuple(options), chosen[best], level, (notes[best], *verdict))
