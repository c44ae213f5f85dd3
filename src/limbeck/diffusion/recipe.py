"""`limbeck distill recipe.yaml` for diffusion models: data, a teacher of many steps, a student of few.

```yaml
room: diffusion
data: digits              # or mnist-5k, arrays.npz, a folder of pictures; ring8, class_ring, grid25, checker
method: dmd2              # see methods.py
student: {sigmas: [2.5]}  # one step
out: distilled/digits
```
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Clock
from limbeck.diffusion.enlarging import factor_of
from limbeck.diffusion.features import feature_network
from limbeck.diffusion.folders import Saved, load_model, save_model
from limbeck.diffusion.judging import Judge, Judged, Row
from limbeck.diffusion.magnifying import evaluate_magnified, magnify
from limbeck.diffusion.methods import Job, Method
from limbeck.diffusion.mixtures import NAMED, mixture
from limbeck.diffusion.multi_student import match_teacher
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.pictures import contact_sheet, progress_figure, save_grid, trajectory_figure, ways
from limbeck.diffusion.samplers import euler, karras
from limbeck.diffusion.sampling import open_model, sheet
from limbeck.diffusion.schedules import reach
from limbeck.diffusion.sources import Draws, Exact, Pictures
from limbeck.diffusion.students import Student, generate, noise_for, one_network
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.diffusion.training import Regime, updates_at
from limbeck.distill.examples import SHIPPED, read_data
from limbeck.distill.regime import cpu_threads
from limbeck.errors import ConfigError, nearest
from limbeck.files import write_json, write_text
from limbeck.fitting.plain import Plain
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings

POINTS = Sizes(64, 2), Pretraining(2500, lr=2e-3, log_mean=-1.4)
SMALL = Sizes(256, 3), Pretraining()
LARGE = Sizes(16, 1, levels=3), Pretraining(2000, batch=64)
"""Networks and regimes of points, of pictures up to 16 x 16, and of larger ones."""


class NetworkSettings(Settings):
    """Sizes that replace those that the data suggest, see `Sizes`."""

    width: Count | None = Field(default=None, gt=0)
    blocks: Count | None = Field(default=None, gt=0)
    levels: Count | None = Field(default=None, ge=0)
    clock: Clock | None = None


class TeacherSettings(NetworkSettings):
    """The group `teacher`; a path alone stands for a model that is there.

    Args:
        path: folder of a model, limbeck's or diffusers'.
        width, blocks, levels, clock: or the sizes of one to be trained.
        steps, batch, lr: and how, see `Pretraining`.
    """

    path: FilePath | None = None
    steps: Count | None = Field(default=None, gt=0)
    batch: Count | None = Field(default=None, gt=0, le=65_536)
    lr: Number | None = Field(default=None, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _there_or_trained(self) -> Self:
        if self.path and (others := sorted(self.model_fields_set - {"path"})):
            raise ValueError(f"{self.path} is a teacher that is there: leave out {', '.join(others)}")
        return self


class StudentSettings(NetworkSettings):
    """The group `student`.

    Args:
        sigmas: noise levels of its steps, falling; by default one, 3.3 times the standard deviation of the data.
        width, blocks, levels: sizes, if it is smaller than the teacher.
        steps: of the smaller network's training by the teacher's answers, before it is distilled.
    """

    sigmas: tuple[Number, ...] = ()
    steps: Count | None = Field(default=None, gt=0)

    @field_validator("sigmas")
    @classmethod
    def _fall(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(a > b for a, b in pairwise((math.inf, *value, 0.0))):
            raise ValueError(f"sigmas of the student must be finite, must fall and be positive, got {list(value)}")
        return value


class DiffusionRecipe(Settings):
    """Everything that the distillation of a diffusion model needs.

    Args:
        room: diffusion.
        data: a name or a path, see `read_data`; a flat folder of pictures is one class; or a law by name.
        size: height and width of pictures.
        conditional: tell the classes, where there are several.
        teacher, student, method: the groups.
        guidance: of the teacher, 1 is none; needs classes.
        updates: of a student, see `Regime`.
        batch, lr, fake_lr, turns, average: see there; the method's own by default.
        judge_every: updates between judgements; a quarter of all by default.
        judge_count: pictures of each set, at most.
        judge_steps: of the teacher's sampler.
        seed: of everything random.
        threads: CPU threads.
        out: folder of all results.
    """

    room: Literal["diffusion"] = "diffusion"
    data: FilePath
    size: Count | None = Field(default=None, gt=0)
    conditional: bool = True
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    method: Method = Method()
    guidance: Number | None = Field(default=None, ge=0)
    updates: Count = Field(default=1000, gt=0)
    batch: Count | None = Field(default=None, gt=0, le=65_536)
    lr: Number | None = Field(default=None, gt=0)
    fake_lr: Number | None = Field(default=None, gt=0)
    turns: Count | None = Field(default=None, gt=0)
    average: Number | None = Field(default=None, ge=0, lt=1)
    judge_every: Count = Field(default=0, ge=0)
    judge_count: Count = Field(default=2000, gt=12)
    judge_steps: tuple[Annotated[Count, Field(gt=0)], ...] = (8, 12, 18)
    seed: Count = Field(default=0, ge=0)
    threads: Count = Field(default=1, gt=0)
    out: FilePath

    @model_validator(mode="after")
    def _guided(self) -> Self:
        if self.method.name == "decoupled" and self.guidance is None:
            raise ValueError("decoupled pushes by guidance: give guidance, for instance 2")
        if not self.judge_steps:
            raise ValueError("judge_steps: give at least one number of steps, got none")
        return self


@dataclass(frozen=True)
class DiffusionResult(Plain):
    """What a recipe gave.

    Args:
        student: folder of the student, for `load_model` and `limbeck sample`.
        data: what was learnt from, in words.
        updates, trainable: see `Distilled`.
        teacher_seconds, seconds: wall time of both trainings; 0 for a teacher that was there.
        progress: what was judged while the student learnt: by training, by updates.
        judged: student and teacher at the end.
        again: the result of an earlier run, read from its file.
    """

    student: str
    data: str
    updates: int
    trainable: float
    teacher_seconds: float
    seconds: float
    progress: Mapping[str, Any]
    judged: Judged
    again: bool = False

    def summary(self) -> str:
        """The answer, in plain text."""
        share = "" if self.trainable == 1 else f", {100 * self.trainable:.1f} % of the parameters trained"
        head = [f"{self.student}", f"  {self.data}"]
        if self.again:
            head.append("  finished before: nothing was trained now")
        head.append(
            f"  teacher trained in {self.teacher_seconds:.0f} s, student in {self.seconds:.0f} s "
            f"({self.updates:,} updates{share})"
        )
        return "\n".join([*head, *(f"  {line}" for line in self.judged.summary().splitlines())])


def read_diffusion_recipe(path: Path | str, overrides: Sequence[str] = ()) -> DiffusionRecipe:
    """Read a recipe file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(DiffusionRecipe, path, overrides)


