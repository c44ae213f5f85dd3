from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from limbeck.errors import ConfigError
from limbeck.lm import Corpus, byte_tokenizer, get_tokenizer, load_tokenizer, tokenize, trained_tokenizer
from limbeck.lm.tokenizers import corpus_tokenizer, separator_token

BYTE = byte_tokenizer()


@given(st.text())
def test_bytes_are_their_own_ids(text: str) -> None:
    ids = BYTE(text, add_special_tokens=False)["input_ids"]
    assert ids == list(text.encode())
    assert BYTE.decode(ids) == text


def test_every_byte_has_its_own_token() -> None:
    assert sorted(BYTE.get_vocab().values()) == list(range(256))
    every = "".join(map(chr, range(128))) + "é日🎉\u0100\uffff"
    assert BYTE(every)["input_ids"] == list(every.encode())


def test_folder_is_complete_for_auto_tokenizer(tmp_path: Path) -> None:
    BYTE.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    text = "naïve\0\n  two  spaces 🎉"
    assert again(text)["input_ids"] == list(text.encode())
    assert again.decode(list(text.encode())) == text
    assert len(again) == 256


def test_bpe_is_trained_on_train_and_shorter(corpus: Corpus, tmp_path: Path) -> None:
    bpe = trained_tokenizer(corpus.train, 300)
    assert len(bpe) == 300
    text = "The lazy wizards, naïve 🎉\0"
    assert bpe.decode(bpe(text)["input_ids"]) == text
    stream, single = tokenize(corpus, bpe), tokenize(corpus, BYTE)
    assert len(stream.train) < 0.6 * len(single.train)
    assert stream.bytes_per_token == pytest.approx(len(corpus.validation) / len(stream.validation))
    bpe.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path)(text)["input_ids"] == bpe(text)["input_ids"]
    assert trained_tokenizer(corpus.train, 300).get_vocab() == bpe.get_vocab()


def test_stream_of_bytes_is_the_text(corpus: Corpus) -> None:
    stream = tokenize(corpus, BYTE)
    assert stream.train.astype(np.uint8).tobytes() == corpus.train
    assert stream.validation.astype(np.uint8).tobytes() == corpus.validation
    assert stream.bytes_per_token == 1
    assert separator_token(BYTE) == 0


def test_end_of_sequence_separates_where_there_is_one(corpus: Corpus) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<end>"})
    stream = tokenize(corpus, tokenizer)
    assert np.count_nonzero(stream.train == 256) == corpus.facts.train_documents - 1
    assert stream.train[-1] != 256


@pytest.mark.parametrize("name", ["bytes", "bpe", "bpe:x", "bpe:100"])
def test_unknown_names_are_refused(name: str, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"bpe:1024|at least 257"):
        get_tokenizer(name, corpus)


def test_a_trained_tokenizer_is_kept_beside_its_corpus(corpus: Corpus, tmp_path: Path) -> None:
    corpus.save(tmp_path)
    first = corpus_tokenizer("bpe:260", corpus, tmp_path)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"tokenizer-bpe-260"}
    kept = tmp_path / "tokenizer-bpe-260" / "tokenizer.json"
    written = kept.stat().st_mtime_ns
    assert corpus_tokenizer("bpe:260", corpus, tmp_path).get_vocab() == first.get_vocab()
    assert kept.stat().st_mtime_ns == written


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no tokenizer"):
        load_tokenizer(tmp_path)
