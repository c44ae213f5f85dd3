"""The text: real English that every Python has (its documentation topics and docstrings), or the user's own file.

A corpus is two byte strings, train and validation, each made of whole documents joined by byte 0, with the facts a
reader needs to judge a loss measured on it. Losses are comparable only between corpora with the same hash: the
standard library's text differs a little between Python versions.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pydoc_data.topics
import re
import sys
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError

SEPARATOR = b"\0"
VALIDATION_SHARE = 0.06
LARGEST_SHARE = 0.02  # no validation document may hold more of the text than this
SHORTEST_REPEAT = 24  # characters; shorter paragraphs ("See also:") may occur many times
SHORTEST_DOCUMENT = 64
MINIMUM_BYTES = 10_000
COMFORTABLE_BYTES = 1_000_000
HASH_BASE = np.uint64(0x9E3779B97F4A7C15)
HASHED_AT_ONCE = 2**16  # fits a cache
SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "lib2to3", "pydoc_data", "ensurepip"}
SKIPPED |= {"turtledemo", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """A piece of text that stays on one side of the split.

    Args:
        id: stable name; its hash decides the side.
        text: the characters.
    """

    id: str
    text: str


@dataclass(frozen=True)
class CorpusFacts:
    """What to know about a corpus before reading a loss measured on it.

    Args:
        source: where the text comes from.
        train_documents, validation_documents: counts.
        train_bytes, validation_bytes: UTF-8 lengths, separators included.
        sha256: hash of the train bytes; part of every run record.
        leak_share: share of disjoint 50-byte pieces of the validation text that occur verbatim in train.
        warning: what may go wrong with this text, or None.
    """

    source: str
    train_documents: int
    validation_documents: int
    train_bytes: int
    validation_bytes: int
    sha256: str
    leak_share: float
    warning: str | None = None

    def summary(self) -> str:
        """One paragraph of plain text."""
        lines = [
            f"{(self.train_bytes + self.validation_bytes) / 1e6:.2f} MB of {self.source}, "
            f"{self.train_documents} documents to train on, {self.validation_documents} to validate; "
            f"{100 * self.leak_share:.1f} % of the validation text also occurs in train (sha256 {self.sha256[:12]})"
        ]
        return "\n".join([*lines, f"warning: {self.warning}"] if self.warning else lines)


@dataclass(frozen=True)
class Corpus:
    """Train and validation text with its facts.

    Args:
        train, validation: UTF-8 bytes, documents joined by byte 0.
        facts: the numbers to print and record.
    """

    train: bytes
    validation: bytes
    facts: CorpusFacts

    def save(self, folder: Path | str) -> Path:
        """Write the corpus to a folder that `load_corpus` reads; returns the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "train.bin").write_bytes(self.train)
        (folder / "validation.bin").write_bytes(self.validation)
        (folder / "corpus.json").write_text(json.dumps(asdict(self.facts), indent=1))
        return folder


def load_corpus(folder: Path | str) -> Corpus:
    """Read a corpus that `Corpus.save` wrote.

    Raises:
        ConfigError: the folder is not a corpus, or its text does not match its hash.
    """
    folder = Path(folder)
    if not (folder / "corpus.json").is_file():
        raise ConfigError(f"{folder} is not a saved corpus: corpus.json is missing")
    facts = CorpusFacts(**json.loads((folder / "corpus.json").read_text()))
    corpus = Corpus((folder / "train.bin").read_bytes(), (folder / "validation.bin").read_bytes(), facts)
    if hashlib.sha256(corpus.train).hexdigest() != facts.sha256:
        raise ConfigError(
            f"{folder}/train.bin does not match the hash in corpus.json: delete the folder, make it again"
        )
    return corpus


def embedded_corpus() -> Corpus:
    """Python's own English: documentation topics and the standard library's docstrings, about 2.1 MB.

    Documents are topics and modules; paragraphs of at least 24 characters are kept at their first occurrence only, and
    documents of fewer than 64 characters are dropped.
    """
    documents = [*_topics(), *_docstrings(Path(sysconfig.get_paths()["stdlib"]))]
    version = ".".join(map(str, sys.version_info[:3]))
    return build_corpus(_without_repeats(documents), f"Python {version} documentation")


