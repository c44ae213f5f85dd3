"""Methods by name: each is a choice of what the student copies, at which temperature, and how much labels count.

| name | the student learns | as published |
|---|---|---|
| `ce` | labels alone | |
| `smooth` | labels, smoothed by 0.1: a control | |
| `kd` | the teacher's probabilities | Hinton et al. 2015: temperature 4, weights 0.1 and 0.9 |
| `hard` | the teacher's favourite | Touvron et al. 2020 |
| `dkd` | the true class and the order of the others, apart | Zhao et al. 2022: temperature 4, beta 8 |
| `dist` | correlations over classes and over the batch | Huang et al. 2022: temperature 1 |
| `mlkd` | samples, batch and classes at five temperatures, of two views | Jin et al. 2023 |
| `pld` | the teacher's ranking, the true class first | Bassam et al. 2025 |
| `list_mle` | the ranking, all ranks alike: a control | |
| `top` | the teacher's five favourites and the rest together | |
| `kd-z`, `dkd-z` | as without z, of standardised logits | Sun et al. 2024: temperature 2, weight 9 |
| `fitnet`, `at`, `rkd`, `crd`, `review`, `sp`, `pkt` | `features: {student path: teacher path}` and labels | |
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from limbeck.distill import bucketed, cross_entropy, get_loss, multi_level, standardised
from limbeck.errors import ConfigError, LimbeckError, nearest
from limbeck.settings import Count, Number, Settings, check_settings, filled
from limbeck.vision.beside import KINDS

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "ce": {"ce_weight": 1.0, "weight": 0.0},
    "smooth": {"ce_weight": 1.0, "weight": 0.0, "smoothing": 0.1},
    "kd": {},
    "hard": {"loss": "hard_label", "temperature": 1.0, "ce_weight": 0.5, "weight": 0.5},
    "dkd": {"loss": "dkd", "ce_weight": 1.0, "weight": 1.0, "options": {"beta": 8.0}},
    "dist": {"loss": "dist", "temperature": 1.0, "ce_weight": 1.0, "weight": 1.0},
    "mlkd": {"loss": "multi_level", "temperature": 1.0},
    "pld": {"loss": "pld", "temperature": 1.0, "ce_weight": 0.0, "weight": 1.0},
    "list_mle": {"loss": "pld", "temperature": 1.0, "ce_weight": 0.0, "weight": 1.0, "options": {"weights": "uniform"}},
    "top": {"temperature": 1.0, "top": 5},
    "kd-z": {"standardise": True, "temperature": 2.0, "weight": 9.0},
    "dkd-z": {
        "loss": "dkd", "standardise": True, "temperature": 2.0, "ce_weight": 1.0, "weight": 9.0,
        "options": {"beta": 2.0},
    },
    "fitnet": {"feature_loss": "hint", "feature_weight": 100.0, "ce_weight": 1.0, "weight": 0.0},
    "at": {"feature_loss": "attention_transfer", "feature_weight": 1000.0, "ce_weight": 1.0, "weight": 0.0},
    "crd": {"feature_loss": "contrast", "feature_weight": 0.8, "ce_weight": 1.0, "weight": 0.0},
    "review": {
        "feature_loss": "review", "feature_weight": {"start": 0, "end": 1, "until": 0.08}, "ce_weight": 1.0,
        "weight": 0.0,
    },
    "rkd": {"feature_loss": "rkd", "feature_weight": 1.0, "ce_weight": 1.0, "weight": 0.0},
    "sp": {"feature_loss": "similarity_preserving", "feature_weight": 3000.0, "ce_weight": 1.0, "weight": 0.0},
    "pkt": {"feature_loss": "pkt", "feature_weight": 30_000.0, "ce_weight": 1.0, "weight": 0.0},
}  # fmt: skip


def _named(loss: str) -> Callable[..., Tensor]:
    return multi_level if loss == "multi_level" else get_loss(loss).function


class Ramp(Settings):
    """A weight that changes over a training in a straight line, and then stays; a number alone stands for a constant.

    Args:
        start, end: its values.
        until: share of the training at which the end is reached.

    Example:
        >>> Ramp(start=0, end=1, until=0.5).at(0.25)
        0.5
    """

    start: Number
    end: Number
    until: Number = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return {"start": value, "end": value} if isinstance(value, int | float | str) else value

    def at(self, progress: float) -> float:
        """The weight after this share of the training."""
        return self.start + (self.end - self.start) * min(1.0, progress / self.until)


class Method(Settings):
    """The group `method`; a name alone stands for the whole group, and what is given beside it replaces its choices.

    Args:
        name: which one.
        loss: on logits, by its name in `limbeck.distill`.
        options: of that loss.
        temperature: divides both logits; the loss is multiplied by its square.
        standardise: compare standardised logits.
        top: compare so many of the teacher's favourites and one bucket of all others; 0 compares all classes.
        weight, ce_weight, feature_weight: of the loss, of the labels, of the features; each may be a ramp.
        smoothing: share of the label that is spread over all classes.
        features: the teacher's module for each of the student's, by their paths.
        feature_loss: compares them.
    """

    name: str = "kd"
    loss: str = "forward_kl"
    options: Mapping[str, Any] = {}
    temperature: Number = Field(default=4.0, gt=0)
    standardise: bool = False
    top: Count = Field(default=0, ge=0)
    weight: Ramp = Ramp(start=0.9, end=0.9)
    ce_weight: Ramp = Ramp(start=0.1, end=0.1)
    smoothing: Number = Field(default=0.0, ge=0, lt=1)
    features: Mapping[str, str] = {}
    feature_loss: str = ""
    feature_weight: Ramp = Ramp(start=0.0, end=0.0)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return filled(value, PRESETS, "kd")

    @model_validator(mode="after")
    def _consistent(self) -> "Method":
        try:
            known = inspect.signature(_named(self.loss)).parameters
        except LimbeckError as error:
            raise ValueError(str(error)) from error
        for name in self.options:
            if name not in known:
                raise ValueError(f'{self.loss} has no option "{name}".{nearest(name, known)}')
        if self.feature_loss and self.feature_loss not in KINDS:
            near = nearest(self.feature_loss, KINDS)
            raise ValueError(f'no loss on features is called "{self.feature_loss}".{near}')
        if bool(self.feature_loss) != bool(self.features):
            raise ValueError(
                f"{self.name}: a loss on features needs the modules to compare, as in features: {{student path: "
                "teacher path}, and such a loss needs them"
            )
        return self

    @property
    def only_labels(self) -> bool:
        """Whether no teacher is heard."""
        return not (self.weight.start or self.weight.end or self.features)

    @property
    def views(self) -> int:
        """How many views of every example it needs."""
        return 2 if self.loss == "multi_level" else 1

    def parts(
        self, said: Tensor, taught: Tensor, labels: Tensor, progress: float, strong: tuple[Tensor, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What logits cost, in parts, their sum under `loss`.

        Where a label is missing, the cross-entropy leaves the example out; a loss that needs the true class takes the
        teacher's favourite.

        Args:
            said, taught: logits of the student and of the teacher [n, C].
            labels: [n], -1 where there is none.
            progress: share of the training that is done.
            strong: logits of both of a second view.
        """
        known, parts = labels >= 0, dict[str, Tensor]()
        if weight := self.weight.at(progress):
            options = dict(self.options) | {"temperature": self.temperature, "tau_squared": True}
            options |= {"strong": strong} if strong is not None else {}
            loss: Any = _named(self.loss)
            loss = bucketed(loss, self.top) if self.top else loss
            loss = standardised(loss) if self.standardise else loss
            target = torch.where(known, labels, taught.argmax(-1))
            parts["distillation"] = weight * loss(said, taught, target, **options)
        if weight := self.ce_weight.at(progress):
            views = [said] if strong is None else [said, strong[0]]
            how: Any = {"mask": known, "smoothing": self.smoothing}
            costs = [cross_entropy(view, view, labels, **how) for view in views]
            parts["labels"] = weight * torch.stack(costs).sum()
        return parts


def method_of(given: "Method | str | Mapping[str, Any]") -> Method:
    """A method from its name or its choices.

    Raises:
        ConfigError: no such method, or a choice that does not exist.
    """
    if isinstance(given, Method):
        return given
    return check_settings(Method, {"name": given} if isinstance(given, str) else given, source="method")


def require_fit(method: Method, classes: int, known: int) -> None:
    """Refuse what cannot work before it begins.

    Raises:
        ConfigError: standardised logits of two classes, more favourites than classes, labels that are not there.
    """
    if method.standardise and classes < 3:
        raise ConfigError(
            f"standardised logits of {classes} classes hold nothing but their order: take a method without"
        )
    if method.top >= classes:
        raise ConfigError(f"top: {method.top} leaves nothing for the rest of {classes} classes: take fewer, or 0")
    if not known and method.ce_weight.at(0) == method.ce_weight.at(1) > 0:
        raise ConfigError(f"{method.name} learns from labels, and the data has none: set ce_weight: 0")
