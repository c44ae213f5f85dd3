from __future__ import annotations

import io

from rich.console import Console

from limbeck.study.stages import Stages, clock


def test_piped_stages_print_one_plain_line_each():
    out = io.StringIO()
    stages = Stages(2, Console(file=out, highlight=False, soft_wrap=True))
    with stages.stage("corpus"):
        stages.update("half-way")
        stages.done("2 M bytes")
    with stages.stage("law"):
        stages.done("held-out error 0.9 %", "   fine")
    assert out.getvalue().splitlines() == [
        "[1/2] corpus      2 M bytes",
        "[2/2] law         held-out error 0.9 %   fine",
    ]
    assert set(stages.seconds) == {"corpus", "law"}


def test_quiet_stages_print_nothing():
    out = io.StringIO()
    stages = Stages(1, Console(file=out), quiet=True)
    with stages.stage("corpus"):
        stages.done("x")
    assert out.getvalue() == ""


def test_clock():
    assert clock(161) == "2 min 41 s"
    assert clock(59.6) == "1 min 00 s"
