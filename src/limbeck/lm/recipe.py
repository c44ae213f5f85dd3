"""`limbeck distill recipe.yaml`: a teacher, a student, data and a method, in a file of six lines.

```yaml
teacher: teacher/
student: student/          # or {width: 32}: a tiny Llama with the teacher's tokenizer
data: prompts.jsonl        # or UTF-8 text, or .jsonl with a text field
method: gkd                # kd if it is left out
steps: 1000                # or tokens: 2e6, of text
out: distilled/
```

Without a teacher, method kd learns from the log-probabilities that `limbeck answer --log-probs` put into the data. With
`teacher: {endpoint: http://localhost:8000/v1, model: qwen3}` the answers for methods seqkd, sft and kd are written
first. `text: corpus.txt` learns the next tokens of a text beside, with `text_weight: 1`.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from limbeck.distill.processes import processes
from limbeck.errors import ConfigError, LimbeckError
from limbeck.files import write_json
from limbeck.lm.conversations import has_prompts
from limbeck.lm.corpus import text_corpus
from limbeck.lm.distillation import distil
from limbeck.lm.endpoint import EndpointSettings, answers_for
from limbeck.lm.folders import model_folder
from limbeck.lm.jobs import Cached, DistilJob, FreshStudent, Precision, Regime, Vocabulary, Watch
from limbeck.lm.methods import Method
from limbeck.lm.models import context_length, read_config
from limbeck.lm.teacher_hacking import report_of
from limbeck.lm.teaching import Divergence, spaced
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings

SAME_IN_REGIME = (
    "batch", "accumulate", "warmup", "decay", "weight_decay", "clip", "precision", "lora", "recompute",
    "evaluate_every", "patience",
)  # fmt: skip
SAME_IN_JOB = (
    "seed", "ce_weight", "vocabulary", "cache", "text_weight", "watch", "oracle", "checkpoint_every", "threads",
)  # fmt: skip
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
        except LimbeckError as error:
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
    """Everything that a distillation needs.

    Args:
        teacher: model folder with its tokenizer, or one for every domain of the prompts; or `EndpointSettings` for the
            methods seqkd and sft, and kd with `log_probs`; without one the student as it starts is its own teacher.
        student: model folder, or a size to be made.
        data: UTF-8 text, JSON lines of texts, or JSON lines of prompts (`prompt` or `messages`, see `read_examples`).
        out: folder for the student and the records.
        tokens: how much text to train on; or `steps`.
        field: text field of JSON lines.
        method: by name, or with choices of its own.
        divergence: what is minimised, instead of the method's.
        ce_weight: share of the next-token loss, 0 to 1.
        vocabulary: what to do where the vocabularies differ: error, common, pad, or align for another tokenizer.
        cache: keep what the teacher says about the data: hidden or topk.
        text, text_weight: UTF-8 text or JSON lines whose next tokens are learned beside, for any method, and the weight
            of that loss (L_PT of MiniLLM).
        watch, oracle: for teacher hacking at every evaluation: warn or stop; the truth as a model, if there is one.
        batch: windows or prompts a step.
        context: tokens of a window, by default 128; of a prompt with its answer at most what all models can read.
        accumulate: micro-batches a step (must divide the batch).
        precision, lora, recompute, evaluate_every, patience: see `Regime`.
        lr: peak learning rate; by default 0.256 / hidden size.
        warmup: steps. decay: last share of the steps.
        weight_decay: on matrices. clip: gradient norm.
        seed: of a fresh student and of the order of the text.
        threads: CPU threads; one is fastest for tiny models.
        checkpoint_every: steps.
    """

    teacher: EndpointSettings | FilePath | Mapping[str, FilePath] | None = None
    student: StudentSettings
    data: FilePath
    out: FilePath
    tokens: Count | None = Field(default=None, gt=0)
    steps: Count | None = Field(default=None, gt=0)
    field: str = "text"
    method: Method = Method()
    divergence: DivergenceSettings | None = None
    ce_weight: Number = Field(default=0.0, ge=0, le=1)
    vocabulary: Vocabulary = "error"
    cache: Cached = ""
    text: FilePath | None = None
    text_weight: Number = Field(default=1.0, gt=0)
    watch: Watch = ""
    oracle: FilePath | None = None
    batch: Count = Field(default=8, gt=0)
    context: Count | None = Field(default=None, gt=0)
    accumulate: Count = Field(default=1, gt=0)
    lr: Number | None = Field(default=None, gt=0)
    warmup: Count = Field(default=50, ge=0)
    decay: Number = Field(default=0.2, ge=0, le=1)
    weight_decay: Number = Field(default=0.1, ge=0)
    clip: Number = Field(default=1.0, gt=0)
    precision: Precision = "fp32"
    lora: Count = Field(default=0, ge=0)
    recompute: bool = False
    evaluate_every: Count = Field(default=0, ge=0)
    patience: Count = Field(default=0, ge=0)
    seed: Count = Field(default=0, ge=0)
    threads: Count = Field(default=1, gt=0)
    checkpoint_every: Count = Field(default=500, gt=0)

    @field_validator("teacher", mode="before")
    @classmethod
    def _endpoint(cls, value: Any) -> Any:
        far = isinstance(value, Mapping) and "endpoint" in value
        return check_settings(EndpointSettings, value, source="teacher") if far else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if "text_weight" in self.model_fields_set and self.text is None:
            raise ValueError("text_weight weighs a text: give text")
        if (self.tokens is None) == (self.steps is None):
            raise ValueError("give either tokens (tokens: 2e6) or steps")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate {self.accumulate} does not divide batch {self.batch}")
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts evaluations: give evaluate_every")
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
        student_loss_before, student_loss, teacher_loss: nats per token; None of a teacher that gives answers alone.
        bytes_per_token: of the held-out text; losses divided by it are nats per byte.
        params, teacher_params: without embeddings; None of a teacher behind an endpoint.
        tokens, samples, steps: trained on; answers are counted as samples.
        best_step: after which the student was kept, where it was evaluated several times.
        seconds: wall time of the training.
        warning: what may be wrong with the text, or None.
        already_finished: True if this call found the work done.
    """

    student: str
    student_loss_before: float
    student_loss: float
    teacher_loss: float | None
    bytes_per_token: float
    params: int
    teacher_params: int | None
    tokens: int | None
    steps: int
    seconds: float
    samples: int | None = None
    best_step: int | None = None
    warning: str | None = None
    already_finished: bool = False

    def summary(self) -> str:
        """The answer, in plain text."""

        def losses(unit: str, size: float) -> str:
            return f"loss {self.student_loss_before / size:.3f} → {self.student_loss / size:.3f} {unit}"

        size, theirs = self.bytes_per_token, self.teacher_loss
        of_teacher = ["", ""] if theirs is None else [f", teacher {theirs / one:.3f}" for one in (size, 1.0)]
        if theirs is not None and self.student_loss_before > self.student_loss >= theirs:
            closed = (self.student_loss_before - self.student_loss) / (self.student_loss_before - theirs)
            of_teacher[0] += f" ({100 * closed:.0f} % of the way)"
        params = "" if self.teacher_params is None else f", teacher {spaced(self.teacher_params)}"
        time = "already finished: nothing to do" if self.already_finished else f"{self.seconds:.0f} s"
        read = f"{spaced(self.tokens)} tokens" if self.tokens else f"{spaced(self.samples or 0)} answers"
        best = "" if self.best_step is None else f", best after {spaced(self.best_step)}"
        lines = [
            f"{self.student}: {losses('nats/byte', size)}{of_teacher[0]}",
            f"  student {spaced(self.params)} parameters{params} (without embeddings)",
            f"  {read} in {spaced(self.steps)} steps{best} · {time}",
        ]
        if size != 1:
            lines.insert(1, f"  {losses('nats/token', 1.0)}{of_teacher[1]}")
        return "\n".join([*lines, f"  warning: {self.warning}"] if self.warning else lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, with the losses in nats per byte beside those per token."""
        losses = ("student_loss_before", "student_loss", "teacher_loss")
        given = {name: getattr(self, name) for name in losses}
        return asdict(self) | {f"{name}_per_byte": one and one / self.bytes_per_token for name, one in given.items()}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read what `to_dict` gave."""
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})


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

    with processes().main_process_first():
        job = job_of(recipe)
    training = job.out
    (row,) = distil(job, progress=progress)
    note = recipe.out / "result.json"
    if note.is_file() and (known := json.loads(note.read_text()))["steps"] == row["step"]:
        return replace(DistillationResult.from_dict(known), already_finished=True)

    bytes_per_token = row["loss_per_token"] / row["loss"]
    student = recipe.out / "student"
    if processes().is_main_process:
        _publish(model_folder(training, job.budgets[0]), student)
    kept = ("params", "teacher_params", "tokens", "samples", "best_step", "seconds")
    same: dict[str, Any] = {name: row.get(name) for name in kept}
    result = DistillationResult(
        student=str(student),
        student_loss_before=row["loss_before"] * bytes_per_token,
        student_loss=row["loss_per_token"],
        teacher_loss=row["teacher_loss"] and row["teacher_loss"] * bytes_per_token,
        bytes_per_token=bytes_per_token,
        steps=row["step"],
        **same,
        warning="; ".join(_warnings(job, row)) or None,
    )
    if processes().is_main_process:
        write_json(note, result.to_dict())
    processes().wait_for_everyone()
    return result


