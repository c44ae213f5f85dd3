"""The page of all reproductions: every paper has a line and a section, and its text stays text."""

from pathlib import Path

from limbeck.papers import Figure, Reproduction, Series, counts
from limbeck.report import write_gallery

FIGURE = Figure("It falls", "x", "y", [Series("ours", [1.0, 2.0], [3.5, 2.5])])


def record(slug: str, effects: tuple[float, ...], **more: object) -> Reproduction:
    return Reproduction(
        slug, slug.title(), "a <b>claim</b>", "nothing", "points gained", "points", (0, 1), effects=effects, **more
    )  # type: ignore[arg-type]


def test_a_page_of_three(tmp_path: Path) -> None:
    records = [
        record("one", (1.0, 1.1), figure=FIGURE, checks={"it is small": True}, seconds=3.0),
        record("two", (0.1, -0.1), checks={"it is large": False}, notes=("seen once",)),
        record("three", (), error="ValueError: no"),
    ]
    page = write_gallery(records, counts(records), tmp_path / "deep" / "page.html").read_text()
    text = page[: page.index("plotly.js v")]
    assert "of 3: 1 hold, 1 not visible at this scale, 1 crashed · 3 s of one core" in text
    assert text.count("<section id=") == 3 and text.count('href="#') == 3
    assert "a &lt;b&gt;claim&lt;/b&gt;" in text and "<b>claim" not in text
    assert text.count('class="plot"') == 1 and "[3.5,2.5]" in text.replace(" ", "")
    assert "passed: it is small" in text and "failed: it is large" in text and "seen once" in text
    assert "ValueError: no" in text and "+1.05 ± 0.05 points" in text
    assert "no evidence" not in text


def test_quick_runs_are_called_so(tmp_path: Path) -> None:
    page = write_gallery([record("one", (1.0, 1.1), quick=True)], "", tmp_path / "page.html").read_text()
    assert "no evidence" in page and "limbeck reproduce one --quick" in page
