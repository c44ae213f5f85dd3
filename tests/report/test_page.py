"""The page in a real browser: it computes what Python does, needs no network, fits a phone and two sheets of paper."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck import laws, planning
from limbeck.fitting import SQUARED
from limbeck.report import ReportContent, render, write_report
from limbeck.report.javascript import law_function, size_function

pytestmark = pytest.mark.browser

PREDICTION = "return {...document.getElementById('prediction').dataset}"


@pytest.fixture(scope="module")
def demo_page(demo_content: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(demo_content, tmp_path_factory.mktemp("demo") / "report.html")


def drag(browser: Any, name: str, pixels: int) -> None:
    """Drag the handle of a slider, as a hand does."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By

    slider = browser.driver.find_element(By.ID, name)
    browser.script("arguments[0].scrollIntoView({block: 'center'})", slider)
    share = browser.script("const s = arguments[0]; return (s.value - s.min) / (s.max - s.min)", slider)
    start = int((share - 0.5) * (slider.size["width"] - 16))
    ActionChains(browser.driver).move_to_element_with_offset(slider, start, 0).click_and_hold().move_by_offset(
        pixels, 0
    ).release().perform()


def agrees(browser: Any, fit: Any, level: float = 0.8) -> dict[str, float]:
    """The page's prediction at its sliders is Python's."""
    shown = browser.script(PREDICTION)
    columns = json.loads(shown["columns"])
    p = fit.predict(level, **columns)
    assert float(shown["mean"]) == pytest.approx(float(p.mean[0]), rel=1e-9)
    assert float(shown["lower"]) == pytest.approx(float(p.lower[0]), rel=0.01)
    assert float(shown["upper"]) == pytest.approx(float(p.upper[0]), rel=0.01)
    return columns


def test_sliders_move_the_prediction_and_agree_with_python(browser: Any, write: Any, chinchilla_fit: Any) -> None:
    browser.open(write(ReportContent.of_fit(chinchilla_fit)))
    best_split_is_the_planners(browser, chinchilla_fit)
    before, text = agrees(browser, chinchilla_fit), browser.script("return prediction.innerText")
    drag(browser, "budget", 40)
    richer = agrees(browser, chinchilla_fit)
    assert richer["params"] * richer["tokens"] > 1.5 * before["params"] * before["tokens"]
    assert richer["tokens"] / richer["params"] == pytest.approx(before["tokens"] / before["params"], rel=1e-6)
    assert browser.script("return prediction.innerText") != text
    drag(browser, "params", -60)
    smaller = agrees(browser, chinchilla_fit)
    assert smaller["params"] < 0.7 * richer["params"]
    assert smaller["params"] * smaller["tokens"] == pytest.approx(richer["params"] * richer["tokens"], rel=1e-6)
    drag(browser, "ratio", 30)
    assert agrees(browser, chinchilla_fit)["params"] < smaller["params"]
    assert browser.errors() == []


def best_split_is_the_planners(browser: Any, fit: Any) -> None:
    browser.script("document.getElementById('take').click()")
    columns = agrees(browser, fit)
    plan = planning.compute_optimal(fit, 6 * columns["params"] * columns["tokens"])
    assert columns["params"] == pytest.approx(plan.params.value, rel=0.01)


@pytest.mark.parametrize("width", [390, 1280])
def test_page_fits_the_screen_and_stays_offline(browser: Any, demo_page: Path, width: int) -> None:
    browser.open(demo_page, width)
    assert browser.script("return document.documentElement.scrollWidth") <= width
    assert browser.script("return document.querySelectorAll('.plot .main-svg').length") >= 4
    assert browser.script("return performance.getEntriesByType('resource').length") == 0
    assert browser.errors() == []


def test_sections_come_in_order_and_text_stays_text(browser: Any, demo_page: Path, demo_content: Any) -> None:
    browser.open(demo_page)
    text = browser.script("return document.body.innerText")
    parts = (
        demo_content.question,
        "nats/byte",
        "1 of 2 measurements lie inside the predicted band",
        "The data and the law",
        "Residuals show no trend",
        "What these runs identify",
        "Plan with it",
        "The student",
        "Samples side by side",
        "How to reproduce",
        "No attention maps.",
    )
    places = [text.index(part) for part in parts]
    assert places == sorted(places)
    assert "</script><b>The" in text and "for <statement>" in text
    assert "written down 2026-01-02 12:03:11 UTC, before it was measured" in text
    assert browser.script("return document.querySelector('output[for=params]').dataset.value") == "395904"
    four_passes_over_the_text_warn(browser)
    prints_on_two_pages(browser)


def four_passes_over_the_text_warn(browser: Any) -> None:
    warning = "return document.getElementById('warning').innerText"
    assert browser.script(warning) == ""
    drag(browser, "ratio", 120)
    assert "four passes" in browser.script(warning)


def prints_on_two_pages(browser: Any) -> None:
    paper = {"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
    pdf = base64.b64decode(browser.driver.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2


@pytest.mark.parametrize(
    ("law", "columns"),
    [
        ("power-floor", {"tokens": [1e8, 1e9, 1e10, 1e11, 3e8, 3e9]}),
        ("downstream-error", {"loss": [2.0, 2.4, 2.8, 3.2, 3.6, 4.0]}),
        ("capacity-gap", {"params": [1e8, 3e8, 1e9, 3e9, 1e10]}),
    ],
)
def test_laws_of_one_column_have_a_planner_too(browser: Any, write: Any, law: str, columns: Any) -> None:
    model = laws.get(law)
    truth = {
        "power-floor": {"E": 1.5, "A": 60.0, "alpha": 0.2},
        "downstream-error": {"epsilon": 0.9, "k": 3.0, "gamma": 1.0},
        "capacity-gap": {"a": 2.5, "b": 0.0},
    }[law]
    wiggle = [1.004, 0.997, 1.002, 0.999, 1.003, 0.996][: len(next(iter(columns.values())))]
    truth = {name: truth.get(name, 1.0) for name in model.parameter_names}
    target = list(model(truth, **columns) * wiggle)
    fit = laws.fit(model, {**columns, model.target: target}, loss=SQUARED, bootstrap=100)
    browser.open(write(ReportContent.of_fit(fit)))
    agrees(browser, fit)
    drag(browser, model.columns[0], 25)
    agrees(browser, fit)
    assert browser.errors() == []


def test_every_law_is_the_same_in_javascript(browser: Any, tmp_path: Any) -> None:
    empty = tmp_path / "empty.html"
    empty.write_text("<title>empty</title>")
    browser.open(empty)
    rng = np.random.default_rng(0)
    values = {"params": 3e8, "tokens": 7e9, "teacher_loss": 2.1, "loss": 2.7, "flops": 1e20, "samples": 1e6}
    for name in laws.names():
        law = laws.get(name)
        p = {q.name: float(rng.uniform(0.3, 0.9)) for q in law.parameters}
        x = {column: values.get(column, 1e3) for column in law.columns}
        there = browser.script(f"return ({law_function(law)})(arguments[0], arguments[1])", p, x)
        assert there == pytest.approx(float(law(p, **x)), rel=1e-9), name
        size = float(law.size(type("Columns", (), x)))
        assert browser.script(f"return ({size_function(law)})(arguments[0])", x) == pytest.approx(size, rel=1e-12), name


def test_nothing_is_loaded_from_elsewhere(demo_content: Any) -> None:
    page = render(demo_content)
    page = page[: page.index("/**\n* plotly.js")] + page[page.index('"use strict";\n// Pictures') :]
    assert not re.search(r"""(src|href)\s*=\s*["']?https?:|url\(|@import|fetch\(""", page)
