"""`limbeck distill recipe.yaml` for click logs: a log, a teacher, a student and a method, in a file of eight lines.

```yaml
room: recsys
data: movielens                                   # or synthetic, clicks.csv, clicks.parquet
teacher: {blocks: 1, width: 8, length: 16}        # or a folder, with method: kd
student: {blocks: 1, width: 4, length: 8, window: 3, dilation: 3}
method: online                                    # kd, ce
out: distilled/clicks
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import TrainingSettings, cpu_threads
from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.fitting.plain import Plain
from limbeck.recsys.clicks import read_clicks
from limbeck.recsys.evaluation import ClickJudgement, judge_logits, scores
from limbeck.recsys.ladder import Ladder, climb
from limbeck.recsys.networks import load_network, save_network, sizes_of
from limbeck.recsys.training import Lesson, TrainedClicks, Way, one_epoch, train_clicks
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings


def _folder_or_sizes(value: Any) -> Any:
    if not isinstance(value, str | Path | dict):
        raise ValueError(f"a network is a folder, or sizes as in {{blocks: 1, width: 4}}, got {value!r}")
    return value


Group = Annotated[FilePath | dict[str, Any], BeforeValidator(_folder_or_sizes)]


class LadderSettings(Settings):
    """The group `ladder`: see `climb`."""

    grades: dict[str, dict[str, Any]]
    shares: tuple[Number, ...] = (1.0,)
    seeds: Count = Field(default=3, gt=0)


class ClickRecipe(TrainingSettings):
    """Everything that the distillation of a click network needs.

    Args:
        room: recsys.
        data: a name or a path, see `read_clicks`.
        teacher: sizes of a network to be trained, with its `kind` ("suan" if it is left out), or the folder of one.
        student: sizes.
        method, temperature, weight: see `Lesson`.
        share_tables: student and teacher train one set of tables.
        share: of the training events.
        epochs: over them, unless `steps` is given; more than one over-fits tables of users and items.
        ladder: train these grades instead, see `climb`; `steps` are then those of every training.
        batch, lr, seed, out, ...: see `TrainingSettings`.
    """

    room: Literal["recsys"] = "recsys"
    data: FilePath
    teacher: Group | None = None
    student: dict[str, Any] | None = None
    method: Way = "online"
    temperature: Number = Field(default=2.0, gt=0)
    weight: Number | None = Field(default=None, ge=0)
    share_tables: bool = False
    share: Number = Field(default=1.0, gt=0, le=1)
    epochs: Number = Field(default=1.0, gt=0)
    steps: Count = Field(default=0, ge=0)
    batch: Count = Field(default=256, gt=1)
    lr: Number = Field(default=2e-3, gt=0)
    schedule: Literal["cosine", "constant"] = "constant"
    ladder: LadderSettings | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ClickRecipe:
        given = [self.student, self.teacher, *(self.ladder.grades.values() if self.ladder else [])]
        try:
            for one in given:
                if isinstance(one, dict):
                    sizes_of(one)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        if (self.student is None) != bool(self.ladder and self.ladder.grades):
            raise ValueError("give a student, or a ladder of grades")
        if self.student is not None and (self.teacher is None) != (self.method == "ce"):
            raise ValueError(f"method {self.method} {'takes no' if self.method == 'ce' else 'needs a'} teacher")
        if isinstance(self.teacher, Path) and self.method == "online":
            raise ValueError("a teacher in a folder has learnt already: take method kd")
        return self


@dataclass(frozen=True)
class ClickResult:
    """What a recipe gave.

    Args:
        folder: of the student or the ladder.
        data: what was learnt from, in words.
        found: the training.
    """

    folder: str
    data: str
    found: TrainedClicks | Ladder

    def summary(self) -> str:
        """The answer, in plain text."""
        return "\n  ".join([self.folder, *self.data.splitlines(), *self.found.summary().splitlines()])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"folder": self.folder, "data": self.data} | self.found.to_dict()


def read_click_recipe(path: Path | str, overrides: Sequence[str] = ()) -> ClickRecipe:
    """Read a recipe file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(ClickRecipe, path, overrides)


