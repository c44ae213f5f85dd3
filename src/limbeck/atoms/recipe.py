"""`limbeck distill recipe.yaml` for interatomic potentials: frames, a teacher, and a smaller student.

```yaml
room: atoms
data: emt:CuAl                      # or frames.extxyz, water.npz, several of them
teacher: {layers: 2, steps: 2000}   # trained first; or a folder; without one the student learns the labels alone
student: {layers: 1, angles: 0}
dynamics: {starts: 16}              # trajectories of the teacher that the student learns from
steps: 2000
out: distilled/atoms
```
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from io import StringIO
from pathlib import Path
from time import process_time
from typing import Any, Literal

from ase.io import write
from pydantic import Field, model_validator

from limbeck.atoms.descriptor import Sizes
from limbeck.atoms.distillation import Dynamics, told, visited
from limbeck.atoms.frames import Example, example_of, read_frames, split_frames
from limbeck.atoms.model import Potential, build, load_potential, save_potential
from limbeck.atoms.training import Judged, Trained, judge, train_potential, with_dataset
from limbeck.distill.players import digest
from limbeck.distill.regime import Regime, TrainingSettings, cpu_threads
from limbeck.errors import ConfigError
from limbeck.files import write_json, write_text
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings

Widths = tuple[Count, ...]


class PotentialSettings(Settings):
    """The groups `teacher` and `student`; a path alone stands for a potential that is there.

    Args:
        path: a folder that limbeck wrote.
        layers, nodes, edges, angles, hidden: or the sizes of one to be made, see `Sizes`.
        steps: a teacher to be made learns the labels in so many.
    """

    path: FilePath | None = None
    layers: Count = Field(default=2, ge=0)
    nodes: Count = Field(default=24, gt=0)
    edges: Count = Field(default=16, gt=0)
    angles: Count = Field(default=8, ge=0)
    hidden: Widths = Field(default=(48, 48), min_length=1)
    steps: Count = Field(default=2000, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value


class Geometry(Settings):
    """The group `geometry`, of potentials that are made here: cut-offs in Å and norms, see `Sizes`."""

    cutoff: Number = 5.0
    smooth: Number = 4.4
    angle_cutoff: Number = 3.5
    angle_smooth: Number = 3.0
    edge_norm: Number = 8.0
    angle_norm: Number = 3.0
    threshold: Number = Field(default=10.0, gt=0)


class AtomsRecipe(TrainingSettings):
    """Everything that the distillation of a potential needs.

    Args:
        room: atoms.
        data: one source of frames or several with reference levels of their own, see `read_frames`.
        elements: symbols of the types of .npz files.
        frames: so many of each source.
        test: share of the frames to judge by, whole trajectories or systems.
        weights: of the sources in training.
        teacher: trained on the labels first, or a folder; none learns labels alone.
        student: the potential.
        geometry: cut-offs.
        dynamics: of the teacher; its frames are what the student learns from, beside those of the data.
        labels: of the data's frames that the student sees: the teacher's, or the true ones.
        dataset: whose reference level the student learns, of a teacher of several.
        lr_end: last learning rate.
        steps, batch, lr, seed, out, ...: see `TrainingSettings`; there is no choice of schedule.
    """

    room: Literal["atoms"] = "atoms"
    data: FilePath | Sequence[FilePath]
    elements: tuple[str, ...] = ()
    frames: Count | None = Field(default=None, gt=1)
    test: Number = Field(default=0.2, gt=0, lt=1)
    weights: tuple[Number, ...] = ()
    teacher: PotentialSettings | None = None
    student: PotentialSettings
    geometry: Geometry = Geometry()
    dynamics: Dynamics | None = None
    labels: Literal["teacher", "true"] = "teacher"
    dataset: Count = Field(default=0, ge=0)
    steps: Count = Field(default=2000, gt=0)
    batch: Count = Field(default=4, gt=0)
    lr: Number = Field(default=5e-3, gt=0)
    lr_end: Number = Field(default=1e-4, gt=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    weight_decay: Number = Field(default=1e-3, ge=0)
    clip: Number | None = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> AtomsRecipe:
        if {"schedule", "warmup"} & self.model_fields_set:
            raise ValueError(
                "potentials learn at a rate that falls exponentially to lr_end: leave out schedule, warmup"
            )
        if self.lr_end > self.lr:
            raise ValueError(f"lr_end {self.lr_end:g} is above lr {self.lr:g}: the rate falls")
        if self.teacher is None and {"dynamics", "labels"} & self.model_fields_set:
            raise ValueError(
                "without a teacher there is no dynamics and no choice of labels: name one, or leave them out"
            )
        if self.dataset >= len(self.sources) and self.dataset:
            raise ValueError(f"there are {len(self.sources)} data sets, dataset: {self.dataset} is none of them")
        return self

    @property
    def sources(self) -> list[Path]:
        """One or several."""
        return list(self.data) if isinstance(self.data, Sequence) else [self.data]

    def train(
        self, potential: Potential, frames: Sequence[Any], test: Sequence[Any], steps: int, **more: Any
    ) -> Trained:
        """A training with the recipe's rates."""
        regime = Regime(
            steps, self.batch, self.lr, self.optimizer, self.weight_decay, clip=self.clip,
            evaluate_every=self.evaluate_every,
        )  # fmt: skip
        return train_potential(
            potential, frames, test, regime=regime, end=self.lr_end / self.lr, seed=self.seed, **more
        )


