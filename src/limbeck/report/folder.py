"""What a demo or a fit leaves in a folder, as content: parts that are not there are left out with a sentence."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError
from limbeck.fitting import Fit
from limbeck.laws import load_fit
from limbeck.report.content import Forecast, Marked, ReportContent, Sample, StudentRow, run_names
from limbeck.report.numbers import percent
from limbeck.runs import RunTable, read_runs
from limbeck.runs.quantities import quantity, si

FIT, BOOK, SUMMARY, RUNS = "fit.json", "prediction.json", "summary.json", "runs.jsonl"
SHEET, PROGRESS, WAYS = "samples.png", "progress.json", "ways-*.json"


def content_of(folder: str | Path) -> ReportContent:
    """Read a folder: `fit.json`, `prediction.json`, `summary.json`, and run records in `runs.jsonl` or `runs/`.

    Of a distilled diffusion model: `samples.png`, `progress.json`, `ways-*.json`, `result.json`.

    Raises:
        ConfigError: there is neither a fit nor a prediction nor a summary, or a file has another format.
    """
    folder = Path(folder)
    if (folder / SHEET).is_file():
        return _generated(folder)
    summary, book = _json(folder / SUMMARY), _json(folder / BOOK)
    fit = load_fit(folder / FIT) if (folder / FIT).is_file() else None
    if fit is None and not summary and not book:
        raise ConfigError(
            f"{folder} holds nothing to report: expected {FIT}, {BOOK} or {SUMMARY} (limbeck fit, limbeck demo)."
        )
    table = _runs(folder)
    parts = {
        f"There is no law here: {FIT} is missing.": fit,
        f"No prediction was written down beforehand: {BOOK} is missing.": book,
        f"Nothing was measured against a prediction yet: {SUMMARY} is missing.": summary,
        "Runs have no names here: there are no run records.": table is not None,
    }
    missing = [sentence for sentence, present in parts.items() if not present]
    try:
        predictions = _predictions(summary, book, fit)
        if fit is not None and predictions:
            fit = replace(fit, units={**fit.units, fit.model.target: predictions[0].unit})
        return ReportContent(
            title=f"limbeck report: {folder.resolve().name}", question=_question(predictions), predictions=predictions,
            fit=fit, runs=run_names(fit, table), marked=_marked(fit, table, predictions), students=_students(summary),
            students_note=_students_note(summary), samples=tuple(Sample(**s) for s in summary.get("samples", ())),
            facts=_facts(summary, table), notes=tuple(_notes(summary, predictions)),
            unique_tokens=summary.get("corpus", {}).get("train_bytes"), command=summary.get("command", ""),
            versions=summary.get("versions", {}),
            seeds={"study": summary["settings"]["seed"]} if "settings" in summary else {},
            seconds=sum(summary["seconds"].values()) if "seconds" in summary else None, missing=tuple(missing),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{folder}: {SUMMARY} or {BOOK} is not what `limbeck demo` writes: {error!r}.") from error


def _generated(folder: Path) -> ReportContent:
    sheet = base64.b64encode((folder / SHEET).read_bytes()).decode()
    result, progress = _json(folder / "result.json"), folder / PROGRESS
    return ReportContent(
        title=f"limbeck report: {folder.resolve().name}", sheet=f"data:image/png;base64,{sheet}",
        sheet_note=str(result.get("summary", "")), progress=progress.read_text() if progress.is_file() else "",
        ways=tuple(one.read_text() for one in sorted(folder.glob(WAYS))),
        seconds=result.get("seconds"), seeds={"recipe": result["recipe"]["seed"]} if result else {},
    )  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not a JSON object: {error}.") from error


def _runs(folder: Path) -> RunTable | None:
    places = (folder / RUNS, folder / "runs")
    there = [place for place in places if place.is_file() or any(place.glob("*.jsonl"))]
    return read_runs(there[0], skip_bad=True, mix_setups=True) if there else None


def _predictions(summary: Mapping[str, Any], book: Mapping[str, Any], fit: Fit | None) -> tuple[Forecast, ...]:
    """Outcomes where something was measured, else what was written down, joined by name."""
    written = {entry["name"]: entry for entry in book.get("forecasts", ())}
    outcomes = {row["name"]: row for row in summary.get("predictions", ())}
    baselines = summary.get("baselines", {})
    found = []
    for name in dict.fromkeys([*written, *outcomes]):
        entry, outcome = written.get(name, {}), outcomes.get(name, {})
        facts = {**entry.get("basis", {}), **outcome}
        columns = fit.model.columns if fit else ()
        known = {
            "unit": fit.units.get(fit.model.target, "") if fit else "",
            "columns": {c: facts[c] for c in columns} if all(c in facts for c in columns) else {},
            "baselines": {k: v for k, v in baselines.get(name, {}).items() if isinstance(v, int | float)},
            "note": _without_priors(facts),
        }
        found.append(Forecast.of({**known, **entry, **outcome}))
    return tuple(found)


def _without_priors(facts: Mapping[str, Any]) -> str:
    if "without_priors" not in facts:
        return ""
    value, low, high = facts["without_priors"]
    return f"the same law without priors says {value:.3f} ({low:.3f} – {high:.3f})"


def _question(predictions: tuple[Forecast, ...]) -> str:
    if not predictions:
        return ""
    first = predictions[0]
    where = " on ".join(quantity(name, value, 3) for name, value in first.columns.items())
    text = f"What will a run of {where} reach, before it is run?" if where else f"What will the {first.name} reach?"
    return text if len(predictions) == 1 else f"{text[:-1]} – and what will a small student learn from it?"


def _marked(fit: Fit | None, table: RunTable | None, predictions: tuple[Forecast, ...]) -> tuple[Marked, ...]:
    """Runs trained without a teacher that the law was not fitted on; those that test a prediction are drawn with it."""
    if fit is None or table is None or not {*fit.model.columns, fit.model.target} <= set(table.columns):
        return ()
    known = {_key(row) for row in zip(*fit.data.columns.values(), fit.data.target, strict=True)}
    known |= {_key([*f.columns.values(), f.measured]) for f in predictions if f.columns and f.measured is not None}
    marked = []
    for row in table.frame.to_dicts():
        columns = {name: row[name] for name in fit.model.columns}
        values = [*columns.values(), row[fit.model.target]]
        if row.get("teacher_loss") is None and None not in values and _key(values) not in known:
            marked.append(Marked(columns=columns, value=values[-1], name=str(row.get("run", "")), reason="other runs"))
    return tuple(marked)


def _key(values: Any) -> tuple[float, ...]:
    return tuple(float(f"{value:.9g}") for value in values)


def _students(summary: Mapping[str, Any]) -> tuple[StudentRow, ...]:
    chosen = next((row["teacher"] for row in summary.get("predictions", ()) if "teacher" in row), None)
    alone = summary.get("baselines", {}).get("student", {}).get("trained alone")
    rows = []
    for row in summary.get("teachers", ()):
        name, short = row["teacher"], {si(tokens, 3): loss for tokens, loss in row["short_runs"]}
        value, low, high = (row["predicted"][end] for end in ("value", "lower", "upper"))
        said = (row["teacher_loss"], short, value, low, high, row["measured"], alone)
        rows.append(StudentRow(name, *said, name == chosen))
    return tuple(rows)


def _students_note(summary: Mapping[str, Any]) -> str:
    rows = _students(summary)
    chosen = next((row for row in rows if row.chosen), None)
    if chosen is None:
        return ""
    words = []
    if chosen.measured is not None and chosen.supervised is not None:
        gain = chosen.measured - chosen.supervised
        words.append(
            f"Distilled from {chosen.teacher} the student reaches {chosen.measured:.3f}, trained alone on as many "
            f"tokens {chosen.supervised:.3f}: {gain:+.3f} ({percent(gain / chosen.supervised, sign=True)})."
        )
    for tokens in list(chosen.short)[:1]:
        losses = [row.short.get(tokens, math.inf) for row in rows]
        leader = rows[losses.index(min(losses))].teacher
        if leader != chosen.teacher:
            words.append(f"After {tokens} tokens {leader} looks best; extrapolated, {chosen.teacher} is.")
    return " ".join(words).replace("-", "−")


def _notes(summary: Mapping[str, Any], predictions: tuple[Forecast, ...]) -> list[str]:
    notes = []
    if any(f.inside is False for f in predictions):
        notes.append(
            "A measurement lies outside its band. One in five must at 80 %; otherwise it is the noise of one run, or a "
            "law that bends. Nothing here is tuned to the seed."
        )
    warning = summary.get("corpus", {}).get("warning")
    return [*notes, warning] if warning else notes


def _facts(summary: Mapping[str, Any], table: RunTable | None) -> dict[str, str | float]:
    facts: dict[str, str | float] = {}
    corpus = summary.get("corpus")
    if corpus:
        train, held_out = (f"{si(corpus[f'{part}_bytes'], 3)} bytes in {corpus[f'{part}_documents']} documents"
                           for part in ("train", "validation"))  # fmt: skip
        facts["text"] = f"{corpus['source']}: {train}; {held_out} held out"
        facts["leak check"] = f"{percent(corpus['leak_share'])} of the held-out text occurs in the training text"
        facts["sha256 of the training text"] = corpus["sha256"][:16]
    if table is not None:
        facts["runs"] = table.summary()
    return facts
