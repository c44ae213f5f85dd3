"""A small text, its tokens, and tiny models, shared by the tests of the room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from limbeck.lm import Corpus, Document, build_corpus

TEXT = "the quick brown fox jumps over a lazy dog while seven wizards boil strange liquids in copper vessels"
WORDS = TEXT.split(" ")


def write_sentences(seed: int, count: int) -> str:
    """Reproducible text with some structure: short sentences over eighteen words."""
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(WORDS), (count, 6), generator=generator).tolist()
    return "\n".join(" ".join(WORDS[pick] for pick in row).capitalize() + "." for row in picks)


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Bit-for-bit comparisons and a shared machine: one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """60 documents of about 600 characters."""
    return build_corpus([Document(f"doc{index}", write_sentences(index, 17)) for index in range(60)], "test sentences")


@pytest.fixture(scope="session")
def corpus_folder(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, saved."""
    return corpus.save(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def sentences() -> Callable[[int, int], str]:
    """`sentences(seed, count)` gives that many sentences."""
    return write_sentences