@dataclass(frozen=True)
class AtomsResult:
    """What a recipe gave.

    Args:
        student: folder of the student, for `load_potential` and `Potentials`.
        trained: the student, judged by true labels.
        teacher: on the same held-out frames; None without one.
        frames: that the student learnt from: of the data, of the teacher's dynamics.
        notes: what a reader should know.
    """

    student: str
    trained: Trained
    teacher: Judged | None
    frames: tuple[int, int]
    notes: Sequence[str] = ()

    def summary(self) -> str:
        """The answer, in plain text."""
        data, visits = self.frames
        lines = [self.student, f"learnt from {data:,} frames of the data and {visits:,} of the teacher's dynamics"]
        lines += self.trained.summary().splitlines()
        if self.teacher is not None:
            lines += ["the teacher on the same frames:", *(f"  {one}" for one in self.teacher.summary().splitlines())]
        return "\n  ".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        teacher = asdict(self.teacher) if self.teacher else None
        about = {"student": self.student, "teacher": teacher, "frames": list(self.frames), "notes": list(self.notes)}
        return about | self.trained.to_dict()


def read_atoms_recipe(path: Path | str, overrides: Sequence[str] = ()) -> AtomsRecipe:
    """Read a recipe file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(AtomsRecipe, path, overrides)


def run_recipe(recipe: AtomsRecipe | Mapping[str, Any], *, progress: bool = True) -> AtomsResult:
    """Distil a potential as a recipe says; the same call goes on after an interruption.

    In `out`: `student/`, `teacher/` if it was trained here, `visited-*.extxyz` (frames of its dynamics),
    `held-out.extxyz`, `runs.jsonl`, `result.json`.

    Raises:
        ConfigError: a mistake in the recipe, its data or its potentials.
        TrainingError: `out` holds another training; a loss that is not finite; dynamics that ran away.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     sizes = {"layers": 1, "nodes": 8, "edges": 6, "angles": 0, "hidden": [8]}
        ...     settings = {"data": "emt:CuAl", "frames": 4, "student": sizes, "steps": 2, "out": out}
        ...     run_recipe(settings, progress=False).frames
        (3, 0)
    """
    if not isinstance(recipe, AtomsRecipe):
        recipe = check_settings(AtomsRecipe, recipe, source="recipe")
    with cpu_threads(recipe.threads):
        return _run(recipe, progress)


def _run(recipe: AtomsRecipe, progress: bool) -> AtomsResult:
    learn, test = _data(recipe)
    out, several, elements = recipe.out, len(recipe.sources), _elements([*learn, *test])
    notes: list[str] = []
    teacher, visits, held = None, list[Any](), test
    if recipe.teacher is not None:
        teacher = _potential(recipe.teacher, recipe, elements, several, recipe.seed + 1000)
        if recipe.teacher.path is None:
            recipe.train(teacher, learn, test, recipe.teacher.steps, weights=recipe.weights, out=out / "teacher",
                         progress=progress)  # fmt: skip
            save_potential(teacher, out / "teacher")
        mine = [one for one in learn if one.info.get("dataset", 0) == recipe.dataset]
        held = with_dataset([one for one in test if one.info.get("dataset", 0) == recipe.dataset], 0)
        visits = _visits(recipe, teacher, mine)
        if recipe.dynamics and (lost := recipe.dynamics.frames - len(visits)):
            notes.append(
                f"{lost} frames of the dynamics are missing: its forces ran away, and trajectories ended early"
            )
        known = mine if recipe.labels == "true" else told(teacher, mine, recipe.dataset)
        learn, several = with_dataset([*known, *visits], 0), 1
    student = _potential(recipe.student, recipe, elements, several, recipe.seed)
    columns = {} if teacher is None else {"teacher_params": teacher.params}
    trained = recipe.train(
        student, learn, held, recipe.steps, out=out, progress=progress, columns=columns,
        weights=recipe.weights if several > 1 else (),
    )  # fmt: skip
    judged = None
    if teacher is not None:
        held = with_dataset(held, recipe.dataset)
        judged = judge(teacher, [example_of(teacher, one) for one in held])
    write(out / "held-out.extxyz", held)
    folder = save_potential(student, out / "student")
    done = AtomsResult(str(folder), trained, judged, (len(learn) - len(visits), len(visits)), tuple(notes))
    write_json(out / "result.json", done.to_dict())
    return done


def params_of_student(recipe: AtomsRecipe) -> int:
    """Size of the student of a recipe, before anything is trained."""
    learn, test = _data(recipe)
    several = 1 if recipe.teacher else len(recipe.sources)
    return _potential(recipe.student, recipe, _elements([*learn, *test]), several, recipe.seed).params


def _elements(frames: Sequence[Any]) -> tuple[str, ...]:
    return tuple(sorted({symbol for one in frames for symbol in one.symbols}))


def _data(recipe: AtomsRecipe) -> tuple[list[Any], list[Any]]:
    """Frames to learn from and to judge by, each source a data set."""
    learn, test = list[Any](), list[Any]()
    for k, source in enumerate(recipe.sources):
        frames = with_dataset(read_frames(source, recipe.frames, recipe.elements, recipe.seed), k)
        one, other = split_frames(frames, recipe.test, recipe.seed)
        learn, test = learn + one, test + other
    return learn, test


def _visits(recipe: AtomsRecipe, teacher: Potential, frames: Sequence[Any]) -> list[Any]:
    """Frames of the teacher's dynamics: those of an earlier call, or new ones."""
    if recipe.dynamics is None:
        return []
    said = f"{digest(teacher)} {recipe.dynamics} {recipe.seed} {recipe.dataset}"
    kept = recipe.out / f"visited-{sha256(said.encode()).hexdigest()[:8]}.extxyz"
    if not kept.is_file():
        found = visited(teacher, frames, recipe.dynamics, seed=recipe.seed, dataset=recipe.dataset)
        text = StringIO()
        write(text, found, format="extxyz")
        write_text(kept, text.getvalue())
    return read_frames(kept)


