"""Errors that a user can act on.

Every error that limbeck raises for a user's mistake is a `LimbeckError`: it says what was given, what was expected
and what to do. The command line prints its text on standard error and exits with code 2; `--debug` shows the
traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LimbeckError(Exception):
    """A mistake that the user can correct.

    Args:
        message: one sentence with the value given and the value expected; further lines list details (bad rows,
        choices).
    """


class RunsError(LimbeckError):
    """A run table cannot be read or used: missing columns, bad rows, mixed setups."""


class FittingError(LimbeckError):
    """A law cannot be fitted or evaluated: too few points, unknown parameters, no finite start."""


class MisalignedError(FittingError):
    """A task's score says nothing about larger scales: its curve falls, or does not beat the baseline."""


class PlanningError(LimbeckError):
    """A decision is infeasible or outside what the fitted law can say."""


class ConfigError(LimbeckError):
    """A recipe or study file has an unknown key, a wrong value or a missing path."""


class TrainingError(LimbeckError):
    """A training cannot start or go on: NaN loss, a checkpoint that does not fit, incompatible vocabularies."""


class MissingExtraError(LimbeckError):
    """An optional package is needed.

    Args:
        package: the import name that is missing.
        extra: the extra of limbeck that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed. Install it with: pip install 'limbeck[{extra}]'")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint with the nearest valid name, or an empty string.

    Example:
        >>> nearest("chinchila", ["kaplan", "chinchilla"])
        ' Did you mean "chinchilla"?'
        >>> nearest("zebra", ["kaplan"])
        ''
    """
    close = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f' Did you mean "{close[0]}"?' if close else ""