def text_corpus(path: Path | str, field: str = "text") -> Corpus:
    """The user's own text: UTF-8 in a plain file, or one JSON object a line (`.jsonl`) with a text field.

    Args:
        path: the file.
        field: name of the text field of a JSONL row.

    Raises:
        ConfigError: the file is missing, empty, binary, too short, or a row has no such field.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"text file {path} does not exist" if not path.exists() else f"{path} is a folder, not a text file"
        )
    raw = path.read_bytes()
    if not raw.strip():
        raise ConfigError(f"{path} is empty: give a UTF-8 text file of at least {MINIMUM_BYTES} bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x}): convert it first"
        ) from error
    if "\0" in text:
        raise ConfigError(f"{path} is a binary file (byte {text.index(chr(0))} is 0): give UTF-8 text or JSONL")
    texts = list(_rows(path, text, field)) if path.suffix in (".jsonl", ".ndjson") else [text]
    size = sum(len(one) for one in texts)
    if size < MINIMUM_BYTES:
        raise ConfigError(
            f"{path} holds {size} characters of text: at least {MINIMUM_BYTES} are needed, 1 MB is comfortable"
        )
    limit = max(200, min(4000, size // 100))
    pieces = [piece for one in texts for piece in _pieces(one, limit)]
    return build_corpus([Document(f"{number}", piece) for number, piece in enumerate(pieces)], path.name)


def build_corpus(documents: Sequence[Document], source: str) -> Corpus:
    """Split documents by the hash of their ids and measure the leak.

    Documents in the order of sha256(id) go to validation until it holds 6 % of the text (none larger than 2 % of it).

    Raises:
        ConfigError: no document is small enough to validate on.
    """
    total = sum(len(document.text) for document in documents)
    ordered = sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())
    train, validation, held = [], [], 0
    for document in ordered:
        fits = len(document.text) <= LARGEST_SHARE * total
        if held < VALIDATION_SHARE * total and fits:
            validation.append(document)
            held += len(document.text)
        else:
            train.append(document)
    if not validation:
        raise ConfigError(
            f"{source}: {len(documents)} documents, each more than {LARGEST_SHARE:.0%} of the text, leave nothing to "
            "validate on: separate paragraphs by blank lines, or give more rows"
        )
    streams = [SEPARATOR.join(document.text.encode() for document in side) for side in (train, validation)]
    size = sum(map(len, streams))
    short = size < COMFORTABLE_BYTES
    facts = CorpusFacts(
        source=source,
        train_documents=len(train),
        validation_documents=len(validation),
        train_bytes=len(streams[0]),
        validation_bytes=len(streams[1]),
        sha256=hashlib.sha256(streams[0]).hexdigest(),
        leak_share=leak_share(streams[0], streams[1]),
        warning=f"only {size} bytes of text: below 1 MB runs repeat it and laws bend" if short else None,
    )
    return Corpus(streams[0], streams[1], facts)


def leak_share(train: bytes, validation: bytes, width: int = 50) -> float:
    """Share of the disjoint `width`-byte pieces of `validation` that occur verbatim in `train`.

    Example:
        >>> leak_share(b"abcdef", b"abcxyzdef", width=3)
        0.6666666666666666
    """
    wanted = _hashes(validation, width)[::width]
    found = np.zeros(len(wanted), dtype=bool)
    for start in range(0, len(train), HASHED_AT_ONCE):
        found |= np.isin(wanted, _hashes(train[start : start + HASHED_AT_ONCE + width - 1], width))
    return float(found.mean()) if len(found) else 0.0


def _hashes(text: bytes, width: int) -> NDArray[np.uint64]:
    """A 64-bit polynomial hash of every `width` consecutive bytes (arithmetic modulo 2^64)."""
    values = np.frombuffer(text, dtype=np.uint8).astype(np.uint64) + 1
    hashes = np.zeros(max(0, len(values) - width + 1), dtype=np.uint64)
    for shift in range(width):
        hashes = hashes * HASH_BASE + values[shift : shift + len(hashes)]
    return hashes


def _topics() -> Iterator[Document]:
    topics = pydoc_data.topics.topics
    for name in sorted(topics):
        yield Document(f"topic:{name}", topics[name])


def _modules(root: Path) -> Iterator[str]:
    """Paths of the standard library's modules, relative to its folder."""
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in SKIPPED and not name.startswith("config-")]
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in files if name.endswith(".py"))


def _docstrings(root: Path) -> Iterator[Document]:
    for name in sorted(_modules(root)):
        path = root / name
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a deliberately broken file of the standard library
            continue
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        strings = [ast.get_docstring(node, clean=True) for node in _statements(tree) if isinstance(node, owners)]
        if found := [string for string in strings if string]:
            yield Document(name, "\n\n".join(found))


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """As `ast.walk`, in its order, without the expressions: they hold no docstring owners and are most of the nodes."""
    pending: deque[ast.AST] = deque([tree])
    while pending:
        node = pending.popleft()
        yield node
        for name in ("body", "handlers", "orelse", "finalbody", "cases"):
            inner = getattr(node, name, ())
            if isinstance(inner, list):  # the body of a lambda is no list
                pending.extend(inner)


def _without_repeats(documents: Iterable[Document]) -> list[Document]:
    seen: set[str] = set()
    kept = []
    for document in documents:
        paragraphs = []
        for paragraph in re.split(r"\n{2,}", document.text.strip()):
            key = " ".join(paragraph.split())
            if len(key) >= SHORTEST_REPEAT:
                if key in seen:
                    continue
                seen.add(key)
            paragraphs.append(paragraph)
        text = "\n\n".join(paragraphs)
        if len(text) >= SHORTEST_DOCUMENT:
            kept.append(Document(document.id, text))
    return kept


def _rows(path: Path, text: str, field: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{path}, line {number}: not a JSON object ({error.msg})") from error
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            given = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
            raise ConfigError(f'{path}, line {number}: no text in field "{field}" (the row has: {given})')
        yield row[field].replace("\0", "")


def _pieces(text: str, limit: int) -> Iterator[str]:
    """Cut a text at blank lines (or at lines, where there are none) into pieces of about `limit` characters."""
    blank = "\n\n" if "\n\n" in text.strip() else "\n"
    piece: list[str] = []
    for paragraph in text.split(blank):
        piece.append(paragraph)
        if sum(map(len, piece)) >= limit:
            yield blank.join(piece)
            piece = []
    if any(part.strip() for part in piece):
        yield blank.join(piece)
