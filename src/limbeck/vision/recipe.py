"""`limbeck distill recipe.yaml` for classifiers: data, a teacher, a student and a method, in a file of eight lines.

```yaml
room: vision
data: digits                        # or mnist-5k, arrays.npz, a folder of pictures by class
per_class: 10                       # labels of each class; all if it is left out
teacher: {hidden: [128, 128]}       # trained first; or a folder, model.onnx, answers.npz
student: {hidden: [16]}
method: kd
steps: 800
out: distilled/
```
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from limbeck.distill.examples import Labelled, read_data, require_apart, save_data
from limbeck.distill.regime import Regime, TrainingSettings, cpu_threads
from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.settings import Count, FilePath, Number, Settings, check_settings, read_settings
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.evaluation import Comparison, evaluate
from limbeck.vision.file_types import read_files
from limbeck.vision.generations import Generations, GenerationSettings
from limbeck.vision.methods import Method
from limbeck.vision.networks import Network, load_network, require_kind, save_network
from limbeck.vision.teachers import Answers, Chosen, Module, Onnx, Several, Teacher, log_probabilities, teacher_of
from limbeck.vision.training import Distilled, distill

MAGIKA = "magika"
"""The teacher of file types, which reads any folder of files."""


class NetworkSettings(Settings):
    """The groups `teacher` and `student`; a path alone stands for a network that is there.

    Args:
        path: a folder that limbeck wrote, an .onnx file, or an .npz of `logits` or `probabilities` of all examples.
        hidden, channels, dropout, histogram: or the sizes of one to be made; see `Network`.
        steps, lr: a teacher to be made learns the labels in so many steps, at this rate.
    """

    path: FilePath | None = None
    hidden: tuple[Count, ...] = ()
    channels: tuple[Count, ...] = ()
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    histogram: Count = Field(default=0, ge=0)
    steps: Count = Field(default=800, gt=0)
    lr: Number = Field(default=1e-3, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value

    @property
    def sizes(self) -> Network:
        """The network to be made."""
        return Network(self.hidden, self.channels, self.dropout, self.histogram)


class AugmentationSettings(Settings):
    """The group `augmentation`: see `Augmentation`."""

    shift: Number = Field(default=0.0, ge=0, lt=1)
    rotate: Number = Field(default=0.0, ge=0)
    scale: Number = Field(default=0.0, ge=0, lt=1)
    flip: bool = False
    erase: Number = Field(default=0.0, ge=0, lt=1)
    views: Count = Field(default=0, ge=0)


class ClassifierRecipe(TrainingSettings):
    """Everything that the distillation of a classifier needs.

    Args:
        room: vision.
        data: a name or a path, see `read_data`; with the teacher `magika` any folder of files.
        test: share of the data to judge by, or other data.
        size: of pictures.
        per_class: so many labels of each class; all by default.
        unlabelled: keep the other examples too, without their labels.
        teacher: one or several; without one the student learns labels alone.
        student: the network.
        method: by name, or with choices of its own.
        generations: of self-distillation or of a lineage, in place of the method; see `GenerationSettings`.
        augmentation: of pictures.
        keep: ask the teacher once for every view, and keep its answers.
        steps, batch, lr, seed, out, ...: see `TrainingSettings`.
    """

    room: Literal["vision"] = "vision"
    data: FilePath
    test: Number | FilePath = 0.5
    size: Count | None = Field(default=None, gt=0)
    per_class: Count | None = Field(default=None, gt=0)
    unlabelled: bool = False
    teacher: NetworkSettings | Sequence[NetworkSettings] | None = None
    student: NetworkSettings
    method: Method = Method()
    generations: GenerationSettings | None = None
    augmentation: AugmentationSettings = AugmentationSettings()
    keep: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> "ClassifierRecipe":
        alone = self.method.only_labels if self.generations is None else self.generations.anchor is None
        if self.teacher is None and not alone:
            needy = "an anchor" if self.generations else f"method {self.method.name}"
            raise ValueError(f"{needy} needs a teacher: name one, or take method: ce")
        unused = {"method", "keep", "teacher" if alone else "augmentation"} & self.model_fields_set
        if self.generations and unused:
            raise ValueError(f"generations make no use of {' and '.join(sorted(unused))}: leave it out")
        if isinstance(self.test, float | int) and not 0 < self.test < 1:
            raise ValueError(f"test is a share from 0 to 1 or other data, got {self.test}")
        return self

    @property
    def teachers(self) -> list[NetworkSettings]:
        """None, one or several."""
        given = self.teacher
        return [] if given is None else list(given) if isinstance(given, Sequence) else [given]


@dataclass(frozen=True)
class ClassifierResult:
    """What a recipe gave.

    Args:
        student: folder of the student, for `load_network`.
        data: what was learnt from, in words.
        distilled: the training.
    """

    student: str
    data: str
    distilled: Distilled | Generations

    def summary(self) -> str:
        """The answer, in plain text."""
        return f"{self.student}\n  {self.data}\n  {self.distilled.summary()}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"student": self.student, "data": self.data} | self.distilled.to_dict()


def read_classifier_recipe(path: Path | str, overrides: Sequence[str] = ()) -> ClassifierRecipe:
    """Read a recipe file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(ClassifierRecipe, path, overrides)


