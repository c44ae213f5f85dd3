"""Experiment trackers: TensorBoard event folders, MLflow local stores, and the histories that W&B exports."""

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import yaml

from limbeck.errors import MissingExtraError, RunsError

from ._sources import RawTable, of_records
from .vocabulary import recognise

EVENTS = "*tfevents*"
META = "meta.yaml"
HPARAMS = "_hparams_/session_start_info"
MLFLOW = (
    "SELECT run_uuid, runs.name, experiments.name FROM runs JOIN experiments USING (experiment_id) "
    "WHERE runs.lifecycle_stage = 'active'",
    "SELECT run_uuid, key, value FROM params",
    "SELECT run_uuid, step, key, iif(is_nan, NULL, value) FROM metrics ORDER BY timestamp",
)
"""What is read of an MLflow database: the active runs, their parameters, their metrics."""


class Point(NamedTuple):
    """One logged number."""

    run: str
    step: float
    metric: str
    value: float


def _table(points: Iterable[Point], constants: Mapping[str, Mapping[str, Any]], source: str) -> RawTable:
    """Lay points out as one row per run and step; of a metric logged twice at a step the later value counts.

    A hyperparameter never replaces what was logged under the same meaning (tokens so far, not tokens planned).

    Raises:
        RunsError: nothing was logged.
    """
    rows: dict[tuple[str, float], dict[str, Any]] = {}
    for run, step, metric, value in points:
        rows.setdefault((run, step), {"run": run, "step": step})[metric] = value
    if not rows:
        raise RunsError(f"{source} holds no logged number yet.")
    logged = {_meaning(name) for row in rows.values() for name in row}
    for (run, _), row in rows.items():
        row |= {name: value for name, value in constants.get(run, {}).items() if _meaning(name) not in logged}
    labels = pl.Series([f"{run}, step {step:g}" for run, step in rows], dtype=pl.String)
    return RawTable(of_records(list(rows.values())), labels, source, is_log=True)


def _meaning(name: str) -> str:
    match = recognise(name)
    return match[0] if match else name


def is_tensorboard(folder: Path) -> bool:
    """Return whether event files lie in a folder or below it."""
    return next(folder.rglob(EVENTS), None) is not None


