"""`limbeck distill recipe.yaml`: one teacher, one student, one text, in a file of five lines.

```yaml
teacher: teacher/
student: student/          # or {width: 32}: a tiny Llama with the teacher's tokenizer
data: corpus.txt           # UTF-8 text, or .jsonl with a text field
tokens: 2e6
out: distilled/
```
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.lm.corpus import load_corpus, text_corpus
from limbeck.lm.distillation import distil, student_maker
from limbeck.lm.evaluation import text_loss
from limbeck.lm.folders import model_folder
from limbeck.lm.jobs import DistilJob, FreshStudent, Regime, Vocabulary
from limbeck.lm.models import context_length, load_model, read_config
from limbeck.lm.teaching import Divergence, spaced
from limbeck.lm.tokenizers import load_tokenizer, tokenize
from limbeck.lm.training import threads
from limbeck.lm.windows import evaluation_windows
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings

FREE_EPOCHS = 4  # readings of a text that are about as good as new text


class DivergenceSettings(Settings):
    """The group `divergence`; a name alone stands for the whole group.

    Args:
        name: which one.
        temperature: divides both logits.
        beta, alpha, skew: of the divergences that have them.
    """

    name: str = "forward_kl"
    temperature: Number = Field(default=1.0, gt=0)
    beta: Number | None = None
    alpha: Number | None = None
    skew: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        try:
            Divergence(**self.model_dump())
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


class StudentSettings(Settings):
    """The group `student`; a path alone stands for its folder.

    Args:
        folder: an existing model with its tokenizer.
        width, layers, heads: or a tiny Llama to be made.
    """

    folder: FilePath | None = None
    width: Count | None = Field(default=None, gt=0)
    layers: Count = Field(default=2, gt=0)
    heads: Count | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _folder_alone(cls, value: Any) -> Any:
        return {"folder": value} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.folder is None) == (self.width is None):
            raise ValueError("student needs either a folder (student: folder/) or a size (student: {width: 32})")
        return self


class DistillRecipe(Settings):
    """Everything that a distillation on text needs.

    Args:
        teacher: model folder with its tokenizer.
        student: model folder, or a size to be made.
        data: UTF-8 text, or JSON lines.
        out: folder for the student and the records.
        tokens: how much to train; or `steps`.
        field: text field of JSON lines.
        divergence: what is minimised.
        ce_weight: share of the next-token loss, 0 to 1.
        vocabulary: what to do where the vocabularies differ in size: error, common or pad.
        batch: windows a step.
        context: tokens a window; by default 128, or what both models can read.
        accumulate: micro-batches a step (must divide the batch).
        lr: peak learning rate; by default 0.256 / hidden size.
        warmup: steps. decay: last share of the steps.
        weight_decay: on matrices. clip: gradient norm.
        seed: of a fresh student and of the order of the text.
        threads: CPU threads; one is fastest for tiny models.
        checkpoint_every: steps.
    """

    teacher: FilePath
    student: StudentSettings
    data: FilePath
    out: FilePath
    tokens: Count | None = Field(default=None, gt=0)
    steps: Count | None = Field(default=None, gt=0)
    field: str = "text"
    divergence: DivergenceSettings = DivergenceSettings()
    ce_weight: Number = Field(default=0.0, ge=0, le=1)
    vocabulary: Vocabulary = "error"
    batch: Count = Field(default=8, gt=0)
    context: Count | None = Field(default=None, gt=0)
    accumulate: Count = Field(default=1, gt=0)
    lr: Number | None = Field(default=None, gt=0)
    warmup: Count = Field(default=50, ge=0)
    decay: Number = Field(default=0.2, ge=0, le=1)
    weight_decay: Number = Field(default=0.1, ge=0)
    clip: Number = Field(default=1.0, gt=0)
    seed: Count = Field(default=0, ge=0)
    threads: Count = Field(default=1, gt=0)
    checkpoint_every: Count = Field(default=500, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("give either tokens (tokens: 2e6) or steps")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch {self.batch}")
        return self


def read_recipe(path: Path | str, overrides: Sequence[str] = ()) -> DistillRecipe:
    """Read a recipe file.

    Args:
        path: YAML; paths in it are relative to its folder.
        overrides: `key=value` texts, dotted for nested keys.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(DistillRecipe, path, overrides)


