"""Distilling with few examples: which teacher, which questions, which of a teacher's answers.

A teacher is chosen by what a student learns from it in a short run, not by its own score; answers are checked before
they count, and every one that is dropped keeps its reason; hard questions and answers far from each other are kept, and
a choice is recommended only where it beats as many questions chosen at random.
(Wu, Jiang, Li et al., Beyond Scaling Law: A Data-Efficient Distillation Framework for Reasoning, 2025, arXiv
2508.09883; details that it leaves open are ours.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein
from scipy.stats import ttest_rel

from limbeck.errors import ConfigError
from limbeck.fitting.plain import Plain
from limbeck.lm.conversations import Example, collate
from limbeck.lm.pass_rates import Verifier, answer_text
from limbeck.lm.slots import counted_logits

Item = TypeVar("Item")
Trial = Callable[[Sequence[Item], int], float]
"""Trains the student on items with a seed, for a short while, and returns its score: the share of right answers."""
EXACT = 5000  # subsets that are tried one by one


def trace_distance(a: Sequence[Any], b: Sequence[Any], *, normalised: bool = False) -> float:
    """Levenshtein distance of two answers: fewest tokens to insert, delete or substitute.

    Args:
        a, b: tokens, or texts.
        normalised: divide by the longer one. The plain distance prefers long answers, this one short and odd ones.

    Example:
        >>> trace_distance("kitten", "sitting"), trace_distance("kitten", "sitting", normalised=True)
        (3.0, 0.42857142857142855)
    """
    return float((Levenshtein.normalized_distance if normalised else Levenshtein.distance)(a, b))


def farthest(traces: Sequence[Sequence[Any]], keep: int, *, normalised: bool = False) -> list[int]:
    """Choose the answers that are farthest from each other, by the sum of their distances.

    Exactly where there are at most 5000 subsets; else the farthest pair, then one by one what adds most. Of equals the
    first.

    Args:
        traces: right answers to one question.
        keep: how many; all where there are no more.
        normalised: see `trace_distance`.

    Returns:
        Their places, ascending.

    Example:
        >>> farthest(["1+2=3", "1+2=3.", "two and one: 3"], 2)
        [1, 2]
    """
    n = len(traces)
    if keep >= n:
        return list(range(n))
    apart = np.zeros((n, n))
    for i, j in combinations(range(n), 2):
        apart[i, j] = apart[j, i] = trace_distance(traces[i], traces[j], normalised=normalised)
    if comb(n, keep) <= EXACT:
        some = np.array(list(combinations(range(n), keep)), int)
        best: list[int] = some[apart[some[:, :, None], some[:, None]].sum((1, 2)).argmax()].tolist()
        return best
    chosen = [int(place) for place in np.unravel_index(apart.argmax(), apart.shape)][:keep]
    while len(chosen) < keep:
        gain = apart[:, chosen].sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
    return sorted(chosen)


def hardest(rates: ArrayLike, keep: float = 0.25, lengths: ArrayLike = 0) -> NDArray[np.int_]:
    """Places of the questions that the student passes least, ascending.

    Args:
        rates: its pass rates (`measure_pass_rates`).
        keep: share of the questions.
        lengths: of a right answer to each: of equal rates, the longer stays.

    Example:
        >>> hardest([1.0, 0.2, 0.6, 0.9], 0.5).tolist()
        [1, 2]
    """
    p = np.asarray(rates, float)
    order = np.lexsort((-np.broadcast_to(np.asarray(lengths), p.shape), p))
    return np.sort(order[: round(keep * len(p))])


def fault(
    example: Example, answer: Sequence[int], tokenizer: Any, verify: Verifier, *, longest: int = 16384,
    think: tuple[str, str] = ("<think>", "</think>"),
) -> str | None:  # fmt: skip
    """Say why an answer may not teach, or None: too long, its thinking not well marked, or wrong.

    Args:
        example: the question with its reference.
        answer: tokens.
        tokenizer: to read the marks.
        verify: judges the answer.
        longest: in tokens.
        think: marks around one block of thinking, which comes before the answer; empty for none.
    """
    if len(answer) > longest:
        return f"{len(answer)} tokens, more than {longest}"
    start, end = map(re.escape, think)
    text = answer_text(tokenizer, answer)
    well = re.fullmatch(
        rf"\s*{start}((?!{start}|{end}).)*{end}((?!{start}|{end}).)*\S((?!{start}|{end}).)*", text, re.S
    )
    if think[0] and not well:
        return "not one block of thinking and an answer"
    return None if verify(example, answer) else "wrong"


@torch.no_grad()
def token_entropy(model: Any, examples: Sequence[Example], at_once: int = 16) -> float:
    """Mean entropy of the student's prediction over the tokens of answers, nats: how surprising a corpus is to it.

    It explains a teacher's value (lower is better) and decides between equals; the selector is `smoke_test`.
    """
    total, count = 0.0, 0
    for start in range(0, len(examples), at_once):
        log_q = counted_logits(model, collate(examples[start : start + at_once])).float().log_softmax(-1)
        total, count = total - float((log_q.exp() * log_q).sum()), count + len(log_q)
    return total / max(1, count)


def latent_shift(before: ArrayLike, after: ArrayLike) -> float:
    """How far training moved the mean hidden state of a probe set, in the two main directions of both, [n, d] each.

    Example:
        >>> latent_shift([[0.0, 0.0], [2.0, 0.0]], [[3.0, 0.0], [5.0, 0.0]])
        3.0
    """
    both = np.stack([np.asarray(before, float), np.asarray(after, float)])
    flat = both.reshape(-1, both.shape[-1])
    directions = np.linalg.svd(flat - flat.mean(0), full_matrices=False)[2][:2]
    return float(np.linalg.norm(directions @ np.subtract(*both.mean(1))))


@dataclass(frozen=True)
class Choice(Plain):
    """What short runs say about several sets of examples.

    Args:
        scores: of the student by set, one for each seed.
        sizes: examples that each had.
        best: the set to take.
        reason: why.
    """

    scores: Mapping[str, Sequence[float]]
    sizes: Mapping[str, int]
    best: str
    reason: str

    def summary(self) -> str:
        """Return one line a set, and the choice."""
        rows = sorted(self.scores.items(), key=lambda row: -fmean(row[1]))
        error = {name: np.std(row) / max(1, len(row) - 1) ** 0.5 for name, row in rows}
        lines = [f"  {name:24} {fmean(row):.3f} ± {error[name]:.3f}  from {self.sizes[name]}" for name, row in rows]
        return "\n".join([f"{self.best}: {self.reason}", *lines])


def smoke_test(
    corpora: Mapping[str, Sequence[Item]], trial: Trial[Item], *, seeds: Sequence[int] = (0, 1, 2),
    entropy: Mapping[str, float] | None = None,
) -> Choice:  # fmt: skip
    """Choose a teacher by what the student learns from as many of its examples, trained and seeded alike.

    Args:
        corpora: what each teacher wrote to the same questions, filtered; cut to the smallest.
        trial: see `Trial`.
        seeds: of the trials.
        entropy: `token_entropy` of each corpus, which decides between equal scores.

    Raises:
        ConfigError: a teacher without examples.
    """
    size = min(map(len, corpora.values()), default=0)
    if not size:
        raise ConfigError(f"every teacher needs examples; got { ({name: len(one) for name, one in corpora.items()}) }")
    scores = {name: [trial(one[:size], seed) for seed in seeds] for name, one in corpora.items()}
    best = min(scores, key=lambda name: (-fmean(scores[name]), (entropy or {}).get(name, 0.0)))
    return Choice(scores, dict.fromkeys(scores, size), best, "the student learns most from it")


def try_questions(
    questions: Sequence[Item], kept: Sequence[int], trial: Trial[Item], *, seeds: Sequence[int] = (0, 1, 2)
) -> Choice:
    """Compare chosen questions with as many at random, and with all of them.

    The choice is recommended only where it beats the random subset by a paired t-test at 5 %.

    Args:
        questions: all.
        kept: places of the chosen ones, from `hardest` for instance.
        trial: see `Trial`.
        seeds: of the trials and of the random subsets; two at least.
    """
    every: dict[str, list[float]] = {"chosen": [], "random": [], "all": []}
    for seed in seeds:
        at = np.random.default_rng(seed).choice(len(questions), len(kept), replace=False)
        for name, places in (("chosen", kept), ("random", np.sort(at)), ("all", range(len(questions)))):
            every[name].append(trial([questions[k] for k in places], seed))
    p = float(ttest_rel(every["chosen"], every["random"], alternative="greater").pvalue)
    sizes = {"chosen": len(kept), "random": len(kept), "all": len(questions)}
    won = p < 0.05
    better = "beat" if won else "do not beat"
    reason = f"the chosen questions {better} as many at random (p = {p:.2g})"
    rest = max(("random", "all"), key=lambda name: fmean(every[name]))
    return Choice(every, sizes, "chosen" if won else rest, reason)
