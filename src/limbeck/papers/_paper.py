"""What a paper's file defines, and how it is found."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import process_time
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from limbeck.errors import ConfigError, nearest
from limbeck.fitting.plain import plain
from limbeck.papers._figure import Figure
from limbeck.papers._reproduction import Reproduction

if TYPE_CHECKING:
    from limbeck.laws import Source

QUICK_SEEDS = 3
Numbers = dict[str, Any]
"""What one seed measured, by name."""


@dataclass(frozen=True)
class Outcome:
    """What all seeds together say; the arguments are those of `Reproduction`.

    A check may be an array, all of which must be true; details may be arrays of numbers.
    """

    effects: Iterable[float]
    checks: Mapping[str, Any] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    figure: Figure | None = None


class Paper(ABC):
    """A paper's claim and the experiment that tests it. A new paper is one new file in this package with one subclass.

    The file must not import torch, scikit-learn or another extra at its top: listing the papers reads every file.
    """

    slug: ClassVar[str]
    """Name on the command line: that of the file."""
    source: ClassVar[Source]
    """The paper."""
    claim: ClassVar[str]
    """What it claims, in one sentence."""
    metric: ClassVar[str]
    """What an effect is; positive in the direction of the claim."""
    unit: ClassVar[str] = ""
    """Of the effect."""
    baseline: ClassVar[str]
    """What the effect is measured against, in a few words."""
    extras: ClassVar[tuple[str, ...]] = ()
    """Extras of limbeck that the experiment needs."""
    seeds: ClassVar[int] = 3
    """Seeds of a full run; a quick run uses at most three."""

    def __init_subclass__(cls) -> None:
        cls.slug = cls.__dict__.get("slug") or cls.__module__.rpartition(".")[2].replace("_", "-")

    @abstractmethod
    def measure(self, seed: int, quick: bool) -> Any:
        """Run the experiment once, on one core, and return its numbers (values that pickle).

        Args:
            seed: decides every random choice.
            quick: cut the experiment down to a few seconds; still the same experiment.
        """

    @abstractmethod
    def conclude(self, measured: Sequence[Any]) -> Outcome:
        """Draw the effect from what every seed measured, in the order of the seeds. Light work: no training."""

    def choose_seeds(self, quick: bool, seeds: Sequence[int] | None = None) -> tuple[int, ...]:
        """Return the given seeds, or 0, 1, ... as many as the run needs."""
        if seeds is not None:
            return tuple(dict.fromkeys(seeds))
        return tuple(range(min(self.seeds, QUICK_SEEDS) if quick else self.seeds))

    def run(self, quick: bool = False, seeds: Sequence[int] | None = None) -> Reproduction:
        """Measure and conclude in this process; an error is raised, not recorded."""
        chosen, began = self.choose_seeds(quick, seeds), process_time()
        measured = [self.measure(seed, quick) for seed in chosen]
        return self.report(self.conclude(measured), chosen, quick, process_time() - began)

    def report(
        self, outcome: Outcome, seeds: tuple[int, ...], quick: bool, seconds: float, error: str | None = None
    ) -> Reproduction:
        """Return the record of an outcome."""
        said = {name: getattr(self, name) for name in ("slug", "claim", "baseline", "metric", "unit")}
        return Reproduction(
            **said, title=self.source.title, seeds=seeds, quick=quick, seconds=seconds, error=error,
            effects=tuple(map(float, outcome.effects)), notes=tuple(outcome.notes), figure=outcome.figure,
            checks={check: bool(np.all(passed)) for check, passed in outcome.checks.items()},
            details=plain(outcome.details),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return what a list of papers shows, as JSON values."""
        source = {name: getattr(self.source, name) for name in ("title", "authors", "year", "arxiv")}
        return {"slug": self.slug, **source, "claim": self.claim, "baseline": self.baseline, "extras": [*self.extras]}


def stacked(measured: Sequence[Numbers], *names: str) -> list[Any]:
    """Return what the seeds measured under each name as one array, [seed, ...].

    Example:
        >>> (loss,) = stacked([{"loss": [1.0, 2.0]}, {"loss": [3.0, 4.0]}], "loss")
        >>> loss.mean(0).tolist()
        [2.0, 3.0]
    """
    return [np.array([one[name] for one in measured]) for name in names]


@cache
def papers() -> Mapping[str, Paper]:
    """Return every paper by its slug, sorted: one for each public module of this package."""
    package = importlib.import_module("limbeck.papers")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"limbeck.papers.{module.name}")
    found = [kind() for kind in Paper.__subclasses__() if kind.__module__.startswith("limbeck.papers.")]
    return {paper.slug: paper for paper in sorted(found, key=lambda paper: paper.slug)}


def catalogue() -> list[dict[str, Any]]:
    """Return what a list of the papers shows, one dictionary of JSON values each."""
    return [paper.to_dict() for paper in papers().values()]


def get(slug: str) -> Paper:
    """Return the paper of a slug.

    Raises:
        ConfigError: no paper has this slug; the message offers the nearest one.
    """
    if slug not in papers():
        hint = f"{nearest(slug, papers())} (limbeck reproduce --list names all {len(papers())})"
        raise ConfigError(f'unknown paper "{slug}".{hint}')
    return papers()[slug]