def run_recipe(recipe: ClassifierRecipe | Mapping[str, Any], *, progress: bool = True) -> ClassifierResult:
    """Distil a classifier as a recipe says; the same call goes on after an interruption.

    In `out`: `student/` (see `save_network`), `teacher-1/` if it was trained here, `held-out.npz` (what it was judged
    by), `runs.jsonl`, `result.json`.

    Raises:
        ConfigError: a mistake in the recipe, its data or its networks.
        TrainingError: `out` holds another training; a loss that is not finite.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as out:
        ...     settings = {"data": "digits", "teacher": {"hidden": [32]}, "student": {"hidden": [8]}, "out": out}
        ...     run_recipe(settings | {"steps": 30}, progress=False).data
        'digits: 899 examples of [1, 8, 8], 10 classes, 899 labelled'
    """
    if not isinstance(recipe, ClassifierRecipe):
        recipe = check_settings(ClassifierRecipe, recipe, source="recipe")
    with cpu_threads(recipe.threads):
        ready = prepare(recipe, progress)
        student, made = student_of(recipe, ready.learn)
        how: Any = {"regime": recipe.regime, "augmentation": Augmentation(**recipe.augmentation.model_dump())}
        how |= {"test": ready.test, "seed": recipe.seed, "out": recipe.out, "progress": progress}
        if recipe.generations is not None:
            result: Any = recipe.generations.run(ready.teacher, lambda _: deepcopy(student), ready.learn, **how)
        else:
            kept = recipe.out / "kept" if recipe.keep else None
            result = distill(ready.teacher, student, ready.learn, loss=recipe.method, keep=kept, **how)
    learn = ready.learn
    folder = save_network(result.student, made, learn.inputs.shape[1:], learn.classes, recipe.out / "student")
    save_data(ready.test, recipe.out / "held-out.npz")
    done = ClassifierResult(str(folder), learn.summary(), result)
    write_json(recipe.out / "result.json", done.to_dict())
    return done


@dataclass(frozen=True)
class Ready:
    """A distillation that can begin.

    Args:
        learn, test: what the student learns from, and what it is judged by.
        teacher: of the classes of the data; None for labels alone.
    """

    learn: Labelled
    test: Labelled
    teacher: Teacher | torch.nn.Module | None


