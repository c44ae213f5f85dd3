"""What a teacher says about a fixed set of sequences, computed once and read in every later training.

Three forms. Hidden states, with the teacher's output matrix beside them, are exact for every divergence and every
temperature. The top-k log-probabilities and the mass of the others give a lower bound of the divergence at one
temperature. Samples of the teacher's distribution are unbiased for forward KL. Rows are found by their tokens, so that
any source that gives the same sequences can read them; what the student writes itself is never among them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import send_to_device
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import fused_divergence, get_loss
from limbeck.distill.topk import Kept, kept_divergence
from limbeck.errors import ConfigError, TrainingError
from limbeck.files import write_bytes, write_json
from limbeck.lm.conversations import Example, collate
from limbeck.lm.models import folder_digest, load_model
from limbeck.lm.slots import Batch, counted_logits, cross_entropy
from limbeck.lm.states import counted_states, has_plain_head
from limbeck.lm.teaching import Divergence

INDEX, HEAD = "cache.json", "head.safetensors"
LEAST_MASS = 0.98
"""Mean mass below which tokens without a tail are refused: the student would lose the rest of its distribution."""


def cache_teacher(
    teacher: Path | str, source: Callable[[int], Batch], steps: int, out: Path | str, *,
    form: Literal["hidden", "topk", "sampled"] = "topk", k: int = 128, temperature: float = 1.0,
    precision: Literal["float32", "bfloat16", "float16"] = "float32", seed: int = 0,
) -> TeacherCache:  # fmt: skip
    """Write the outputs of a teacher at all counted tokens of the first steps of a source.

    Every step is a file that is whole or not there. The same call after a kill goes on, and ends with the same bytes;
    with more steps it adds to a cache.

    Args:
        teacher: model folder.
        source: gives the batch of a step.
        steps: how many.
        out: folder of the cache.
        form: `hidden` states and the output matrix, `topk` log-probabilities, or `sampled` tokens.
        k: tokens a position, at most the vocabulary; for `topk` and `sampled`.
        temperature: of these; hidden states serve every temperature.
        precision: of what is stored; `float32` is exact, the others need half as much.
        seed: of the samples.

    Raises:
        ConfigError: the folder is no model; its logits are not hidden states times a matrix (`hidden` only).
        TrainingError: `out` holds another cache.
    """
    out, model = Path(out), load_model(teacher).eval()
    if form == "hidden" and not has_plain_head(model):
        raise ConfigError("the teacher's logits are not its hidden states times a matrix: use the form topk")
    own = {"k": min(k, model.config.vocab_size), "temperature": temperature, "seed": seed}
    facts: dict[str, Any] = {"teacher": folder_digest(teacher), "form": form, "precision": precision}
    facts |= {} if form == "hidden" else own
    if not (out / INDEX).is_file():
        write_json(out / INDEX, {"facts": facts, "files": {}})
    if (theirs := _index(out, absent=True)["facts"]) != facts:
        raise TrainingError(f"{out} holds another cache: choose another folder, or delete it.\n  {theirs}\n  {facts}")
    for step in range(steps):
        batch, path = source(step), out / f"step-{step:06d}.safetensors"
        batch = send_to_device(batch.told or batch, model.device)
        if not path.is_file():
            _save(path, _outputs(model, batch, facts, step))
        elif safe_open(path, "pt").get_tensor("keys").tolist() != identities(batch):
            raise TrainingError(f"{path} holds other sequences: choose another folder, or delete {out}")
    if form == "hidden":
        _save(out / HEAD, {"head": model.get_output_embeddings().weight.detach().to(getattr(torch, precision))})
    files = {path.name: _checksum(path) for path in sorted(out.glob("*.safetensors"))}
    write_json(out / INDEX, {"facts": facts, "files": files})
    return TeacherCache(out)


def cache_answers(examples: Sequence[Example], out: Path | str) -> TeacherCache:
    """Write what an endpoint said with its answers as a cache of top-k log-probabilities.

    Positions have as many tokens as were said; an end of which nothing was said counts as certain. The mass outside is
    what is left of one, at least what rounding leaves.

    Args:
        examples: answers with their favourites (`read_examples`).
        out: folder of the cache.
    """
    out, batch, places = Path(out), collate(examples), [place for one in examples for place in one.said]
    k = max(map(len, places))
    pairs = torch.tensor([[*place, *[(0, -torch.inf)] * (k - len(place))] for place in places], dtype=torch.float64)
    tokens, log_p = pairs[..., 0].int(), pairs[..., 1]
    tail = (1 - log_p.exp().sum(-1)).clamp(min=torch.finfo(torch.float32).eps).log()
    rows = {"keys": torch.tensor(identities(batch)), "lengths": batch.mask.sum(1), "tokens": tokens}
    name, facts = "step-000000.safetensors", {"teacher": "endpoint", "form": "topk", "precision": "float32", "k": k}
    _save(out / name, rows | {"log_p": log_p.float(), "tail": tail.float()})
    write_json(out / INDEX, {"facts": facts | {"temperature": 1.0}, "files": {name: _checksum(out / name)}})
    return TeacherCache(out)


@torch.no_grad()
def _outputs(model: Any, batch: Batch, facts: Mapping[str, Any], step: int) -> dict[str, Tensor]:
    """What is stored of a step: of the labels that count, in their order."""
    rows = {"keys": torch.tensor(identities(batch)), "lengths": batch.mask.sum(1)}
    precision = getattr(torch, facts["precision"])
    if facts["form"] == "hidden":
        return rows | {"hidden": counted_states(model, batch)[0].to(precision)}
    log_p = (counted_logits(model, batch).float() / facts["temperature"]).log_softmax(-1)
    tokens = log_p.topk(facts["k"]).indices
    if facts["form"] == "sampled":
        state = int(np.random.default_rng([facts["seed"], step]).integers(2**63))
        draw = torch.Generator(log_p.device).manual_seed(state)
        tokens = log_p.exp().multinomial(facts["k"], replacement=True, generator=draw)
    tail = log_p.scatter(-1, tokens, -torch.inf).logsumexp(-1)
    narrow = tokens.to(torch.uint16 if log_p.shape[-1] <= 2**16 else torch.int32)
    return rows | {"tokens": narrow, "log_p": log_p.gather(-1, tokens).to(precision), "tail": tail}


def identities(batch: Batch) -> list[int]:
    """A number for every sequence that the teacher reads: its tokens and which count, wherever padding stands."""
    batch = batch.told or batch
    told = (batch.tokens, batch.counted, *([] if batch.position is None else [batch.position]))
    rows = zip(batch.present.cpu(), *(one.cpu() for one in told), strict=True)
    parts = [b"".join(one[there].numpy().tobytes() for one in row) for there, *row in rows]
    return [int.from_bytes(hashlib.blake2b(part, digest_size=8).digest(), "big", signed=True) for part in parts]


class TeacherCache:
    """A complete cache, to read.

    Args:
        folder: that `cache_teacher` wrote.

    Raises:
        ConfigError: no cache is there.
        TrainingError: its writing was interrupted; a file is missing or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        if not (self.folder / INDEX).is_file():
            raise ConfigError(f"{folder} holds no teacher cache: {INDEX} is missing (write it with cache_teacher)")
        index = _index(self.folder)
        self.facts: dict[str, Any] = index["facts"]
        if not index["files"]:
            raise TrainingError(f"the cache in {folder} is not complete: call cache_teacher again, it goes on")
        self.head = safe_open(self.folder / HEAD, "pt").get_tensor("head") if HEAD in index["files"] else None
        self._files = [safe_open(self.folder / name, "pt") for name in index["files"] if name != HEAD]
        self._places: dict[int, tuple[Any, int, int]] = {}
        for file in self._files:
            lengths = file.get_tensor("lengths")
            places = zip(file.get_tensor("keys").tolist(), lengths.cumsum(0).tolist(), lengths.tolist(), strict=True)
            self._places |= {key: (file, stop - length, stop) for key, stop, length in places}

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return what is stored of the labels that count in a batch.

        Returns:
            `hidden` [M, d]; or `tokens` [M, k], their `log_p` [M, k], and `tail` [M], the log of the mass outside.

        Raises:
            TrainingError: a sequence that the cache does not hold.
        """
        keys = identities(batch)
        if absent := [row for row, key in enumerate(keys) if key not in self._places]:
            raise TrainingError(
                f"{len(absent)} of {len(keys)} sequences are not in {self.folder}, the first is row {absent[0]}: cache "
                "the steps that the training reads. What a student writes itself no cache can hold"
            )
        places = [self._places[key] for key in keys]
        names = ["tokens", "log_p", "tail"] if self.head is None else ["hidden"]
        return {name: torch.cat([file.get_slice(name)[a:b] for file, a, b in places]) for name in names}

    def mass(self) -> tuple[float, float]:
        """Mean and 5 % quantile, over all positions, of the teacher's mass on the tokens kept; 1 for hidden states."""
        if self.head is not None:
            return 1.0, 1.0
        kept = 1 - np.exp(np.concatenate([file.get_tensor("tail").numpy() for file in self._files]))
        return float(kept.mean()), float(np.quantile(kept, 0.05))

    def supports(self, divergence: str = "forward_kl", *, kept: Kept = "tail", on_policy: bool = False) -> bool:
        """Whether a divergence can be had: never on what the student writes; forward KL alone without a tail."""
        form = self.facts["form"]
        if on_policy or (form != "hidden" and (kept == "sampled") != (form == "sampled")):
            return False
        proper = kept == "tail" and get_loss(divergence).generator is not None
        return form == "hidden" or divergence == "forward_kl" or proper

    def summary(self) -> str:
        """What is stored, and how much of the teacher's mass it holds."""
        size, (mean, low) = sum(path.stat().st_size for path in self.folder.glob("*.safetensors")), self.mass()
        facts = " ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{len(self._places)} sequences, {size / 1e6:.3g} MB, mass {mean:.4f} (5 %: {low:.4f}); {facts}"