def _potential(
    settings: PotentialSettings, recipe: AtomsRecipe, elements: tuple[str, ...], several: int, seed: int
) -> Potential:
    """A potential that is there, or a fresh one."""
    if settings.path is not None:
        found = load_potential(settings.path)
        if missing := set(elements) - set(found.sizes.elements):
            raise ConfigError(f"{settings.path} does not know {', '.join(sorted(missing))}, which the data has")
        if found.sizes.datasets != several:
            raise ConfigError(
                f"{settings.path} was trained on {found.sizes.datasets} data sets, the recipe has {several}"
            )
        return found
    made = settings.model_dump(include={"layers", "nodes", "edges", "angles", "hidden"})
    return build(Sizes(elements, **made, **recipe.geometry.model_dump(), datasets=several), seed)


@dataclass(frozen=True)
class Compared:
    """A student and its teacher on the same frames.

    Args:
        student, teacher: against the labels.
        apart: the student against the teacher.
        milliseconds: of a force call of one frame, student and teacher.
    """

    student: Judged
    teacher: Judged
    apart: Judged
    milliseconds: tuple[float, float]

    def summary(self) -> str:
        """The answer, in plain text."""
        lines = []
        for name in ("student", "teacher"):
            lines.append(f"{name}: " + getattr(self, name).summary().replace("\n", "\n  "))
        apart, (fast, slow) = self.apart, self.milliseconds
        lines.append(
            f"student against teacher: forces {apart.force_mae:.3g} meV/Å, energies {apart.energy_mae:.3g} meV/atom"
        )
        return "\n".join([*lines, f"{fast:.1f} ms a frame, the teacher {slow:.1f}"])

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def evaluate_folder(student: Path, against: Path, data: Path | str, limit: int | None = None) -> Compared:
    """Compare a student with its teacher, both in folders.

    Args:
        student, against: folders that limbeck wrote.
        data: frames, see `read_frames`.
        limit: so many of them.
    """
    small, large, frames = load_potential(student), load_potential(against), read_frames(data, limit)

    def seen(by: Potential, frames: Sequence[Any]) -> list[Example]:
        own = frames if by.sizes.datasets > 1 else with_dataset(frames, 0)
        return [example_of(by, one) for one in own]

    seconds, judged = [], []
    for one in (small, large):
        examples = seen(one, frames)
        began = process_time()
        judged.append(judge(one, examples, batch=1))
        seconds.append(1e3 * (process_time() - began) / len(frames))
    asked = frames if large.sizes.datasets > 1 else with_dataset(frames, 0)
    apart = judge(small, seen(small, told(large, asked)))
    return Compared(judged[0], judged[1], apart, (seconds[0], seconds[1]))