def prepare(recipe: ClassifierRecipe, progress: bool = False) -> Ready:
    """Read the data, load the teachers, and train those that are not there yet.

    Raises:
        ConfigError: data or networks that cannot be read or do not fit.
    """
    files = [one for one in recipe.teachers if one.path is not None and one.path.name == MAGIKA]
    if files:
        if len(recipe.teachers) > 1:
            raise ConfigError(f"{MAGIKA} teaches file types alone: leave out the other teachers")
        data, network, names = read_files(recipe.data)
        teachers: list[Any] = [Chosen(network, names, data.classes)]
    else:
        data, teachers = read_data(recipe.data, recipe.size), []
    if isinstance(recipe.test, Path):
        order = torch.from_numpy(np.random.default_rng(recipe.seed).permutation(len(data)))
        whole, test = data.at(order), read_data(recipe.test, recipe.size)
        require_apart(test, whole, what="test")
    else:
        whole, test = data.split(recipe.seed, recipe.test, unlabelled=recipe.unlabelled)
    learn = whole.few(recipe.per_class, recipe.unlabelled) if recipe.per_class else whole
    for k, settings in enumerate([] if files else recipe.teachers, 1):
        teachers.append(_teacher(settings, recipe, k, whole, data, progress))
    if len(teachers) > 1:
        teachers = [Several([teacher_of(one, learn) for one in teachers])]
    return Ready(learn, test, teachers[0] if teachers else None)


def _teacher(
    settings: NetworkSettings, recipe: ClassifierRecipe, k: int, learn: Labelled, data: Labelled, progress: bool
) -> Any:
    """A teacher that is there, or one that is trained on all labels first."""
    path = settings.path
    if path is None:
        folder = recipe.out / f"teacher-{k}"
        network = settings.sizes.build(data.inputs.shape[1:], len(data.classes), recipe.seed + 1000 * k)
        regime = Regime(settings.steps, learning_rate=settings.lr)
        distill(None, network, learn, loss="ce", regime=regime, seed=recipe.seed, out=folder, progress=progress)
        save_network(network, settings.sizes, data.inputs.shape[1:], data.classes, folder)
        return network
    if path.suffix == ".onnx":
        return Onnx(path)
    if path.suffix == ".npz":
        return Answers(_answers(path, len(data)))
    saved = load_network(path)
    require_kind(saved, data.inputs.shape[1:], None, f"the teacher in {path}")
    return (
        saved.network if saved.classes == data.classes else Chosen(Module(saved.network), saved.classes, data.classes)
    )


def _answers(path: Path, examples: int) -> torch.Tensor:
    """Logits of all examples of the data, in its order."""
    try:
        with np.load(path, allow_pickle=False) as content:
            known = {name: torch.from_numpy(content[name]).float() for name in content.files}
    except (ValueError, OSError, AttributeError, EOFError, TypeError) as error:
        raise ConfigError(f"{path} is not an .npz file of plain arrays") from error
    if "logits" not in known and "probabilities" not in known:
        raise ConfigError(f"{path} has {', '.join(known) or 'nothing'}: it must hold logits or probabilities")
    found = known["logits"] if "logits" in known else log_probabilities(known["probabilities"])
    if len(found) != examples:
        raise ConfigError(f"{path} answers {len(found)} examples, the data has {examples}: give one row for each")
    return found


def student_of(recipe: ClassifierRecipe, data: Labelled) -> tuple[torch.nn.Module, Network]:
    """The student as it begins, and its sizes."""
    settings = recipe.student
    if settings.path is None:
        return settings.sizes.build(data.inputs.shape[1:], len(data.classes), recipe.seed), settings.sizes
    saved = load_network(settings.path)
    require_kind(saved, data.inputs.shape[1:], data.classes, f"the student in {settings.path}")
    return saved.network, saved.made


def evaluate_folder(student: Path, against: Path, data: Path | str, limit: int | None = None) -> Comparison:
    """Compare a student with its teacher, both in folders, or the teacher in an .onnx file.

    Args:
        student: folder that limbeck wrote.
        against: folder or ONNX file of the teacher.
        data: see `read_data`.
        limit: so many examples only.
    """
    saved = load_network(student)
    size = saved.shape[-1] if len(saved.shape) == 3 and Path(data).is_dir() else None
    examples = read_data(data, size).at(range(limit)) if limit else read_data(data, size)
    require_kind(saved, examples.inputs.shape[1:], examples.classes, str(student))
    teacher = Onnx(against) if against.suffix == ".onnx" else load_network(against).network
    return evaluate(saved.network, teacher, examples)
