"""Where embeddings come from: matrices in files, or texts run through model folders.

A batch is one matrix [rows, width] a model, the smallest width first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np
import polars as pl

from limbeck.embeddings.moments import ROWS_AT_ONCE, check_family
from limbeck.errors import ConfigError, LimbeckError
from limbeck.fitting.model import Array

TEXTS_AT_ONCE = 32
Pool = Literal["token", "mean", "first"]


def open_family(paths: Sequence[Any], texts: Path | None = None, **options: Any) -> tuple[Iterable[list[Any]], int]:
    """Return the batches of a family, of matrices or (with a file of texts) of model folders, and how many they are.

    Args:
        paths: of files, as for `read_matrices`, or of model folders.
        texts: file with one text a line.
        options: of `embed_texts`.

    Raises:
        LimbeckError: as `read_matrices` and `embed_texts`; no such file of texts.
    """
    if texts is None:
        matrices = read_matrices(paths)
        begins = range(0, len(matrices[0]), ROWS_AT_ONCE)
        return ([one[begin : begin + ROWS_AT_ONCE] for one in matrices] for begin in begins), len(begins)
    lines = texts.read_text(encoding="utf-8").splitlines() if texts.is_file() else []
    if not any(lines):
        raise LimbeckError(f"{texts} does not exist, or holds no text: expected one a line.")
    return embed_texts(paths, lines, **options), -(-len(lines) // TEXTS_AT_ONCE)


def read_matrices(paths: Sequence[Path | str]) -> list[Any]:
    """Return a family from files, sorted by width; an .npy file stays on the disk until its rows are read.

    Args:
        paths: .npy or Parquet, a file a model, or .npz with one model or several. A Parquet file has one column of
            lists, or one column a coordinate.

    Raises:
        LimbeckError: a file is missing or holds no matrix; rows differ, widths repeat.
    """
    found: list[Any] = []
    for path in map(Path, paths):
        try:
            if path.suffix == ".parquet":
                table = pl.read_parquet(path)
                held: Any = np.array(table.to_series().to_list()) if table.width == 1 else table.to_numpy()
            else:
                held = np.load(path, mmap_mode="r", allow_pickle=False)
            found += [held] if isinstance(held, np.ndarray) else held.values()
        except (OSError, ValueError, EOFError, BadZipFile, pl.exceptions.PolarsError) as error:
            reason = getattr(error, "strerror", None) or "another format, or damaged"
            raise LimbeckError(f"{path}: {reason}. Give .npy, .npz or .parquet; model folders need --texts.") from error
    return check_family(sorted(found, key=lambda one: one.shape[1:]))


def embed_texts(
    folders: Sequence[Path | str], texts: Sequence[str], *, layers: Sequence[int] = (), pool: Pool = "token",
) -> Iterator[list[Array]]:  # fmt: skip
    """Give what a family of models says of texts, a batch of texts at a time.

    Tokens that the tokenizer adds, such as beginning and end, are left out; a masked token of the text stays. Several
    folders are the sizes of a family. The layers of one model are a family as well: they have one width, so level k is
    the states of the first k named layers side by side, [l_1], [l_1; l_2], ... and deeper levels hold the others.

    Args:
        folders: Hugging Face model folders, or one with `layers`; nothing is downloaded.
        texts: to embed; longer ones than a model reads are cut.
        layers: numbers of blocks, growing; 0 is the embedding of the tokens.
        pool: "token" gives every token a row, "mean" every text, "first" every text the state of its first position.

    Raises:
        ConfigError: a folder without a model, layers that it has not, an unknown pool.
        LimbeckError: a text without tokens where every text gets a row, or tokenizers that cut a text differently.
    """
    if pool not in get_args(Pool) or (layers and (len(folders) != 1 or sorted({*layers}) != [*layers])):
        given = f"pool {pool!r}, layers {list(layers)} of {len(folders)} folders"
        raise ConfigError(f"{given}: the pool is token, mean or first, and layers are growing numbers, of one folder.")
    encoders = sorted((_encoder(Path(one), layers) for one in folders), key=lambda one: one[0])
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        batch = [embed(texts[begin : begin + TEXTS_AT_ONCE], pool, begin) for _, embed in encoders]
        if len({len(one[0]) for one in batch}) > 1:
            differ = f"from text {begin + 1} on, models find {[len(one[0]) for one in batch]} tokens in the same texts"
            raise LimbeckError(f'{differ}: rows by token need models of one tokenizer, others pool "mean".')
        yield [matrix for one in batch for matrix in one]


def _encoder(folder: Path, layers: Sequence[int]) -> tuple[int, Callable[..., list[Array]]]:
    """Return a model's width, and what embeds texts with it: a matrix for each level."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = AutoModel.from_pretrained(str(folder), local_files_only=True).eval()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} cannot be loaded as a model with its tokenizer: {error}") from error
    width, depth = int(model.config.hidden_size), int(model.config.num_hidden_layers)
    if layers and not 0 <= layers[0] < layers[-1] <= depth:
        raise ConfigError(f"{folder} has layers 0 to {depth}, given {list(layers)}: take two or more of them.")
    limit, device = tokenizer.model_max_length, "cuda" if torch.cuda.is_available() else "cpu"
    longest, model = min(getattr(model.config, "max_position_embeddings", limit), limit), model.to(device)
    form = {"padding": True, "padding_side": "right", "truncation": True, "max_length": longest, "return_tensors": "pt"}
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.convert_ids_to_tokens(0)  # what stands there is masked

    @torch.inference_mode()
    def embed(texts: Sequence[str], pool: Pool, begin: int) -> list[Array]:
        found = tokenizer(list(texts), return_special_tokens_mask=True, **form).to(device)
        own = (1 - found.special_tokens_mask)[..., None]
        if pool != "token" and not (count := own.sum(1)).all():
            raise LimbeckError(f"text {begin + 1 + int(count.argmin())} has no tokens: leave it and its label out.")
        told = model(found.input_ids, attention_mask=found.attention_mask, output_hidden_states=True)
        states = torch.cat([told.hidden_states[k] for k in layers] or [told.last_hidden_state], -1).float()
        if pool == "token":
            states = states[own[..., 0] == 1]
        else:
            states = states[:, 0] if pool == "first" else (states * own).sum(1) / count
        return [states[:, :end].cpu().numpy() for end in range(width, states.shape[1] + 1, width)]

    return width, embed
