"""Teacher and student among measured grades of click networks."""

from __future__ import annotations

import pytest

from limbeck.errors import PlanningError
from limbeck.planning import plan_grade

ROWS = {
    "run": ["a0", "a0", "a1", "b0", "b1", "c0", "c1", "c2"],
    "step": [1, 9, 9, 9, 9, 9, 9, 9],
    "grade": ["A", "A", "A", "B", "B", "C", "C", "C"],
    "error": [0.10, 0.20, 0.22, 0.19, 0.20, 0.18, 0.19, 0.05],
    "latency_ms": [2.0, 2.0, 2.2, 4.0, 4.2, 9.0, 9.4, 9.2],
    "params": [10.0, 10.0, 10.0, 20.0, 20.0, 30.0, 30.0, 30.0],
    "events": [100, 100, 100, 100, 100, 100, 100, 50],
}


def test_the_last_row_of_each_run_on_the_most_events_counts():
    plan = plan_grade(ROWS, 5)
    assert [(one.name, one.runs) for one in plan.grades] == [("A", 2), ("B", 2), ("C", 2)]
    assert [one.auc for one in plan.grades] == pytest.approx([0.79, 0.805, 0.815])
    assert plan.grades[0].spread == pytest.approx(0.01)
    assert (plan.teacher.name, plan.student.name) == ("C", "B")
    assert plan.student.latency_ms == pytest.approx(4.1)
    assert "To be won by distillation: 0.0100 ± 0.0071" in plan.summary()


def test_a_budget_decides_the_student():
    assert plan_grade(ROWS, 3).student.name == "A"
    assert plan_grade(ROWS, 50).student.name == "C"
    assert "nothing is to be distilled" in plan_grade(ROWS, 50).summary()
    with pytest.raises(PlanningError, match=r"the fastest, A, takes 2\.1 ms"):
        plan_grade(ROWS, 1)
    with pytest.raises(PlanningError, match="latency must be positive"):
        plan_grade(ROWS, 0)


def test_columns_that_are_missing():
    with pytest.raises(PlanningError, match="lacks grade, latency_ms"):
        plan_grade({"error": [0.1]}, 5)


def test_the_picture_has_every_grade():
    figure = plan_grade(ROWS, 5).plot()
    assert list(figure.data[0]["text"]) == ["A", "B", "C"]
    assert "B within 5 ms" in figure.layout.title.text
