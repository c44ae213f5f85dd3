"""Typed settings from a YAML file: every mistake is reported with its line and the nearest valid key.

Only plain values are read (safe loader): a file cannot import or run code. Settings can be overridden by `key=value`,
dotted for nested keys, under the same checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from limbeck.errors import ConfigError, nearest

SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
Keys = tuple[str | int, ...]


def _count(value: Any) -> Any:
    """Read 2e6, "2e6", "2_000_000" and "2M" as whole numbers; leave the judgement on anything else to the type."""
    if isinstance(value, str):
        scale = SUFFIXES.get(value.strip()[-1:], 1.0)
        try:
            value = float(value.strip().rstrip("".join(SUFFIXES)).replace(" ", "")) * scale
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> Any:
    """Read "4e-3", which YAML takes for text, as a number."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _beside_the_file(value: Any, info: ValidationInfo) -> Any:
    base = (info.context or {}).get("base")
    return Path(base) / Path(value).expanduser() if base is not None and isinstance(value, str) else value


Count = Annotated[int, BeforeValidator(_count)]
"""A whole number, also written 2e6 or 2M."""
Number = Annotated[float, BeforeValidator(_number)]
"""A number, also written 4e-3."""
FilePath = Annotated[Path, BeforeValidator(_beside_the_file)]
"""A path; in a file it is relative to that file."""


class Settings(BaseModel):
    """Base of all settings: frozen, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def named(value: Any) -> dict[str, Any]:
    """The choices of a group that may be a name alone.

    Raises:
        ValueError: neither a name nor a group of keys.
    """
    if not isinstance(value, str | Mapping | BaseModel):
        raise ValueError(f"write a name, or a group of keys with a name, got {value!r}")
    return {"name": value} if isinstance(value, str) else dict(value)


def filled(value: Any, presets: Mapping[str, Mapping[str, Any]], default: str) -> dict[str, Any]:
    """The choices of a group that has presets: a name alone stands for them, what is given beside it replaces them.

    Raises:
        ValueError: no preset has that name; neither a name nor a group of keys.

    Example:
        >>> filled({"name": "slow", "steps": 9}, {"slow": {"steps": 5, "rate": 1}}, "slow")
        {'steps': 9, 'rate': 1, 'name': 'slow'}
    """
    given = named(value)
    name = str(given.get("name", default))
    if name not in presets:
        raise ValueError(f'no method is called "{name}"{nearest(name, presets)} Known: {", ".join(presets)}')
    return {**presets[name], **given}


Kind = TypeVar("Kind", bound=Settings)


def read_settings(kind: type[Kind], path: Path | str, overrides: Sequence[str] = ()) -> Kind:
    """Read a YAML file as settings of a kind.

    Args:
        kind: the model to read.
        path: the file; paths in it are relative to its folder.
        overrides: `key=value` or `group.key=value`, as typed on a command line; values are YAML.

    Raises:
        ConfigError: no such file, no YAML, unknown keys, wrong or missing values; every one with its line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, not a YAML file")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold `key: value` lines, found {type(content).__name__}")
    places: dict[Keys, str] = {}
    for keys, line in _lines(node):
        if keys in places:
            raise ConfigError(f'{path}, line {line}: key "{keys[-1]}" is given twice')
        places[keys] = f"{path}, line {line}"
    for override in overrides:
        keys, value = _parse_override(override)
        _put(content, keys, value, override)
        places = {known: place for known, place in places.items() if known[: len(keys)] != keys}
        places[keys] = f"override {override}"
    return check_settings(kind, content, base=path.parent, source=str(path), places=places)


def check_settings(
    kind: type[Kind],
    content: Mapping[str, Any],
    *,
    base: Path | None = None,
    source: str = "settings",
    places: Mapping[Keys, str] | None = None,
) -> Kind:
    """Make settings of a kind from plain values.

    Args:
        kind: the model.
        content: keys and values.
        base: folder that relative paths start from.
        source: what to call the origin in messages.
        places: origin of single keys, such as "recipe.yaml, line 7".

    Raises:
        ConfigError: unknown keys, wrong or missing values.
    """
    try:
        return kind.model_validate(content, context={"base": base})
    except ValidationError as error:
        known = places or {}

        def place(keys: Keys) -> str:
            shown = next((known[keys[:size]] for size in range(len(keys), 0, -1) if keys[:size] in known), source)
            return str(shown)

        lines = [f"{place(problem['loc'])}: {_sentence(kind, problem)}" for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _sentence(kind: type[BaseModel], problem: Any) -> str:
    """One problem that pydantic found, in words."""
    *groups, key = problem["loc"] or ("",)
    inside = f" in {'.'.join(map(str, groups))}" if groups else ""
    if problem["type"] == "extra_forbidden":
        model = _model_at(kind, groups)
        choices = list(model.model_fields) if model else []
        near = nearest(str(key), choices) or (f" Known: {', '.join(choices)}." if choices else "")
        return f'unknown key "{key}"{inside}.{near}'
    if problem["type"] == "missing":
        return f'"{key}"{inside} is missing'
    model = _model_at(kind, groups)
    if problem["type"] == "literal_error" and model and str(key) in model.model_fields:
        choices = list(map(str, get_args(model.model_fields[str(key)].annotation)))
        given = str(problem["input"])
        return f'unknown {key} "{given}"{inside}.{nearest(given, choices)} Known: {", ".join(choices)}.'
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    expected = problem["msg"].removeprefix("Input should be ")
    return f'"{key}"{inside} must be {expected}, got {problem["input"]!r}'


def _model_at(kind: type[BaseModel], groups: Sequence[str | int]) -> type[BaseModel] | None:
    """The model that holds the keys of a group; where there are several kinds of group, pydantic names its kind."""
    known = [kind]
    for group in groups:
        named = [one for one in known if one.__name__ == group]
        inside = [one.model_fields[str(group)].annotation for one in known if str(group) in one.model_fields]
        within = [model for one in inside for model in _models(one)]
        known = named or within or (known if isinstance(group, int) else [])
    return known[0] if known else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in get_args(annotation) for model in _models(one)]


def _lines(node: yaml.Node | None, keys: Keys = ()) -> Iterator[tuple[Keys, int]]:
    """Line of every key of a YAML document."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = (*keys, name.value)
            yield inner, name.start_mark.line + 1
            yield from _lines(value, inner)


def _parse_override(text: str) -> tuple[Keys, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f'override "{text}": write key=value, for instance seed=1 or divergence.temperature=2')
    try:
        return tuple(name.strip().split(".")), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f'override "{text}": the value is not valid YAML') from error


def _put(content: dict[str, Any], keys: Keys, value: Any, override: str) -> None:
    for key in keys[:-1]:
        inner = content.setdefault(str(key), {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f'override "{override}": {key} is the single value {inner!r} in the file, not a group of keys'
            )
        content = inner
    content[str(keys[-1])] = value
