from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import ConfigError
from limbeck.lm import Corpus, Document, build_corpus, embedded_corpus, load_corpus, text_corpus
from limbeck.lm.corpus import _without_repeats, leak_share


@pytest.fixture(scope="module")
def embedded() -> Corpus:
    return embedded_corpus()


def test_embedded_corpus_has_its_known_size(embedded: Corpus) -> None:
    facts = embedded.facts
    assert facts.train_bytes + facts.validation_bytes == len(embedded.train) + len(embedded.validation)
    assert facts.train_bytes == pytest.approx(1.92e6, rel=0.1)
    assert 0.06 < facts.validation_bytes / facts.train_bytes < 0.085
    assert facts.leak_share < 0.03
    assert facts.warning is None
    if platform.python_version() == "3.11.7":  # the only version whose exact text is known
        assert (facts.train_documents, facts.validation_documents) == (523, 59)
        assert (facts.train_bytes, facts.validation_bytes) == (1_911_046, 142_901)
        assert facts.leak_share == pytest.approx(32 / 2858)


def test_embedded_corpus_is_english_and_keeps_documents_apart(embedded: Corpus) -> None:
    assert b"assert" in embedded.train and b"Return " in embedded.train
    assert embedded.train.count(b"\0") == embedded.facts.train_documents - 1
    train = set(embedded.train.split(b"\0"))
    assert not train & set(embedded.validation.split(b"\0"))


def test_repeated_paragraphs_stay_at_their_first_place_only() -> None:
    long = "a paragraph of more than twenty-four characters"
    documents = [
        Document("a", f"{long}\n\nshort\n\n{'first document ' * 4}"),
        Document("b", f"{long.replace(' ', '  ')}\n\nshort\n\n{'second document ' * 4}"),
        Document("c", f"{long}\n\ntoo short alone"),
    ]
    kept = _without_repeats(documents)
    assert [document.id for document in kept] == ["a", "b"]
    assert long in kept[0].text and "paragraph" not in kept[1].text
    assert all("short" in document.text for document in kept)


def test_split_follows_the_hash_of_the_ids() -> None:
    documents = [Document(f"d{index}", f"{index:04d}" * 25) for index in range(200)]
    corpus = build_corpus(documents, "numbers")
    ordered = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())
    assert corpus.validation.decode().split("\0") == [document.text for document in ordered[:12]]  # 6 % of 200
    assert corpus.facts.sha256 == hashlib.sha256(corpus.train).hexdigest()
    assert corpus == build_corpus(documents[::-1], "numbers")


def test_a_large_document_never_validates() -> None:
    documents = [Document(f"d{index}", "x" * 100) for index in range(100)] + [Document("large", "y" * 1000)]
    assert b"y" not in build_corpus(documents, "").validation


def test_leak_counts_verbatim_pieces() -> None:
    assert leak_share(b"0123456789", b"0123xx45", width=2) == pytest.approx(3 / 4)
    assert leak_share(b"abc", b"", width=2) == 0 == leak_share(b"", b"abc", width=2)


@given(st.text("ab\0", min_size=20), st.text("ab\0", min_size=6))
def test_leak_agrees_with_a_search(train: str, validation: str) -> None:
    pieces = [validation.encode()[index : index + 5] for index in range(0, len(validation) - 4, 5)]
    expected = sum(piece in train.encode() for piece in pieces) / len(pieces)
    assert leak_share(train.encode(), validation.encode(), width=5) == pytest.approx(expected)


def test_corpus_survives_the_disk(corpus: Corpus, tmp_path: Path) -> None:
    assert load_corpus(corpus.save(tmp_path)) == corpus
    (tmp_path / "train.bin").write_bytes(b"other")
    with pytest.raises(ConfigError, match="does not match the hash"):
        load_corpus(tmp_path)
    with pytest.raises(ConfigError, match=r"corpus\.json is missing"):
        load_corpus(tmp_path / "nowhere")


def test_text_and_jsonl_are_read(tmp_path: Path, sentences: Callable[[int, int], str]) -> None:
    text = "\n\n".join(sentences(index, 10) for index in range(60))
    (tmp_path / "book.txt").write_text(text)
    plain = text_corpus(tmp_path / "book.txt")
    assert sorted((plain.train + b"\0" + plain.validation).replace(b"\0", b"\n\n")) == sorted(text.encode())
    assert (
        plain.facts.warning is not None and "below 1 MB" in plain.facts.warning and "warning" in plain.facts.summary()
    )

    rows = "".join(json.dumps({"id": i, "body": sentences(i, 10)}) + "\n" for i in range(60))
    (tmp_path / "rows.jsonl").write_text(rows)
    assert text_corpus(tmp_path / "rows.jsonl", field="body").facts.train_bytes > 15_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.txt", None, "does not exist"),
        ("empty.txt", b" \n", "is empty"),
        ("binary.bin", b"abc\0" * 9000, r"binary file \(byte 3 is 0\)"),
        ("latin.txt", "né".encode("latin-1") * 9000, r"not UTF-8 text \(byte 1 is 0xe9\)"),
        ("short.txt", b"a few words", "holds 11 characters of text: at least 10000"),
        ("whole.txt", b"x" * 20_000, "leave nothing to validate on"),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"txt": "y", "id": 1}\n',
            r'line 2: no text in field "text" \(the row has: txt, id\)',
        ),
        ("b.jsonl", b'{"text": "x"}\nnot json\n', "line 2: not a JSON object"),
    ],
)
def test_unusable_files_are_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        text_corpus(path)
    assert name in str(caught.value)
