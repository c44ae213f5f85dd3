"""`limbeck compare losses study.yaml`: methods × seeds × settings over processes, then compared.

```yaml
data: digits
teacher: {hidden: [128, 128], dropout: 0.2}
student: {hidden: [16]}
steps: 800
methods: [ce, smooth, kd, dkd, pld, kd-z: {weight: [0.9, 9, 30]}]
seeds: 5
settings:
  10 per class: {per_class: 10}
  all labels, narrow: {student: {hidden: [8]}}
out: compared
```
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, model_validator

from limbeck.errors import ConfigError, TrainingError
from limbeck.files import write_text
from limbeck.planning import LossComparison, compare_losses
from limbeck.settings import Count, check_settings, read_settings
from limbeck.study.stages import Stages, clock
from limbeck.study.workers import Workers
from limbeck.vision import Augmentation, ClassifierRecipe, Method, distill, method_of
from limbeck.vision.recipe import NetworkSettings, prepare, student_of


class LossStudy(ClassifierRecipe):
    """A recipe for a classifier with several methods, seeds and settings.

    Args:
        methods: names, or a name with choices; a list of values is tried value by value, beside the untuned default.
        seeds: how many; each has its own split, teacher, initialisation and order, the same for all methods.
        settings: names with what they change of the recipe; the recipe as it is without any.
    """

    methods: Sequence[str | Mapping[str, Any]]
    seeds: Count = Field(default=5, gt=0)
    settings: Mapping[str, Mapping[str, Any]] = {}

    @model_validator(mode="after")
    def _readable(self) -> LossStudy:
        for name, instead in (("method", "methods"), ("keep", "nothing: the teacher is asked anew")):
            if name in self.model_fields_set:
                raise ValueError(f"a comparison has no {name}; write {instead}")
        for name, changes in self.settings.items():
            if fixed := {"method", "seed", "out"} & set(changes):
                raise ValueError(f"settings, {name}: {' and '.join(sorted(fixed))} cannot differ between settings")
        try:
            self.expanded()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def expanded(self) -> dict[str, tuple[str, Method]]:
        """Every method to run: label -> the entry it belongs to, and the method.

        Raises:
            ConfigError: an entry that is no method.
        """
        found: dict[str, tuple[str, Method]] = {}
        for entry in self.methods:
            if isinstance(entry, str):
                entry = {entry: {}}
            if len(entry) != 1 or not isinstance(choices := next(iter(entry.values())), Mapping):
                raise ConfigError(f"methods: {dict(entry)}: write a name, or a name and choices, as kd: {{weight: 9}}")
            name, grid = next(iter(entry)), [*_grid(choices)]
            for one in [{}, *grid] if len(grid) > 1 else grid:
                words = (f"{k}={v}".translate(str.maketrans("", "", "{}'")) for k, v in one.items())
                method = method_of({"name": name, **one})
                if all(method != known for _, known in found.values()):
                    found[" ".join([name, *words])] = name, method
        return found


def _grid(choices: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All combinations of the values that are given as lists, inside of groups too."""
    values = [[*_grid(v)] if isinstance(v, Mapping) else v if isinstance(v, list) else [v] for v in choices.values()]
    return (dict(zip(choices, one, strict=True)) for one in product(*values))


@dataclass(frozen=True)
class Trial:
    """One student: a recipe with its method and seed, as plain data for another process.

    Args:
        recipe: whose `out` is the folder of the study.
        setting, method: as they are called.
    """

    recipe: ClassifierRecipe
    setting: str
    method: str

    @property
    def home(self) -> Path:
        """Folder of its teachers: one for all trials with the same data and seed."""
        return self.recipe.out / "teachers" / _digest(self.recipe, include={"data", "test", "size", "teacher", "seed"})

    @property
    def path(self) -> Path:
        """Run record of the finished trial."""
        return self.recipe.out / "trials" / f"{_digest(self.recipe, exclude={'out', 'threads'})}.jsonl"

    def row(self) -> dict[str, Any] | None:
        """What it gave, or None if it is not finished."""
        own = {"run": f"{self.setting} {self.method} {self.recipe.seed}", "regime": self.setting, "method": self.method}
        return json.loads(self.path.read_text()) | own if self.path.is_file() else None

    def teach(self) -> None:
        """Train its teachers, those that are not there yet."""
        prepare(self.recipe.model_copy(update={"out": self.home}))

    def __call__(self) -> None:
        """Train the student and write its row; a loss that is not finite is a row without an accuracy."""
        torch.set_num_threads(self.recipe.threads)
        made = {k: NetworkSettings(path=self.home / f"teacher-{k}") for k in range(1, len(self.recipe.teachers) + 1)}
        teachers = [made[k] if one.path is None else one for k, one in enumerate(self.recipe.teachers, 1)]
        recipe = self.recipe.model_copy(update={"teacher": teachers or None})
        ready = prepare(recipe)
        student, _ = student_of(recipe, ready.learn)
        row: dict[str, Any] = {"seed": recipe.seed, "dataset": ready.learn.name, "classes": len(ready.learn.classes)}
        try:
            done = distill(
                ready.teacher, student, ready.learn, loss=recipe.method, test=ready.test, regime=recipe.regime,
                augmentation=Augmentation(**recipe.augmentation.model_dump()), seed=recipe.seed, progress=False,
            )  # fmt: skip
        except TrainingError as error:
            row |= {"accuracy_percent": None, "note": str(error)}
        else:
            assert done.judged is not None
            student_is, teacher_is = done.judged.student, done.judged.teacher
            row |= {
                "accuracy_percent": 100 * student_is.accuracy, "test_nll_nats": student_is.loss,
                "nll_at_temperature": student_is.loss_at_temperature, "ece": student_is.calibration_error,
                "teacher_agreement_percent": 100 * done.judged.agreement, "params": done.params,
                "teacher_accuracy_percent": 100 * teacher_is.accuracy, "seconds": round(done.seconds, 3),
                "extra_params": done.extra_params,
            }  # fmt: skip
        write_text(self.path, json.dumps({"regime": self.setting, "method": self.method, **row}) + "\n")


