"""Pretraining a tiny Llama on a corpus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.distill.regime import cpu_threads
from limbeck.lm.corpus import load_corpus
from limbeck.lm.folders import claim, corpus_hash, records
from limbeck.lm.jobs import PretrainJob
from limbeck.lm.models import tiny_llama
from limbeck.lm.tokenizers import corpus_tokenizer, tokenize
from limbeck.lm.training import setup_columns, train_text


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

    with cpu_threads(1):
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
