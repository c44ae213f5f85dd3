"""An audit of the output matrix of a language model: are its token vectors in strong superposition?

The matrix is read from the model's safetensors files, a few thousand rows at a time; no code of the model runs and no
other tensor is read. Strong superposition (every token has a vector, their overlaps are those of random directions) is
where loss is expected to fall like one over the width. A matrix fresh from its random initialisation passes too: audit
trained models.

Source: Superposition Yields Robust Neural Scaling (Liu, Liu, Gore, 2025, arXiv 2505.10465).
"""

import json
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import ConfigError
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws import Trend
from limbeck.theory.overlaps import BINS, Overlaps, overlaps, welch_bound
from limbeck.theory.superposition import LLM_EXPONENT, LLM_EXPONENT_SE

REPRESENTED, ORDER_ONE = 0.95, 10.0
"""Strong superposition: at least this share of long rows, m⟨o²⟩ at most this (our reading of the paper's O(1))."""
HEADS = (
    r"(^|\.)(lm_head|embed_out|output_projection)\.weight$",
    r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$",
)
"""Names of output matrices, and of the input embeddings that serve where the two are tied."""
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
MEANING = {
    "strong": f"Loss should fall about like 1/width (language models: exponent {LLM_EXPONENT} ± {LLM_EXPONENT_SE}).",
    "weak": "Loss falls like width^-(a - 1) for token frequencies rank^-a with a > 1; for others, by no power.",
    "no": "Every token can have a direction of its own; width alone does not limit the loss.",
    "undecided": f"Every token has a vector, but mean overlap² is above {ORDER_ONE:g}/width: no exponent follows.",
}


@dataclass(frozen=True)
class StoredMatrix:
    """A tensor of two dimensions in a safetensors file, read by rows.

    Args:
        path, name: where it is.
        type: F64, F32, F16 or BF16.
        shape: rows and columns.
        offset: its first byte.
        projection: what every row is multiplied by, for models whose embedding is narrower than their layers.
    """

    path: Path
    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    projection: Array | None = None

    def __getitem__(self, rows: NDArray[np.int_]) -> Array:
        """Return rows, in double precision where they are stored so and in single otherwise."""
        shape = self.shape if self.projection is None else (self.shape[0], len(self.projection))
        stored: Any = np.memmap(self.path, TYPES[self.type], "r", self.offset, shape)[rows]
        if self.type == "BF16":
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        found: Array = stored.astype(np.float64 if self.type == "F64" else np.float32)
        return found if self.projection is None else np.asarray(found @ self.projection)


def read_tensors(folder: Path | str) -> dict[str, StoredMatrix]:
    """Return the matrices of a model by name, from the headers of its safetensors files.

    Args:
        folder: a model folder, or one safetensors file.

    Raises:
        ConfigError: there is no such folder or file, or it holds no safetensors, or they are damaged.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ConfigError(f"model folder {folder} does not exist.")
    files = [folder] if folder.is_file() else sorted(folder.glob("*.safetensors"))
    if not files:
        pickled = "its .bin files may hold code: save it again" if any(folder.glob("*.bin")) else "save a model there"
        raise ConfigError(f"{folder} holds no .safetensors file; {pickled} with save_pretrained (safetensors).")
    found = {}
    for path in files:
        size = path.stat().st_size
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header: Any = json.loads(file.read(length)) if length <= size - 8 else None
            for name, entry in header.items():
                if name != "__metadata__" and len(entry["shape"]) == 2:
                    kind, (begin, end) = entry["dtype"], entry["data_offsets"]
                    count = math.prod(entry["shape"]) * int(TYPES[kind][-1]) if kind in TYPES else end - begin
                    if not 0 <= begin <= end <= size - 8 - length or end - begin != count:
                        raise ValueError
                    found[name] = StoredMatrix(path, name, kind, tuple(entry["shape"]), 8 + length + begin)
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{path} is not a whole safetensors file: copy or download it again.") from error
    return found


def find_head(tensors: Mapping[str, StoredMatrix], name: str | None = None) -> StoredMatrix:
    """Return the output matrix among a model's tensors, or the tied input embedding where there is none.

    Raises:
        ConfigError: no tensor has the name given or one that output matrices have, or its numbers are quantised.
    """
    wanted = [f"^{re.escape(name)}$"] if name is not None else HEADS
    found = [t for pattern in wanted for t in sorted(tensors) if re.search(pattern, t)]
    if not found:
        asked = f'is named "{name}"' if name is not None else "has the name of an output matrix or a token embedding"
        tallest = ", ".join(sorted(tensors, key=lambda t: -tensors[t].shape[0])[:5])
        raise ConfigError(f"no matrix {asked}. Name it with --tensor; the tallest are {tallest or 'none at all'}.")
    head = tensors[found[0]]
    for one in (head, *(t for t in tensors.values() if t.name.endswith("project_out.weight"))):
        if one.type not in TYPES:
            raise ConfigError(f"{one.name} is stored as {one.type}: the audit reads {', '.join(TYPES)}.")
        if one is not head and one.shape[0] == head.shape[1]:  # OPT-350m: stored at 512, used at 1024
            return replace(head, shape=(head.shape[0], one.shape[1]), projection=one[np.arange(one.shape[0])])
    return head


def token_count(folder: Path | str) -> int | None:
    """Return the tokens that a model's tokenizer.json knows, None without one: rows beyond them are padding."""
    path = Path(folder) / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = content["model"]["vocab"]
        ids = vocabulary.values() if isinstance(vocabulary, dict) else [len(vocabulary) - 1]
        return 1 + max([*map(int, ids), *(int(token["id"]) for token in content.get("added_tokens", ()))])
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} cannot be read as a tokenizer: give the number of tokens with --tokens.") from None


