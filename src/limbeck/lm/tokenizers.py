"""Tokenizers: one token a byte, or a byte-level BPE trained on the corpus.

Both are ordinary fast tokenizers of the transformers library: a model folder that holds one is complete for
`AutoTokenizer`, and neither ever meets an unknown character. The byte tokenizer's ids are the byte values, so that a
loss in nats per token is a loss in nats per byte; a BPE pays by the token and is reported per byte as well.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from limbeck.errors import ConfigError
from limbeck.lm.corpus import SEPARATOR, Corpus

SMALLEST_BPE = 257
END = b"\0"  # what a separator is in bytes, whatever token it is
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer whose 256 ids are the byte values of UTF-8 text.

    Example:
        >>> byte_tokenizer()("né", add_special_tokens=False)["input_ids"]
        [110, 195, 169]
    """
    vocabulary = {character: byte for byte, character in enumerate(byte_characters())}
    return _fast(Tokenizer(models.BPE(vocab=vocabulary, merges=[])), split=False)


def trained_tokenizer(text: bytes, vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on documents joined by byte 0 (about 10 s for 2 MB).

    Args:
        text: train bytes of a corpus, never its validation bytes.
        vocabulary: number of tokens, the 256 bytes included.

    Raises:
        ConfigError: `vocabulary` leaves no room for a merge.
    """
    if vocabulary < SMALLEST_BPE:
        raise ConfigError(f"a BPE needs at least {SMALLEST_BPE} tokens (256 bytes and one merge), got {vocabulary}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=ALPHABET, show_progress=False)
    tokenizer.train_from_iterator((one.decode() for one in text.split(SEPARATOR)), trainer)
    return _fast(tokenizer, split=True)


def get_tokenizer(name: str, corpus: Corpus) -> PreTrainedTokenizerFast:
    """Make a tokenizer from its name: `byte`, or `bpe:1024` trained on the corpus.

    Raises:
        ConfigError: the name is neither.
    """
    kind, _, size = name.partition(":")
    if name == "byte":
        return byte_tokenizer()
    if kind == "bpe" and size.isdigit():
        return trained_tokenizer(corpus.train, int(size))
    raise ConfigError(f'unknown tokenizer "{name}": write byte, or bpe:1024 (any size from {SMALLEST_BPE})')


def corpus_tokenizer(name: str, corpus: Corpus, folder: Path) -> Any:
    """As `get_tokenizer`, but a trained tokenizer is kept beside the saved corpus: a ladder of jobs trains it once.

    Args:
        name: `byte` or `bpe:1024`.
        corpus: the text.
        folder: where the corpus is saved.
    """
    kept = folder / f"tokenizer-{name.replace(':', '-')}"
    if not kept.is_dir():
        tokenizer = get_tokenizer(name, corpus)
        with TemporaryDirectory(dir=folder) as writing:
            tokenizer.save_pretrained(writing)
            with suppress(OSError):  # another worker was faster, with the same result
                Path(writing).rename(kept)
                Path(writing).mkdir()  # for the context manager to remove
    return load_tokenizer(kept)


def tokenizer_name(tokenizer: Any) -> str:
    """What the run table calls a tokenizer: `byte`, `bpe:1024`, `unigram:32000`, ...

    Example:
        >>> tokenizer_name(byte_tokenizer())
        'byte'
    """
    kind = type(tokenizer.backend_tokenizer.model).__name__.lower() if tokenizer.is_fast else type(tokenizer).__name__
    return "byte" if (kind, len(tokenizer)) == ("bpe", 256) else f"{kind}:{len(tokenizer)}"


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer of a model folder.

    Raises:
        ConfigError: the folder has none.
    """
    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} has no tokenizer: save it there with tokenizer.save_pretrained") from error


@dataclass(frozen=True)
class TokenStream:
    """A corpus in tokens.

    Args:
        train, validation: ids, documents joined by the separator [n].
        bytes_per_token: of the validation text; turns nats per token into nats per byte.
    """

    train: NDArray[np.int32]
    validation: NDArray[np.int32]
    bytes_per_token: float

    @property
    def largest(self) -> int:
        """Largest id in the text."""
        return int(max(self.train.max(), self.validation.max()))


def tokenize(corpus: Corpus, tokenizer: Any) -> TokenStream:
    """Turn a corpus into token ids, document by document.

    Documents are joined by the tokenizer's end-of-sequence token, or by the token of byte 0 where it has none.

    Raises:
        ConfigError: the tokenizer has neither, or the text gives no tokens.
    """
    separator = separator_token(tokenizer)

    def ids(stream: bytes) -> NDArray[np.int32]:
        texts = [document.decode() for document in stream.split(SEPARATOR)]
        rows = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        joined = [token for row in rows for token in (*row, separator)]
        return np.asarray(joined[:-1], dtype=np.int32)

    train, validation = ids(corpus.train), ids(corpus.validation)
    if not len(train) or not len(validation):
        raise ConfigError(f"the tokenizer gives no tokens for {corpus.facts.source}: is it the right one?")
    return TokenStream(train, validation, len(corpus.validation) / len(validation))


def separator_token(tokenizer: Any) -> int:
    """The id that stands between two documents.

    Raises:
        ConfigError: the tokenizer has no end-of-sequence token and cannot write byte 0 as one token.
    """
    if tokenizer.eos_token_id is not None:
        return int(tokenizer.eos_token_id)
    zero = tokenizer(SEPARATOR.decode(), add_special_tokens=False)["input_ids"]
    if len(zero) != 1:
        raise ConfigError("the tokenizer has no end-of-sequence token to put between documents: set its eos_token")
    return int(zero[0])


def _fast(tokenizer: Tokenizer, split: bool) -> PreTrainedTokenizerFast:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)


def byte_characters() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE: itself, or the next free one from U+0100."""
    direct = set(range(0x21, 0x7F)) | set(range(0xA1, 0xAD)) | set(range(0xAE, 0x100))
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in direct else chr(next(others)) for byte in range(256)]


def token_bytes(tokenizer: Any) -> dict[int, bytes]:
    """The bytes that every token writes: nothing for the beginning of a text, byte 0 for its end.

    Example:
        >>> token_bytes(byte_tokenizer())[195]
        b'\\xc3'
    """
    vocabulary, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
    values = {character: value for value, character in enumerate(byte_characters())}
    byte_level = vocabulary.keys() >= values.keys()

    def written(token: str) -> bytes:
        if byte_level and token not in added:
            return bytes(values[character] for character in token)
        byte = re.fullmatch("<0x([0-9A-F]{2})>", token)
        return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()

    found = {number: written(token) for token, number in vocabulary.items()}
    return found | {tokenizer.bos_token_id: b"", separator_token(tokenizer): END}


def token_strings(tokenizer: Any) -> dict[str, int | None]:
    """The token behind every string that a server may write for one: its text, its name, or `token_id:` and the number.

    None where several tokens look the same, as those do that hold part of a character.

    Example:
        >>> strings = token_strings(byte_tokenizer())
        >>> strings["a"], strings["token_id:195"], strings["\ufffd"]
        (97, 195, None)
    """
    found: dict[str, int | None] = {"": None}
    for number, written in token_bytes(tokenizer).items():
        if written:
            text = written.decode(errors="replace")
            found |= {text: None if text in found else number, f"token_id:{number}": number}
    return {**found, **tokenizer.get_added_vocab()}