def run_recipe(recipe: DiffusionRecipe | Mapping[str, Any], *, progress: bool = True) -> DiffusionResult:
    """Distil a diffusion model as a recipe says; the same call goes on after an interruption.

    In `out`: `teacher/` if it was trained here, `student/` (both for `load_model`), `features/` (what pictures are
    compared by), `samples.png` (data, teacher, the student before and after), `runs.jsonl`, `progress.json` (a Plotly
    figure; `limbeck report` shows it), `result.json`.

    Raises:
        ConfigError: a mistake in the recipe, its data or its models.
        TrainingError: `out` holds another training; a loss that is not finite; pictures that collapse.
    """
    if not isinstance(recipe, DiffusionRecipe):
        recipe = check_settings(DiffusionRecipe, recipe, source="recipe")
    where = {"data": str(recipe.data.resolve()), "out": str(recipe.out.resolve())}
    asked = recipe.model_dump(mode="json") | where
    result = recipe.out / "result.json"
    if result.is_file() and (known := json.loads(result.read_text())).get("recipe") == asked:
        judged = known["judged"] | {"rows": [Row(**row) for row in known["judged"]["rows"]]}
        names = {field.name for field in fields(DiffusionResult)} & set(known)
        return DiffusionResult(**{name: known[name] for name in names} | {"judged": Judged(**judged), "again": True})
    with cpu_threads(recipe.threads):
        done = _run(recipe, progress)
    write_json(result, {"recipe": asked, "summary": done.summary(), **done.to_dict()})
    return done