@dataclass(frozen=True)
class HeadAudit:
    """What the token vectors of one model look like.

    Args:
        model: folder.
        tensor: which matrix was read.
        padding: rows beyond the tokenizer's tokens, left out.
        plain, centred: lengths and overlaps as they are, and after the mean row was subtracted.
        welch: the least possible largest overlap.
    """

    model: str
    tensor: str
    padding: int
    plain: Overlaps
    centred: Overlaps
    welch: float

    @property
    def regime(self) -> str:
        """Strong, weak or no superposition; "undecided" where vectors are there and overlap far more than at random."""
        if self.plain.rows <= self.plain.width:
            return "no"
        if self.plain.represented < REPRESENTED:
            return "weak"
        return "strong" if self.centred.relative <= ORDER_ONE else "undecided"

    def summary(self) -> str:
        """Return the answer, what it rests on, and what it means for loss against width."""
        plain, centred = self.plain, self.centred
        left_out = f" · left out: {self.padding} padding, {plain.zero} zero rows" if self.padding + plain.zero else ""
        random = f"random {math.sqrt(2 / math.pi / plain.width):.2g} ({plain.pairs:.1e} pairs)"
        shortest = f"shortest {plain.norm_min / plain.norm_mean:.2g} of the mean"
        rows = [
            ("width · mean overlap²", "relative", f"random 1, at least {plain.width * self.welch**2:.2g}"),
            ("mean |overlap|", "mean", random),
            ("largest |overlap|", "largest", f"at least {self.welch:.2g} (Welch)"),
            ("longer than half the mean", "represented", shortest),
        ]
        table = [f"{a:26}{getattr(plain, b):10.3g}{getattr(centred, b):10.3g}   {remark}" for a, b, remark in rows]
        head = f"{plain.rows} tokens in {plain.width} dimensions, {self.tensor}{left_out}"
        answer = [f"{self.model}: {self.regime} superposition", head, "", f"{'':26}{'as stored':>10}{'centred':>10}"]
        return "\n".join([*answer, *table, "", *textwrap.wrap(MEANING[self.regime], 80)])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, the regime included."""
        return asdict(self) | {"regime": self.regime}


@dataclass(frozen=True)
class HeadAudits:
    """Audits of one or several models.

    Args:
        audits: one a model.
        trend: of the centred mean square overlap in 1/width, None if the models have one width. Exponent 1 is that of
            random directions.
    """

    audits: tuple[HeadAudit, ...]
    trend: Trend | None

    def summary(self) -> str:
        """Return one audit after the other and the trend."""
        lines = [audit.summary() for audit in self.audits]
        if self.trend is not None:
            error = f" ± {self.trend.exponent_se:.2g}" if self.trend.points > 2 else ""
            power = f"{self.trend.exponent:.2f}{error} (random directions: 1)"
            lines.append(f"over {self.trend.points} models mean overlap² falls like 1/width to the power\n{power}")
        return "\n\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return every audit and the trend's exponent."""
        exponent = {"exponent": self.trend.exponent, "exponent_se": self.trend.exponent_se} if self.trend else {}
        return {"models": [audit.to_dict() for audit in self.audits]} | exponent

    def plot(self) -> Any:
        """Draw the density of √m |o| of every model beside that of random directions."""
        middle = (BINS[1:] + BINS[:-1]) / 2
        traces = [
            {"x": middle, "y": one.centred.density, "name": Path(one.model).name, "line": {"shape": "hvh"}}
            for one in self.audits
        ]
        normal = np.exp(-(middle**2) / 2) * math.sqrt(2 / math.pi)
        traces.append({"x": middle, "y": normal, "name": "random directions", "line": {"dash": "dash"}})
        words = ", ".join(sorted({audit.regime for audit in self.audits}))
        title = f"Overlaps of the token vectors: {words} superposition"
        return chart(title, "|overlap| × √width (mean row subtracted)", "density", traces)


def audit_heads(
    folders: Sequence[Path | str], *, tensor: str | None = None, tokens: int | None = None, sample: int = 16384,
    seed: int = 0,
) -> HeadAudits:  # fmt: skip
    """Audit the output matrices of models: lengths and overlaps of their token vectors, regime, expected exponent.

    The mean square overlap is over all pairs. |o| is looked at for all pairs of up to `sample` random rows.

    Args:
        folders: model folders (or single safetensors files). Nothing in them is run.
        tensor: name of the matrix; by default the output matrix, or the token embedding where the two are tied.
        tokens: rows in use; by default what tokenizer.json knows, all without one. Rows beyond are padding.
        sample: most rows whose pairs are gone through.
        seed: of that sample.

    Raises:
        ConfigError: no safetensors, damaged or quantised ones, no matrix of such a name, more tokens than rows.
    """
    audits = []
    for folder in folders:
        head = find_head(read_tensors(folder), tensor)
        rows, width = head.shape
        used = (token_count(folder) or rows) if tokens is None else tokens
        if not 2 <= used <= rows:
            raise ConfigError(f"{head.name} of {folder} has {rows} rows for {used} tokens: give --tokens, 2 to {rows}.")
        head = replace(head, shape=(used, width))
        plain, centred = (overlaps(head, sample=sample, centre=centre, seed=seed) for centre in (False, True))
        welch = welch_bound(plain.rows, width)
        audits.append(HeadAudit(str(folder), head.name, rows - used, plain, centred, welch))
    inverse, squares = zip(*((1 / one.plain.width, one.centred.mean_square) for one in audits), strict=True)
    return HeadAudits(tuple(audits), Trend.through(inverse, squares) if len(set(inverse)) > 1 else None)