def run_recipe(recipe: ClickRecipe | Mapping[str, Any], *, progress: bool = True) -> ClickResult:
    """Distil a click network as a recipe says; the same call goes on after an interruption.

    In `out`: `student/` and `teacher/` (see `save_network`), `runs.jsonl`, `result.json`.

    Raises:
        ConfigError: a mistake in the recipe or its log.
        TrainingError: `out` holds another training; a loss that is not finite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     settings = {"data": "synthetic", "method": "ce", "student": {"length": 4}, "steps": 5, "out": out}
        ...     run_recipe(settings, progress=False).data
        'synthetic: 40,000 events of 500 users, 300 items, 38.0 % clicked'
    """
    if not isinstance(recipe, ClickRecipe):
        recipe = check_settings(ClickRecipe, recipe, source="recipe")
    with cpu_threads(recipe.threads):
        done = _climb(recipe, recipe.ladder, progress) if recipe.ladder else _distil(recipe, progress)
    write_json(recipe.out / "result.json", done.to_dict())
    return done


def _climb(recipe: ClickRecipe, ladder: LadderSettings, progress: bool) -> ClickResult:
    clicks, grades = read_clicks(recipe.data), {name: sizes_of(one) for name, one in ladder.grades.items()}
    how: dict[str, Any] = {"shares": ladder.shares, "seeds": ladder.seeds, "steps": recipe.steps, "progress": progress}
    return ClickResult(str(recipe.out), clicks.summary(), climb(clicks, grades, recipe.out, **how))


def _distil(recipe: ClickRecipe, progress: bool) -> ClickResult:
    saved = load_network(recipe.teacher) if isinstance(recipe.teacher, Path) else None
    clicks, sizes = read_clicks(recipe.data, saved.schema if saved else None), sizes_of(recipe.student or {})
    epoch = one_epoch(clicks, recipe.batch, share=recipe.share, epochs=recipe.epochs)
    regime = replace(recipe.regime, steps=recipe.steps or epoch.steps, batch=epoch.batch)
    how: dict[str, Any] = {"positions": clicks.some(recipe.share, recipe.seed), "regime": regime}
    how |= {"seed": recipe.seed, "progress": progress}
    student, teacher, made = sizes.build(clicks.schema, recipe.seed), saved.network if saved else None, None
    if isinstance(recipe.teacher, dict):
        made = sizes_of(recipe.teacher)
        teacher = made.build(clicks.schema, recipe.seed + 1000)
        if recipe.method == "kd":
            train_clicks(teacher, clicks, out=recipe.out / "teacher", **how)
    lesson = Lesson(recipe.method, recipe.temperature, recipe.weight)
    how |= {"teacher": teacher, "lesson": lesson, "tables_shared": recipe.share_tables}
    found = train_clicks(student, clicks, out=recipe.out, **how)
    if teacher is not None and made is not None:
        save_network(teacher, made, clicks.schema, recipe.out / "teacher")
    folder = save_network(student, sizes, clicks.schema, recipe.out / "student")
    return ClickResult(str(folder), clicks.summary(), found)


@dataclass(frozen=True)
class ClickComparison(Plain):
    """A student beside its teacher, on the same events.

    Args:
        student, teacher: how good each is.
        divergence: mean KL(teacher‖student) of their click probabilities, nats.
    """

    student: ClickJudgement
    teacher: ClickJudgement
    divergence: float

    def summary(self) -> str:
        """Three lines."""
        return (
            f"student {self.student.summary()}\nteacher {self.teacher.summary()}\non {self.student.examples:,} events: "
            f"student {1000 * (self.student.auc - self.teacher.auc):+.1f} thousandths of AUC, "
            f"KL(teacher‖student) {self.divergence:.4f} nats"
        )


def evaluate_folder(student: Path, against: Path, data: Path | str, limit: int | None = None) -> ClickComparison:
    """Compare a student with its teacher on the last events of every user of a log.

    Args:
        student, against: folders that limbeck wrote.
        data: see `read_clicks`.
        limit: so many events only.

    Raises:
        ConfigError: a folder or a log that cannot be read; events of one label only.
    """
    said, judged = [], []
    for folder in (student, against):
        saved = load_network(folder)
        clicks = read_clicks(data, saved.schema)
        positions = clicks.test[:limit]
        said.append(scores(saved.network, clicks, positions).double())
        judged.append(judge_logits(said[-1], clicks, positions))
    q = said[1].sigmoid()
    entropy = F.binary_cross_entropy_with_logits(said[1], q)
    return ClickComparison(judged[0], judged[1], float(F.binary_cross_entropy_with_logits(said[0], q) - entropy))