def source_of(data: Path, size: int | None = None, conditional: bool = True) -> Pictures | Exact:
    """Return data by a name or a path; classes are told where there are several.

    Raises:
        ConfigError: no such data.

    Example:
        >>> source_of(Path("ring8")).shape, source_of(Path("digits")).classes
        ((2,), 10)
    """
    law = data.name.replace("-", "_")
    if law in NAMED and not data.exists():
        return Exact(mixture(law), conditional and law == "class_ring")
    known = (*SHIPPED, *NAMED)
    if not data.exists() and data.name not in known:
        raise ConfigError(
            f"{data} does not exist.{nearest(data.name, known)} Give a path, or one of {', '.join(known)}"
        )
    pictures = read_data(data, size, flat=True)
    return Pictures(pictures, conditional and len(pictures.classes) > 1)


def judge_of(source: Pictures | Exact, count: int, folder: Path | None = None, seed: int = 0) -> Judge:
    """Return what compares generators with these data; the network that reads pictures is trained once, in a folder."""
    if isinstance(source, Exact):
        return Judge(source, None, count, seed)
    return Judge(source, feature_network(source.data, folder), min(count, len(source.data)), seed)


def _run(recipe: DiffusionRecipe, progress: bool) -> DiffusionResult:
    data = Path(recipe.data.name) if recipe.data == recipe.out else recipe.data  # data: digits, out: digits
    source = source_of(data, recipe.size, recipe.conditional)
    judge = judge_of(source, recipe.judge_count, recipe.out / "features", recipe.seed)
    if recipe.guidance is not None and not source.classes:
        raise ConfigError(f"guidance {recipe.guidance:g} needs classes, and the data tells none: leave it out")
    if isinstance(source, Pictures):
        words, names = source.data.summary(), source.data.classes
    else:
        words, names = f"{data.name}: {len(source.law.means)} modes", tuple(map(str, range(source.classes)))
    about: dict[str, Any] = {"shape": source.shape, "classes": names if source.classes else ()}
    of_data = source.shape, source.classes, source.data_std
    (sizes, how), seconds = networks_for(recipe, source), 0.0
    given = {f.name: getattr(recipe, f.name) for f in fields(Regime) if getattr(recipe, f.name, None) is not None}
    if recipe.method.name == "scale-distillation":
        if recipe.guidance is not None or recipe.teacher.path or recipe.student.model_fields_set:
            raise ConfigError("scale-distillation trains its teachers: leave out guidance, student, a teacher's path")
        common = {"seed": recipe.seed, "out": recipe.out, "progress": progress}
        runs, judged, rows = magnify(recipe.method, source, judge, sizes, given, common)
        note = {"data": str(data.resolve() if data.exists() else data.name), "seed": recipe.seed}
        for name, factor, run in zip(
            ("teacher", "student"), recipe.method.options.get("factors", (2, 4))[-2:], runs[-2:], strict=True
        ):
            folder = save_model(
                run.student, recipe.out / name, shape=source.shape, classes=(), note=note | {"factor": factor}
            )
        save_grid(recipe.out / "samples.png", contact_sheet(rows))
        took = [run.seconds for run in runs]
        return DiffusionResult(str(folder), words, recipe.updates, 1.0, sum(took[:-1]), took[-1], {}, judged)
    if recipe.teacher.path is None:
        where, started = recipe.out / "teacher", sizes.build(*of_data, recipe.seed)
        how = _replaced(how, recipe.teacher)
        trained = train_teacher(started, source, how, seed=recipe.seed, out=where, progress=progress)
        teacher: nn.Module = trained.denoiser
        seconds = trained.seconds
        save_model(teacher, where, **about)
    else:
        saved = open_model(recipe.teacher.path, source.classes if recipe.guidance else None)
        teacher = require_fit(saved, source, recipe.teacher.path, "teacher").model
    first = teacher
    if recipe.student.model_fields_set - {"sigmas"}:
        small = _replaced(sizes, recipe.student).build(*of_data, recipe.seed + 1)
        own = {"seed": recipe.seed, "out": recipe.out / "student-start", "progress": progress}
        first = match_teacher(small, teacher, source, _replaced(how, recipe.student), **own).denoiser
    sigmas = list(recipe.student.sigmas) or [round(3.3 * source.data_std, 2)]
    every, last = recipe.judge_every, recipe.updates
    at = range(every, last + 1, every) if every else updates_at(last)
    common = {"judge": judge.quick, "judge_at": at, "seed": recipe.seed, "out": recipe.out, "progress": progress}
    student, runs = recipe.method.run(Job(teacher, first, recipe.guidance, source, sigmas, given, common))
    folder = save_model(student, recipe.out / "student", **about)
    students = {"student before": one_network(first, sigmas), "student": student}
    judged, pictures = judge.compare(teacher, students, recipe.judge_steps, recipe.guidance)
    best = pictures[judged.best.name]
    shown = {"data": source.draw(Draws(recipe.seed, 0), len(best))[0], judged.best.name: best}
    shown |= {name: pictures[name] for name in students}
    save_grid(recipe.out / "samples.png", contact_sheet({name: sheet(x) for name, x in shown.items()}))
    progressed = {f"training {k}": run.judged for k, run in enumerate(runs, 1) if run.judged}
    if progressed:
        level = {judge.metric: judged.value(judged.best)}
        known = progressed | {judged.best.name: {1: level, last: level}}
        figure = progress_figure(known, judge.metric, judged.floor["jsd"] if judge.network is None else None)
        write_text(recipe.out / "progress.json", str(figure.to_json()))
    if isinstance(source, Exact):
        _drawn_ways(recipe, source, {"teacher": teacher, "student": student}, judge.cond())
    return DiffusionResult(
        str(folder), words, last, runs[-1].trainable, seconds, sum(run.seconds for run in runs), progressed, judged
    )


