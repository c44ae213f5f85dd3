"""What a design can tell at all, before any fit: constant columns, columns that move together, few configurations."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from limbeck.errors import FittingError
from limbeck.fitting.data import Data
from limbeck.fitting.model import Model

TOGETHER = 3e-3
"""Columns move together where their standardised logarithms vary less than this across the line they lie on."""


@dataclass(frozen=True)
class Design:
    """The columns of a data set, as far as they leave something untold.

    Args:
        constant: columns with one value in all runs, and that value.
        line: columns that move together, with their powers in a product that hardly varies; empty where there are none.
    """

    constant: dict[str, float]
    line: dict[str, float]

    @staticmethod
    def of(data: Data, dependent: Collection[str] = ()) -> Design:
        """Look at the columns of a data set, without those that follow from one another."""
        logs = {name: np.log(v) if (v > 0).all() else v for name, v in data.columns.items() if name not in dependent}
        still = [name for name, v in logs.items() if np.ptp(v) <= 1e-6 * max(1.0, float(np.abs(v).max()))]
        constant = {name: float(data.columns[name][0]) for name in still}
        names = [name for name in logs if name not in constant]
        if len(names) < 2:
            return Design(constant, {})
        centred = np.stack([logs[name] - logs[name].mean() for name in names], 1)
        length = np.linalg.norm(centred, axis=0)
        _, singular, right = np.linalg.svd(centred / length, full_matrices=False)
        if singular[-1] > TOGETHER * singular[0]:
            return Design(constant, {})
        powers = right[-1] / length
        powers /= powers[np.argmax(np.abs(powers))]
        line = zip(names, powers.tolist(), strict=True)
        return Design(constant, {name: power for name, power in line if abs(power) > 1e-2})

    def words(self) -> list[str]:
        """Return each gap with a next step.

        Example:
            >>> Design({"bits": 16.0}, {"params": -1.0, "tokens": 1.0}).words()[1]
            'tokens / params hardly varies: params and tokens cannot be told apart; add runs off this line.'
        """
        words = [
            f"{name} is {value:.4g} in all runs: its effect is not identified; add runs with another {name}."
            for name, value in self.constant.items()
        ]
        if self.line:
            up, down = ({n: p * sign for n, p in self.line.items() if p * sign > 0} for sign in (1, -1))
            product = " / ".join(_product(part) for part in (up, down) if part)
            together = " and ".join(self.line)
            words.append(f"{product} hardly varies: {together} cannot be told apart; add runs off this line.")
        return words

    def untold(self, model: Model, free: Collection[str]) -> set[str]:
        """Return the free parameters that this design cannot identify.

        They are those of constant columns, and those of columns that move together where more than one of these has
        any. A parameter belongs to the column that its dimension names, and so does the exponent in it.
        """
        owners: dict[str, set[str]] = {}
        for parameter in model.parameters:
            for column, power in parameter.dimension.items():
                owners.setdefault(column, set()).update({parameter.name, str(power)} & set(free))
        lost = [owners.get(column, set()) for column in self.constant]
        moving = [owners[column] for column in self.line if owners.get(column)]
        return set().union(*lost, *(moving if len(moving) > 1 else []))


def _product(powers: dict[str, float]) -> str:
    return " · ".join(name if abs(power - 1) < 0.01 else f"{name}^{power:.2g}" for name, power in powers.items())


def check_distinct(model: Model, data: Data, free: int) -> None:
    """Refuse data with fewer distinct configurations than free parameters: infinitely many optima fit them exactly.

    Raises:
        FittingError: so it is.
    """
    distinct = len(np.unique(data.design[data.weights > 0], axis=0))
    if distinct < free:
        raise FittingError(
            f"{model.name} has {free} free parameters and there are {distinct} distinct configurations "
            f"({', '.join(model.columns)}) in {len(data)} points. Add runs, fix parameters (fixed=...) or give priors."
        )
