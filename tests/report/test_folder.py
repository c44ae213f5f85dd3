from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import ConfigError
from limbeck.report import content_of, report_of

LARGE = {"params": 395_904, "tokens": 1_999_872}


@pytest.fixture
def demo(tmp_path: Path, ladder_fit: Any, ladder_rows: list[dict[str, Any]]) -> Path:
    """What a demo leaves behind."""
    ladder_fit.save(tmp_path / "fit.json")
    large = {
        "name": "large run",
        "predicted": 1.408,
        "lower": 1.36,
        "upper": 1.4449,
        "level": 0.8,
        "extrapolation": 7.9,
    }
    student = {"name": "student", "predicted": 1.568, "lower": 1.547, "upper": 1.58, "level": 0.8, "extrapolation": 4.0}
    when = {"written": "2026-01-02T12:03:11+00:00", "sha256": "ab" * 32}
    basis = {**LARGE, "without_priors": [1.404, 1.341, 1.457]}
    book = {"forecasts": [{**large, "basis": basis, **when}, {**student, "basis": {"tokens": 2e6}, **when}]}
    (tmp_path / "prediction.json").write_text(json.dumps(book))
    predicted = {"value": 1.568, "lower": 1.547, "upper": 1.58, "level": 0.8}
    summary = {
        "predictions": [
            {**large, "measured": 1.4324, "inside": True, "unit": "nats/byte", **LARGE},
            {**student, "measured": 1.5829, "inside": False, "unit": "nats/byte", "teacher": "d128"},
        ],
        "baselines": {
            "large run": {"last value of the ladder": 1.609, "law without priors": [1.404, 1.341, 1.457]},
            "student": {"trained alone": 1.6263, "short runs": {"d128": 1.782}},
        },
        "teachers": [
            {
                "teacher": "d128",
                "teacher_loss": 1.4324,
                "short_runs": [[125_000, 2.381], [500_000, 1.782]],
                "predicted": predicted,
                "measured": 1.5829,
            },
            {
                "teacher": "d48",
                "teacher_loss": 1.654,
                "short_runs": [[125_000, 2.354], [500_000, 1.82]],
                "predicted": {**predicted, "value": 1.697},
                "measured": None,
            },
        ],
        "noise": {"run": 0.008, "point": 0.006, "degrees": 8},
        "corpus": {
            "source": "Python documentation",
            "train_documents": 523,
            "validation_documents": 59,
            "train_bytes": 1_910_994,
            "validation_bytes": 142_903,
            "sha256": "cd" * 32,
            "leak_share": 0.012,
            "warning": None,
        },
        "seconds": {"ladder": 134.0, "student": 77.5},
        "settings": {"text": None, "tokenizer": "byte", "seed": 7},
        "command": "limbeck demo --out demo --seed 7",
        "versions": {"limbeck": "0.1.0"},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    others = [
        {"run": "large", **LARGE, "loss": 1.4324},
        {"run": "short", "params": 25_248, "tokens": 125_000, "loss": 2.381, "teacher_loss": 1.4324},
        {"run": "alone", "params": 25_248, "tokens": 2e6, "loss": 1.6263},
    ]
    rows = [{"teacher_loss": None, **row} for row in (*ladder_rows, *others)]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_demos_folder_holds_a_whole_report(demo: Path) -> None:
    content = content_of(demo)
    first, second = content.predictions
    assert (first.columns, first.measured, first.unit) == (LARGE, 1.4324, "nats/byte")
    assert first.baselines == {"last value of the ladder": 1.609}
    assert first.note == "the same law without priors says 1.404 (1.341 – 1.457)"
    assert second.columns == {} and second.inside is False and second.written.startswith("2026")
    assert content.question.startswith("What will a run of 396 k parameters on 2 M tokens reach")
    assert content.runs[0] == "n13944-s0" and len(content.runs) == 36
    assert [(m.name, m.value) for m in content.marked] == [("alone", 1.6263)]
    assert [(s.teacher, s.chosen, s.supervised) for s in content.students] == [
        ("d128", True, 1.6263),
        ("d48", False, 1.6263),
    ]
    assert content.students[0].short == {"125 k": 2.381, "500 k": 1.782}
    assert content.students_note == (
        "Distilled from d128 the student reaches 1.583, trained alone on as many tokens 1.626: −0.043 (−2.7 %). "
        "After 125 k tokens d48 looks best; extrapolated, d128 is."
    )
    assert any("outside its band" in note for note in content.notes)
    assert content.unique_tokens == 1_910_994 and content.seconds == 211.5
    assert content.command == "limbeck demo --out demo --seed 7"
    assert content.missing == ()


def test_report_of_writes_the_page(demo: Path) -> None:
    page = report_of(demo)
    assert page == demo / "report.html"
    text = page.read_text()
    assert "predicted 1.41 (80 %: 1.36 – 1.44), measured 1.432: inside the band, prediction −1.7 %" in text
    assert "plotly.js" in text and "1.2 % of the held-out text occurs" in text


def test_what_is_missing_is_said(demo: Path) -> None:
    for name in ("summary.json", "runs.jsonl", "prediction.json"):
        (demo / name).unlink()
    content = content_of(demo)
    assert len(content.missing) == 3 and content.predictions == () and content.fit is not None
    page = report_of(demo).read_text()
    assert "Nothing was measured against a prediction yet: summary.json is missing." in page
    assert "not measured yet" in page


def test_predictions_alone_make_a_report(demo: Path) -> None:
    for name in ("summary.json", "runs.jsonl", "fit.json"):
        (demo / name).unlink()
    content = content_of(demo)
    assert [p.measured for p in content.predictions] == [None, None] and content.fit is None
    assert "Predicted, not measured yet" in report_of(demo).read_text()


def test_a_diffusion_run_shows_its_pictures_and_its_progress(tmp_path: Path) -> None:
    (tmp_path / "samples.png").write_bytes(b"\x89PNG")
    assert "data:image/png;base64,iVBORw==" in report_of(tmp_path).read_text()
    (tmp_path / "result.json").write_text('{"recipe": {"seed": 3}, "summary": "FD 0.4 <of> it", "seconds": 8.0}')
    (tmp_path / "progress.json").write_text('{"data": [{"type": "scatter", "y": [0.25, 0.125]}], "layout": {}}')
    for name in ("student", "teacher"):
        (tmp_path / f"ways-{name}.json").write_text(f'{{"data": [{{"type": "scatter", "name": "of {name}"}}]}}')
    text = report_of(tmp_path).read_text()
    assert text.index('"of student"') < text.index('"of teacher"') and 'id="way2"' in text
    assert "FD 0.4 &lt;of&gt; it" in text and '"y":[0.25,0.125]' in text and "recipe 3" in text and "8 s" in text


def test_empty_and_broken_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds nothing to report: expected fit\.json"):
        content_of(tmp_path)
    (tmp_path / "summary.json").write_text('{"predictions": [{"predicted": 1.0}]}')
    with pytest.raises(ConfigError, match=r"summary\.json or prediction\.json is not what"):
        content_of(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(ConfigError, match="is not a JSON object"):
        content_of(tmp_path)
