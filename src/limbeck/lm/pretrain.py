"""Pretraining a tiny Llama on a corpus, as a job that a worker process can run.

A job is plain data, so it travels to a spawned process; it is idempotent (finished budgets return at once) and resumes
after a kill at any moment.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limbeck.lm.corpus import load_corpus
from limbeck.lm.jobs import claim, corpus_hash, records
from limbeck.lm.models import tiny_llama
from limbeck.lm.tokenizers import corpus_tokenizer, tokenize
from limbeck.lm.training import Regime, setup_columns, threads, train_text


@dataclass(frozen=True)
class PretrainJob:
    """One size and seed, for several token budgets on one trunk.

    Args:
        run: name in the run table; the budgets of one job are one run, a cluster to every resampling method.
        corpus: folder that `Corpus.save` wrote.
        out: folder of this job alone.
        width, layers, heads: of `tiny_llama`.
        budgets: tokens.
        seed: of initial weights and order.
        tokenizer: `byte`, or `bpe:1024`.
        regime: batch, schedule, optimiser.
    """

    run: str
    corpus: Path
    out: Path
    width: int
    budgets: tuple[int, ...]
    seed: int = 0
    layers: int = 2
    heads: int | None = None
    tokenizer: str = "byte"
    regime: Regime = field(default_factory=Regime)


def pretrain(job: PretrainJob, progress: bool = False) -> list[dict[str, Any]]:
    """Run a job on one thread; return its run records, shortest budget first.

    Args:
        job: what to train.
        progress: one line on a terminal.

    Raises:
        ConfigError: no corpus there, or a size that cannot be built.
        TrainingError: `job.out` holds another training; a loss is not finite.
    """
    settings = {key: value for key, value in asdict(job).items() if key not in ("corpus", "out", "budgets")}
    claim(job.out, settings | {"text": corpus_hash(job.corpus)})
    if rows := records(job.out, [job.regime.steps(budget) for budget in job.budgets]):
        return rows
    corpus = load_corpus(job.corpus)
    tokenizer = corpus_tokenizer(job.tokenizer, corpus, Path(job.corpus))

    def make() -> Any:
        return tiny_llama(
            job.width,
            layers=job.layers,
            heads=job.heads,
            vocabulary=len(tokenizer),
            context=job.regime.context,
            seed=job.seed,
        )

    with threads(1):
        return train_text(
            make,
            tokenize(corpus, tokenizer),
            tokenizer,
            job.budgets,
            job.out,
            regime=job.regime,
            seed=job.seed,
            columns=setup_columns(job.run, job.seed, f"llama-{job.layers}-layers", job.regime, tokenizer, corpus),
            progress=progress,
        )