def job_of(recipe: DistillRecipe) -> DistilJob:
    """The job of a recipe; a text is read and kept in its folder.

    Raises:
        ConfigError: files or models that cannot be read; `tokens` where prompts have no fixed number of them.
    """
    teacher, method, name = recipe.teacher, recipe.method, ""
    training, data, text = recipe.out / "training", recipe.data, recipe.text
    prompts = has_prompts(data)
    if isinstance(teacher, EndpointSettings):
        data, name = answers_for(method, teacher, data, training / "answers.jsonl", recipe.seed), teacher.model
        teacher, method = None, method.model_copy(update={"answers": "data"})
    teachers = list(teacher.values()) if isinstance(teacher, Mapping) else [teacher]
    configs = [read_config(folder) for folder in (*teachers, recipe.student.folder) if folder is not None]
    limits = [*map(context_length, configs), *([] if prompts else [128])]
    regime = Regime(
        context=recipe.context or min(limits),
        learning_rate=recipe.lr,
        **{name: getattr(recipe, name) for name in SAME_IN_REGIME},
    )
    if not prompts:
        data = text_corpus(recipe.data, recipe.field).save(training / "corpus")
    if text:
        text = text_corpus(text, recipe.field).save(training / "text")
    if recipe.tokens and (prompts or not method.reads):
        raise ConfigError("answers have no fixed number of tokens: give steps instead of tokens")
    return DistilJob(
        run=recipe.out.name,
        data=data,
        out=training,
        teacher=teacher,
        teacher_name=name,
        student=recipe.student.folder
        or FreshStudent(recipe.student.width or 0, layers=recipe.student.layers, heads=recipe.student.heads),
        budgets=(recipe.tokens or (recipe.steps or 1) * regime.step_tokens,),
        method=method,
        text=text,
        divergence=Divergence(**recipe.divergence.model_dump()) if recipe.divergence else None,
        regime=regime,
        **{one: getattr(recipe, one) for one in SAME_IN_JOB},
    )


def _publish(model: Path, folder: Path) -> Path:
    """Copy a model folder to where the user expects it; it appears whole or not at all."""
    writing = folder.with_name(f".{folder.name}")
    shutil.rmtree(writing, ignore_errors=True)
    shutil.copytree(model, writing)
    shutil.rmtree(folder, ignore_errors=True)
    return writing.rename(folder)


def _warnings(job: DistilJob, row: Mapping[str, Any]) -> Iterator[str]:
    """What may be wrong with the text, or with reading it often (Niklas Muennighoff et al., 2023, arXiv 2305.16264).

    And what the monitor of teacher hacking saw.
    """
    if job.data.is_dir() and (said := json.loads((job.data / "corpus.json").read_text())["warning"]):
        yield said
    if (epochs := row.get("epochs", 0.0)) > FREE_EPOCHS:
        yield f"the text was read {epochs:.0f} times: beyond {FREE_EPOCHS} readings it teaches less and less"
    if job.watch:
        curves = json.loads((job.out / "hacking.json").read_text())
        if (report := report_of({int(step): values for step, values in curves.items()})).ill:
            yield report.summary().replace("\n", "; ")
