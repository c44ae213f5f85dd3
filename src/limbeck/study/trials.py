"""Trials: a recipe of any room as a job, and what a law reads of its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.settings import check_settings


@dataclass(frozen=True)
class Room:
    """How a study talks to a room.

    Args:
        recipe: class of its recipes, `module:name`.
        run: function that runs one, of the same module.
        cost: `cost(recipe) -> {"params": ..., "tokens": ...}` before anything is trained: parameters of the student
            and what it reads, in tokens, or examples where there are no tokens.
        loss: `loss(result)`: what the law predicts, small is good.
        unit: of that loss.
        teacher: where under `out` a teacher lies that a recipe trained; "" if it trains none.
    """

    recipe: str
    run: str
    cost: Callable[[Any], dict[str, float]]
    loss: Callable[[Any], float]
    unit: str
    teacher: str = ""

    def settings(self, content: Mapping[str, Any], base: Path) -> Any:
        """Return a recipe.

        Raises:
            ConfigError: what is wrong with it.
        """
        module, name = self.recipe.split(":")
        return check_settings(getattr(import_module(module), name), content, base=base, source="recipe")

    def result(self, recipe: Any) -> Any:
        """Run a recipe; an earlier call is gone on with."""
        return getattr(import_module(self.recipe.split(":")[0]), self.run)(recipe, progress=False)


def _language(recipe: Any) -> dict[str, float]:
    from limbeck.lm.models import load_model, non_embedding_params, tiny_llama

    own = recipe.student
    model = load_model(own.folder) if own.folder else tiny_llama(own.width, layers=own.layers, heads=own.heads)
    tokens = recipe.tokens or recipe.steps * recipe.batch * (recipe.context or 128)
    return {"params": non_embedding_params(model), "tokens": tokens}


def _classifier(recipe: Any) -> dict[str, float]:
    from limbeck.distill.examples import read_data
    from limbeck.vision.recipe import student_of

    student, _ = student_of(recipe, read_data(recipe.data, recipe.size))
    return {"params": sum(one.numel() for one in student.parameters()), "tokens": recipe.steps * recipe.batch}


def _generator(recipe: Any) -> dict[str, float]:
    from limbeck.diffusion.recipe import params_of_student
    from limbeck.diffusion.training import Regime

    return {"params": params_of_student(recipe), "tokens": recipe.updates * (recipe.batch or Regime().batch)}


def _potential(recipe: Any) -> dict[str, float]:
    from limbeck.atoms.recipe import params_of_student

    return {"params": params_of_student(recipe), "tokens": recipe.steps * recipe.batch}


ROOMS = {
    "lm": Room("limbeck.lm.recipe:DistillRecipe", "distill", _language, lambda found: found.student_loss, "nats/token"),
    "vision": Room(
        "limbeck.vision.recipe:ClassifierRecipe", "run_recipe", _classifier,
        lambda found: found.distilled.judged.student.loss, "nats", "teacher-1",
    ),
    "diffusion": Room(
        "limbeck.diffusion.recipe:DiffusionRecipe", "run_recipe", _generator,
        lambda found: found.judged.value(found.judged.rows[-1]), "distance", "teacher",
    ),
    "atoms": Room(
        "limbeck.atoms.recipe:AtomsRecipe", "run_recipe", _potential,
        lambda found: found.trained.judged.force_mae, "meV/Å", "teacher",
    ),
}  # fmt: skip
"""Rooms whose recipes a study can vary."""


@dataclass(frozen=True)
class Trial:
    """One run of a recipe: plain data that travels to another process or machine.

    Args:
        room: name of the room.
        recipe: keys of the recipe, without `out`.
        base: folder that its relative paths start from.
        out: folder of the trial; one that is complete returns at once.
        changes: what makes it differ from other trials of its study.
    """

    room: str
    recipe: Mapping[str, Any]
    base: Path
    out: Path
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the run, from what it changes."""
        return self.out.name

    def settings(self) -> Any:
        """Its recipe, checked."""
        return ROOMS[self.room].settings({**self.recipe, "out": str(self.out.resolve())}, self.base)

    def cost(self) -> dict[str, float]:
        """Size and data, before it is run."""
        return ROOMS[self.room].cost(self.settings())

    def __call__(self) -> dict[str, Any]:
        """Run it, and return its row of the run table."""
        note = self.out / "trial.json"
        asked = json.loads(json.dumps(dict(self.recipe)))
        if note.is_file() and (known := json.loads(note.read_text()))["recipe"] == asked:
            return dict(known["row"])
        room, recipe = ROOMS[self.room], self.settings()
        row = {"run": self.name, **self.cost(), "loss": float(room.loss(room.result(recipe)))}
        write_json(note, {"recipe": asked, "row": row})
        return row


def grid(
    room: str, recipe: Mapping[str, Any], choices: Mapping[str, Sequence[Any]], base: Path, out: Path
) -> list[Trial]:
    """Return a trial for every combination of choices; dots in a key lead into groups of the recipe.

    Example:
        >>> found = grid("vision", {"student": {"dropout": 0.1}}, {"student.hidden": [[4], [8]]}, Path(), Path("t"))
        >>> found[1].recipe, found[1].name
        ({'student': {'dropout': 0.1, 'hidden': [8]}}, 'hidden=8')
    """
    trials = []
    for values in product(*choices.values()):
        changes = dict(zip(choices, values, strict=True))
        content = json.loads(json.dumps(dict(recipe)))
        for key, value in changes.items():
            *groups, last = key.split(".")
            place = content
            for group in groups:
                place = place.setdefault(group, {})
                if not isinstance(place, dict):
                    raise ConfigError(f"{key}: {group} of the recipe is {place!r}, not a group of keys")
            place[last] = value
        name = ",".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in changes.items())
        trials.append(Trial(room, content, base, out / name, changes))
    return trials


def with_teacher(trial: Trial, made: Path) -> Trial:
    """The same trial with a teacher that is there."""
    where = made / ROOMS[trial.room].teacher
    return Trial(trial.room, {**trial.recipe, "teacher": str(where.resolve())}, trial.base, trial.out, trial.changes)


def needs_teacher(trial: Trial) -> bool:
    """Whether its recipe trains a teacher, so that one could serve all trials."""
    given = trial.recipe.get("teacher", {})
    there = isinstance(given, str) or (isinstance(given, dict) and "path" in given)
    made = bool(given) or trial.room == "diffusion"
    return bool(ROOMS[trial.room].teacher) and made and not there and not isinstance(given, list)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(_short, value)) or "none"
    return "".join(one for one in str(value) if one.isalnum() or one in ".-_")