@dataclass(frozen=True)
class DistillationResult:
    """What a distillation gave. Losses are cross-entropies on held-out text.

    Args:
        student: folder of the student, for `from_pretrained`.
        student_loss_before, student_loss, teacher_loss: nats per token.
        bytes_per_token: of the held-out text; losses divided by it are nats per byte.
        params, teacher_params: without embeddings.
        tokens, steps: trained on.
        seconds: wall time of the training.
        warning: what may be wrong with the text, or None.
        already_finished: True if this call found the work done.
    """

    student: str
    student_loss_before: float
    student_loss: float
    teacher_loss: float
    bytes_per_token: float
    params: int
    teacher_params: int
    tokens: int
    steps: int
    seconds: float
    warning: str | None = None
    already_finished: bool = False

    def summary(self) -> str:
        """The answer, in plain text."""

        def losses(unit: str, size: float) -> str:
            return f"loss {self.student_loss_before / size:.3f} → {self.student_loss / size:.3f} {unit}"

        gap = self.student_loss_before - self.teacher_loss
        closed = (
            f" ({100 * (self.student_loss_before - self.student_loss) / gap:.0f} % of the way)"
            if gap > 0 and self.student_loss >= self.teacher_loss
            else ""
        )
        time = "already finished: nothing to do" if self.already_finished else f"{self.seconds:.0f} s"
        lines = [
            f"{self.student}: {losses('nats/byte', self.bytes_per_token)}, "
            f"teacher {self.teacher_loss / self.bytes_per_token:.3f}{closed}",
            f"  student {spaced(self.params)} parameters, teacher {spaced(self.teacher_params)} (without embeddings)",
            f"  {spaced(self.tokens)} tokens in {spaced(self.steps)} steps · {time}",
        ]
        if self.bytes_per_token != 1:
            lines.insert(1, f"  {losses('nats/token', 1.0)}, teacher {self.teacher_loss:.3f}")
        return "\n".join([*lines, f"  warning: {self.warning}"] if self.warning else lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the losses in nats per byte beside those per token."""
        losses = ("student_loss_before", "student_loss", "teacher_loss")
        return asdict(self) | {f"{name}_per_byte": getattr(self, name) / self.bytes_per_token for name in losses}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(**{field.name: content[field.name] for field in fields(cls)})


def distill(recipe: DistillRecipe | Mapping[str, Any] | Path | str, *, progress: bool = True) -> DistillationResult:
    """Distil a causal language model on text.

    The same call goes on after an interruption, and returns at once when the work is done. In `out`: `student/` (model
    and tokenizer), `result.json`, and `training/` with `runs.jsonl`, a log and checkpoints.

    Args:
        recipe: a recipe, its plain values, or the path of its YAML file.
        progress: one line on a terminal.

    Raises:
        ConfigError: a mistake in the recipe, its files or its models.
        TrainingError: vocabularies that differ without a choice; `out` holds another distillation; a loss that is not
            finite.
    """
    if isinstance(recipe, Path | str):
        recipe = read_recipe(recipe)
    elif not isinstance(recipe, DistillRecipe):
        recipe = check_settings(DistillRecipe, recipe, source="recipe")

    student = recipe.student.folder or FreshStudent(
        recipe.student.width or 0, layers=recipe.student.layers, heads=recipe.student.heads
    )
    configs = [read_config(folder) for folder in (recipe.teacher, recipe.student.folder) if folder is not None]
    regime = Regime(
        batch=recipe.batch,
        context=recipe.context or min(128, *map(context_length, configs)),
        learning_rate=recipe.lr,
        warmup=recipe.warmup,
        decay=recipe.decay,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        accumulate=recipe.accumulate,
    )
    corpus = text_corpus(recipe.data, recipe.field)
    training = recipe.out / "training"
    job = DistilJob(
        run=recipe.out.name,
        corpus=corpus.save(training / "corpus"),
        out=training,
        teacher=recipe.teacher,
        student=student,
        budgets=(recipe.tokens or (recipe.steps or 1) * regime.step_tokens,),
        seed=recipe.seed,
        divergence=Divergence(**recipe.divergence.model_dump()),
        ce_weight=recipe.ce_weight,
        vocabulary=recipe.vocabulary,
        regime=regime,
        checkpoint_every=recipe.checkpoint_every,
        threads=recipe.threads,
    )
    (row,) = distil(job, progress=progress)
    note = recipe.out / "result.json"
    if note.is_file() and (known := json.loads(note.read_text()))["steps"] == row["step"]:
        return replace(DistillationResult.from_dict(known), already_finished=True)

    result = DistillationResult(
        student=str(_publish(model_folder(training, job.budgets[0]), recipe.out / "student")),
        student_loss_before=_loss_before(job),
        student_loss=row["loss_per_token"],
        teacher_loss=row["teacher_loss"] * row["loss_per_token"] / row["loss"],
        bytes_per_token=row["loss_per_token"] / row["loss"],
        params=row["params"],
        teacher_params=row["teacher_params"],
        tokens=row["tokens"],
        steps=row["step"],
        seconds=row["seconds"],
        warning="; ".join([*_warnings(corpus.facts.warning, row["epochs"])]) or None,
    )
    write_json(note, result.to_dict())
    return result


def _publish(model: Path, folder: Path) -> Path:
    """Copy a model folder to where the user expects it; it appears whole or not at all."""
    writing = folder.with_name(f".{folder.name}")
    shutil.rmtree(writing, ignore_errors=True)
    shutil.copytree(model, writing)
    shutil.rmtree(folder, ignore_errors=True)
    return writing.rename(folder)


def _warnings(text: str | None, epochs: float) -> Iterator[str]:
    """What may be wrong with the text, or with reading it often (Niklas Muennighoff et al., 2023, arXiv 2305.16264)."""
    if text:
        yield text
    if epochs > FREE_EPOCHS:
        yield f"the text was read {epochs:.0f} times: beyond {FREE_EPOCHS} readings it teaches less and less"


def _loss_before(job: DistilJob) -> float:
    """Loss of the untrained student in nats per token."""
    tokenizer = load_tokenizer(job.teacher)
    student = student_maker(job.student, load_model(job.teacher), tokenizer, seed=job.seed)()
    with threads(job.threads):
        held_out = evaluation_windows(tokenize(load_corpus(job.corpus), tokenizer).validation, job.regime.context)
        return text_loss(student.eval(), held_out)