@dataclass(frozen=True)
class CachedTeaching:
    """The signal of a cached teacher: as `Teaching`, without the teacher.

    Args:
        cache: of its outputs.
        divergence: D; its temperature is the cache's, except for hidden states.
        ce_weight: share of the ordinary next-token loss, 0 to 1.
        kept: what is made of top-k tokens (`kept_divergence`).
        forced: use top-k tokens without a tail although they hold less than 98 % of the teacher's mass.

    Raises:
        ConfigError: what the cache cannot give; `ce_weight` outside 0 to 1.
    """

    cache: TeacherCache
    divergence: Divergence = field(default_factory=Divergence)
    ce_weight: float = 0.0
    kept: Kept = "tail"
    forced: bool = False
    frozen = ()

    def __post_init__(self) -> None:
        facts, mine, (mean, low) = self.cache.facts, self.divergence, self.cache.mass()
        if not 0 <= self.ce_weight <= 1:
            raise ConfigError(f"ce_weight must lie between 0 and 1, got {self.ce_weight}")
        if not self.cache.supports(mine.name, kept=self.kept):
            raise ConfigError(f"{mine.name} with kept={self.kept} cannot be had from a cache of form {facts['form']}")
        if facts.get("temperature", mine.temperature) != mine.temperature:
            raise ConfigError(f"the cache is at temperature {facts['temperature']:g}, not {mine.temperature:g}")
        if self.kept in ("truncated", "renormalised") and mean < LEAST_MASS and not self.forced:
            raise ConfigError(
                f"the tokens kept hold {mean:.4f} of the teacher's mass (5 % quantile {low:.4f}), less than "
                f"{LEAST_MASS}: {self.kept} would give the student nothing else. Use kept=tail, a larger k or forced"
            )

    def loss(self, student: Any, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """Return `loss`, as `Teaching` has it, and `weight`, the number of tokens that count."""
        mine = self.divergence
        options: dict[str, Any] = {"temperature": mine.temperature, **mine.options}
        stored = {name: one.to(batch.tokens.device) for name, one in self.cache(batch).items()}
        if self.cache.head is not None:
            hidden, head = stored["hidden"].float(), self.cache.head.to(batch.tokens.device).float()
            if mine.generator is not None and has_plain_head(student):
                states = (*counted_states(student, batch), hidden, head, batch.targets)
                options |= {"tau_squared": True, "ce_weight": self.ce_weight, "weight": batch.weights}
                return {"loss": fused_divergence(*states, divergence=mine.name, **options), "weight": batch.mask.sum()}
        logits = counted_logits(student, batch)
        if self.cache.head is not None:
            each = mine(logits, F.linear(hidden, head))
        else:
            each, sizes = logits.new_zeros(len(logits)), (stored["log_p"] > -torch.inf).sum(-1)
            for size in sizes.unique().tolist():
                rows = sizes == size
                kept = stored["tokens"][rows, :size].long(), stored["log_p"][rows, :size], stored["tail"][rows]
                values = kept_divergence(logits[rows], *kept, kept=self.kept, divergence=mine.name, **options)
                each = each.masked_scatter(rows, values * mine.temperature**2)
        loss = (1 - self.ce_weight) * (each * batch.weights).sum() / max(1, len(each))
        if self.ce_weight:
            loss = loss + self.ce_weight * cross_entropy(logits, batch)
        return {"loss": loss, "weight": batch.mask.sum()}

    def describe(self) -> str:
        """One phrase for a run table."""
        facts, form = self.cache.facts, f"{self.cache.facts['form']} {self.cache.facts['precision']}"
        kept = f" {self.kept} k={facts['k']}" if "k" in facts else ""
        return f"distil cached {form}{kept} {self.divergence.describe()} ce_weight={self.ce_weight:g}"


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    write_bytes(path, save({name: one.cpu().contiguous() for name, one in tensors.items()}))


def _index(folder: Path, absent: bool = False) -> dict[str, Any]:
    """The index of a cache, whose files are what they were when it was written; `absent` allows for missing ones."""
    index: dict[str, Any] = json.loads((folder / INDEX).read_text())
    for name, checksum in index["files"].items():
        if _checksum(folder / name) not in (checksum, "absent" if absent else checksum):
            raise TrainingError(f"{folder / name} is missing or damaged: delete it and call cache_teacher again")
    return index


def _checksum(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest() if path.is_file() else "absent"