def run_loss_study(
    study: LossStudy | Path | str, baseline: str = "CE", *, overrides: Sequence[str] = (), workers: int = 2,
    stages: Stages | None = None,
) -> LossComparison:  # fmt: skip
    """Train every method with every seed in every setting, and compare them; the same call goes on after a stop.

    In the folder `out`: `teachers/`, `trials/` (a run record for each finished trial), `results.jsonl` (all of them).

    Args:
        study: settings, or the path of their YAML file.
        baseline: the method to beat, one of the study's.
        overrides: `key=value` changes to the file.
        workers: processes of one thread each.
        stages: where progress goes.

    Raises:
        ConfigError: a mistake in the study, its data or its networks.
    """
    _content.cache_clear()
    home = None if isinstance(study, LossStudy) else Path(study).parent
    if not isinstance(study, LossStudy):
        study = read_settings(LossStudy, study, overrides)
    methods = study.expanded()
    if baseline.casefold() not in map(str.casefold, methods):
        raise ConfigError(f"methods lack the baseline {baseline}: add it, or name another of {', '.join(methods)}.")
    common = {name: getattr(study, name) for name in ClassifierRecipe.model_fields}
    trials = [
        Trial(check_settings(ClassifierRecipe, {**common, **changes, **own}, base=home, source=f"setting {setting}"),
              setting, label)
        for setting, changes in (study.settings or {"": {}}).items() for label, (_, method) in methods.items()
        for own in ({"method": method, "seed": seed} for seed in range(study.seed, study.seed + study.seeds))
    ]  # fmt: skip
    missing = {trial.path: trial for trial in trials if trial.row() is None}
    fresh = {one.home: one.teach for one in missing.values() if any(t.path is None for t in one.recipe.teachers)}
    stages = stages or Stages(2)
    with Workers(workers) as pool:
        work: dict[str, Sequence[Callable[[], None]]] = {"teachers": [*fresh.values()], "trials": [*missing.values()]}
        for name, jobs in work.items():
            with stages.stage(name):
                pool.run(jobs, partial(_watch, stages, len(jobs), time.monotonic()))
                stages.done(f"{len(jobs)} trained now")
    rows = [row for trial in trials if (row := trial.row())]
    write_text(study.out / "results.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = compare_losses(rows, baseline)
    return replace(result, notes=(*result.notes, *_tuned(result, methods)))


def _watch(stages: Stages, total: int, began: float, finished: int) -> None:
    left = (time.monotonic() - began) * (total / finished - 1) if finished else 0.0
    stages.update(f"{finished}/{total}{f', {clock(left)} left' if left else ''}")


def _tuned(result: LossComparison, methods: Mapping[str, tuple[str, Method]]) -> Iterator[str]:
    """Say for every method that was tried with several values what the untuned default gives beside the best."""
    for one, name in product(result.settings, dict.fromkeys(name for name, _ in methods.values())):
        means = {r.method: r.means["accuracy"] for r in one.results if methods[r.method][0] == name and r.seeds}
        if len(means) > 1 and name in means:
            best = max(means, key=lambda label: means[label])
            words = f"{best} is the best of {len(means)} with {means[best]:.2f} %, untuned {means[name]:.2f} %"
            yield f"{one.setting}: {words}. It was chosen on the test examples: an upper bound of what tuning gives."


def _digest(recipe: ClassifierRecipe, **fields: Any) -> str:
    held = [_content(one) for one in (recipe.data, recipe.test) if isinstance(one, Path)]
    return hashlib.sha256(repr((recipe.model_dump_json(**fields), held)).encode()).hexdigest()[:16]


@cache
def _content(path: Path) -> str:
    """What a data file holds; of a folder the names and sizes."""
    files = sorted(path.rglob("*")) if path.is_dir() else []
    listed = repr([(str(one.relative_to(path)), one.stat().st_size) for one in files]).encode()
    return hashlib.sha256(path.read_bytes() if path.is_file() else listed).hexdigest()