def read_tensorboard(folder: Path) -> RawTable:
    """Read every folder with event files as one run, named by its path; hyperparameters become columns.

    Scalars are read as they were written, none is left out. `SummaryWriter.add_hparams` writes to a folder of its own
    inside the run's: what it holds belongs to the run around it.

    Raises:
        MissingExtraError: tensorboard is not installed.
        RunsError: nothing was logged.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError as error:
        raise MissingExtraError("tensorboard", "tracking") from error
    points: list[Point] = []
    constants: dict[str, dict[str, Any]] = {}
    for place in sorted({path.parent for path in folder.rglob(EVENTS)}):
        log = EventAccumulator(str(place), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        run = _run_name(place, folder)
        metadata = log.summary_metadata
        if HPARAMS in metadata:
            session = HParamsPluginData.FromString(metadata[HPARAMS].plugin_data.content).session_start_info
            around = [_run_name(parent, folder) for parent in place.parents if parent.is_relative_to(folder)]
            owner = next((name for name in around if any(point.run == name for point in points)), run)
            given = session.hparams.items()
            constants[owner] = {name: getattr(value, value.WhichOneof("kind")) for name, value in given}
        tags = log.Tags()
        points += [Point(run, e.step, tag, e.value) for tag in tags["scalars"] for e in log.Scalars(tag)]
        for tag in tags["tensors"]:  # what TensorFlow 2 writes
            for event in log.Tensors(tag):
                if (value := make_ndarray(event.tensor_proto)).size == 1 and value.dtype.kind in "fiu":
                    points.append(Point(run, event.step, tag, value.item()))
    return _table(points, constants, str(folder))


def _run_name(place: Path, folder: Path) -> str:
    return folder.resolve().name if place == folder else place.relative_to(folder).as_posix()


def read_mlflow_database(path: Path) -> RawTable:
    """Read the active runs of an MLflow SQLite store; the file is opened read-only and never migrated.

    Raises:
        RunsError: it is no such store, or nothing was logged.
    """
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as store:
            runs, params, metrics = (store.execute(query).fetchall() for query in MLFLOW)
    except sqlite3.Error as error:
        raise RunsError(f"{path} is not a store of MLflow ({error}). Expected a database that mlflow wrote.") from error
    names = {run: (name or run, experiment) for run, name, experiment in runs}
    return _mlflow(names, params, metrics, str(path))


def is_mlflow(folder: Path) -> bool:
    """Return whether a folder is a file store of MLflow: experiments with a `meta.yaml`."""
    return any(folder.glob(f"*/{META}"))


def read_mlflow_folder(folder: Path) -> RawTable:
    """Read the active runs of an MLflow file store (`mlruns`).

    Raises:
        RunsError: a file is damaged, or nothing was logged.
    """
    names: dict[str, tuple[str, str]] = {}
    params: list[tuple[str, str, str]] = []
    metrics: list[tuple[str, float, str, float | None]] = []
    for about in sorted(folder.glob(f"*/*/{META}")):
        place, meta = about.parent, _meta(about)
        if meta.get("lifecycle_stage") != "active":
            continue
        run = place.name
        names[run] = (meta.get("run_name") or run, str(_meta(place.parent / META).get("name")))
        params += [(run, key, file.read_text()) for key, file in _files(place / "params")]
        for key, file in _files(place / "metrics"):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                try:
                    _, value, step = map(float, line.split())
                except ValueError as error:
                    raise RunsError(f'{file}, row {number}: "{line[:40]}" is not "time value step".') from error
                metrics.append((run, step, key, value))
    return _mlflow(names, params, metrics, str(folder))


def _meta(path: Path) -> dict[str, Any]:
    try:
        return dict(yaml.safe_load(path.read_text()))
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise RunsError(f"{path} is not what MLflow writes: {str(error).splitlines()[0]}.") from error


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Keys may hold slashes: they are sub-folders."""
    yield from sorted((path.relative_to(folder).as_posix(), path) for path in folder.rglob("*") if path.is_file())


def _mlflow(
    names: Mapping[str, tuple[str, str]], params: Iterable[tuple[str, str, str]],
    metrics: Iterable[tuple[str, float, str, float | None]], source: str,
) -> RawTable:  # fmt: skip
    """Runs under their names, with a part of their id where names repeat; the experiment is their recipe."""
    given = [name for name, _ in names.values()]
    label = {run: name if given.count(name) == 1 else f"{name} ({run[:8]})" for run, (name, _) in names.items()}
    constants: dict[str, dict[str, Any]] = {label[run]: {"recipe": of} for run, (_, of) in names.items()}
    for run, key, value in params:
        if run in label:
            constants[label[run]][key] = value
    known = [(label[run], step, key, value) for run, step, key, value in metrics if run in label]
    points = [Point(run, step, key, math.nan if value is None else value) for run, step, key, value in known]
    return _table(points, constants, source)


def of_wandb(raw: RawTable, run: str) -> RawTable:
    """Recognise what W&B exports and return any other table as it is.

    A history (`_step`, `_runtime`, one row a step) is the log of one run, named after its file. The export of a chart
    has a column "run - metric" for each run, beside its smallest and largest value over the pixels of the chart, which
    are left out.
    """
    columns = raw.frame.columns
    if {"_step", "_runtime"} <= set(columns):
        named = any(_meaning(name) == "run" for name in columns)
        frame = raw.frame.with_columns(pl.col(pl.String).replace("", None))  # an empty cell of a CSV was not logged
        return replace(raw, frame=frame if named else frame.with_columns(run=pl.lit(run)), is_log=True)
    charts = [name for name in columns if " - " in name and f"{name}__MAX" in columns]
    if not charts:
        return raw
    axis, records = columns[0], []
    meant = _meaning(axis)
    for name in charts:
        owner, _, metric = name.rpartition(" - ")
        cells = raw.frame.select(axis, name).rows()
        records += [{"run": owner, meant: x, metric: y} for x, y in cells if y not in (None, "")]
    labels = pl.Series([f"{row['run']}, {axis} {row[meant]}" for row in records], dtype=pl.String)
    return RawTable(of_records(records), labels, raw.source, is_log=True)
