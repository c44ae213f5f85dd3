"""A fit of a public run table, a fit of a small ladder with everything a study adds, and a headless browser."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck import laws
from limbeck.fitting import SQUARED, Fit, Prior
from limbeck.report import Forecast, Marked, ReportContent, Sample, StudentRow
from limbeck.runs import RunTable, read_runs

LARGE = {"params": 395_904.0, "tokens": 2e6}
TRUTH = {"E": 1.09, "A": 14.0, "B": 480.0, "alpha": 0.36, "beta": 0.53}


@pytest.fixture(scope="session")
def chinchilla_runs(data_folder: Path) -> RunTable:
    return read_runs(data_folder / "chinchilla-runs" / "runs.csv", where="outlier=0")


@pytest.fixture(scope="session")
def chinchilla_fit(chinchilla_runs: RunTable) -> Fit:
    return laws.fit("chinchilla", chinchilla_runs, bootstrap=500, seed=0)


@pytest.fixture(scope="session")
def ladder_rows() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    rows = []
    for params in (13_944, 25_248, 55_536, 100_672):
        for seed in range(3):
            run = rng.normal(0, 0.008)
            for tokens in (250e3, 500e3, 1e6):
                loss = float(laws.get("chinchilla")(TRUTH, params=params, tokens=tokens))
                loss *= np.exp(run + rng.normal(0, 0.004))
                rows.append({"run": f"n{params}-s{seed}", "params": params, "tokens": tokens, "loss": loss})
    return rows


@pytest.fixture(scope="session")
def ladder_fit(ladder_rows: list[dict[str, Any]]) -> Fit:
    columns = {name: [row[name] for row in ladder_rows] for name in ladder_rows[0]}
    priors = {"alpha": Prior(0.4, 0.12), "beta": Prior(0.55, 0.2)}
    return laws.fit("chinchilla", columns, loss=SQUARED, priors=priors, bootstrap=300, seed=0)


@pytest.fixture(scope="session")
def demo_content(ladder_fit: Fit, ladder_rows: list[dict[str, Any]]) -> ReportContent:
    p = ladder_fit.predict(0.8, **LARGE)
    short = {"125 k": 2.381, "250 k": 2.038, "500 k": 1.782}
    return ReportContent(
        title="limbeck demo",
        question="What will a larger model reach, and what will a small student learn from it?",
        predictions=(
            Forecast(
                "large run",
                float(p.mean[0]),
                float(p.lower[0]),
                float(p.upper[0]),
                measured=1.45,
                extrapolation=float(p.extrapolation[0]),
                columns=LARGE,
                unit="nats/byte",
                written="2026-01-02T12:03:11+00:00",
                sha256="a3f9" * 16,
                baselines={"last value of the ladder": 1.609},
            ),
            Forecast("student", 1.568, 1.547, 1.580, measured=1.5829, extrapolation=4.0, unit="nats/byte"),
        ),
        fit=ladder_fit,
        runs=tuple(str(row["run"]) for row in ladder_rows),
        marked=(Marked({"params": 25_248.0, "tokens": 125e3}, 2.47, "plateau", "not yet on the law"),),
        students=(
            StudentRow("d128", 1.4324, short, 1.568, 1.547, 1.580, 1.5829, 1.6263, chosen=True),
            StudentRow("d64", 1.601, {**short, "125 k": 2.355}, 1.661, 1.63, 1.69, None, 1.6263),
        ),
        students_note="Distilled 1.583, alone 1.626.",
        samples=(Sample("</script><b>The", {"teacher": "for <statement>", "student": "of the the"}),),
        facts={"text": "1.91 M bytes", "documents": 523.0},
        notes=("Priors were chosen on other seeds.",),
        unique_tokens=1.91e6,
        command="limbeck demo --seed 0",
        versions={"limbeck": "0.1.0"},
        seeds={"ladder": "11, 12, 13"},
        seconds=343.0,
        missing=("No attention maps.",),
    )


@dataclass(frozen=True)
class Browser:
    """A headless Chromium."""

    driver: Any

    def open(self, path: Path, width: int = 1280) -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get_log("browser")
        self.driver.get(path.as_uri())
        return self.driver

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    binary, service = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or service is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium and chromedriver are needed: apt-get install chromium-driver")
        pytest.skip("no Chromium here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        quiet = "no-first-run disable-background-networking disable-component-update disable-sync disable-quic"
        for flag in ("headless=new", "no-sandbox", "disable-gpu", *quiet.split(), f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(service))
        yield Browser(driver)
        driver.quit()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[ReportContent], Path]:
    from limbeck.report import write_report

    return lambda content: write_report(content, tmp_path / "report.html")
