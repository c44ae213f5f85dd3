"""Costs and best teachers against reference vectors."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck.planning import best_teacher_loss, distillation_flops

pytestmark = pytest.mark.parity


def test_distillation_costs_and_best_teachers(parity, walk_sections):
    data = parity("distillation-scaling-laws")

    def total_flops(values):
        n_s, d_s, n_t, d_t, logits, pretraining = (
            np.array(data[k], float) for k in ("N_S", "D_S", "N_T", "D_T", "delta_lgt", "delta_pre")
        )
        cost = distillation_flops(n_s, d_s, n_t, d_t, logits=logits, pretraining=pretraining)
        assert_allclose(cost, values, rtol=1e-12)

    def optimal_teacher(cases):
        for case in cases:
            teacher, student = best_teacher_loss(case["N_S"], case["D_S"])
            assert abs(teacher - case["L_T_star"]) < 2e-5
            assert_allclose(student, case["L_S_star"], rtol=1e-9)

    checked_with_the_laws = set(data) - {"total_flops", "optimal_teacher"}
    checks = {"total_flops": total_flops, "optimal_teacher": optimal_teacher}
    walk_sections(data, checks, ignore=checked_with_the_laws)