def _drawn_ways(recipe: DiffusionRecipe, source: Exact, models: dict[str, nn.Module], cond: Tensor | None) -> None:
    """Write how 60 samples of each model go through the plane; several students have no common way."""
    told, noise = None if cond is None else cond[:60], torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
    for who, model in models.items():
        if who == "teacher":
            sample = partial(euler, model, noise, karras(18, *reach(model)), told)
        elif isinstance(model, Student):
            sample = partial(generate, model, noise_for(model, source.shape, 60, 0), told)
        else:
            continue
        figure = trajectory_figure(source.law, ways(model, source.data_std, sample), who)
        write_text(recipe.out / f"ways-{who}.json", str(figure.to_json()))


def networks_for(recipe: DiffusionRecipe, source: Pictures | Exact) -> tuple[Sizes, Pretraining]:
    """Return sizes and regime of the recipe's teacher for these data."""
    sizes, how = POINTS if len(source.shape) == 1 else SMALL if max(source.shape) <= 16 else LARGE
    return _replaced(sizes, recipe.teacher), how


def params_of_student(recipe: DiffusionRecipe) -> int:
    """Return how many parameters the student of a recipe will have, before anything is trained."""
    if recipe.teacher.path is not None and not recipe.student.model_fields_set - {"sigmas"}:
        return open_model(recipe.teacher.path).params
    source = source_of(recipe.data, recipe.size, recipe.conditional)
    sizes = _replaced(networks_for(recipe, source)[0], recipe.student)
    return sum(one.numel() for one in sizes.build(source.shape, source.classes, source.data_std, 0).parameters())


def _replaced(known: Any, given: Settings) -> Any:
    """A group's choices in place of those known."""
    names = {field.name for field in fields(known)}
    return replace(known, **{k: v for k, v in given if k in names and v is not None})


def require_fit(saved: Saved, source: Pictures | Exact, path: Path, kind: str = "") -> Saved:
    """Return a saved model that fits the data.

    Raises:
        ConfigError: pictures of another shape, other classes, a student in place of a teacher.
    """
    if tuple(saved.shape) != source.shape or len(saved.classes) != source.classes or kind not in ("", saved.kind):
        raise ConfigError(
            f"{path} holds a {saved.kind} of {list(saved.shape)} and {len(saved.classes)} classes, the data has "
            f"{list(source.shape)} and {source.classes}: give {'a teacher' if kind else 'a model'} of the same, or "
            "change size and conditional"
        )
    return saved


def evaluate_folder(student: Path, against: Path, data: Path, limit: int | None = None, seed: int = 0) -> Judged:
    """Compare a saved student with a saved teacher.

    Args:
        student, against: folders.
        data: what both should make, see `source_of`.
        limit: so many pictures of each set, 2000 by default.
        seed: of the noise.

    Raises:
        ConfigError: no such folder, a student of other pictures or classes than the data.
    """
    if limit is not None and limit < 13:
        raise ConfigError(f"limit: so many of each set are compared, at least 13, got {limit}")
    saved = load_model(student)
    if factor_of(saved) is not None:
        return evaluate_magnified(saved, open_model(against), data, limit or 2000)
    source = source_of(data, saved.shape[-1] if data.is_dir() else None, bool(saved.classes))
    require_fit(saved, source, student)
    teacher = require_fit(open_model(against), source, against, "teacher")
    judged, _ = judge_of(source, limit or 2000, seed=seed).compare(teacher.model, {"student": saved.model}, (8, 12, 18))
    return judged
