"""Networks over generations in two papers."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import recursive_meta_distillation, self_distillation_kernel


@pytest.mark.slow
def test_labels_dampen_what_rounds_do_to_networks() -> None:
    found = self_distillation_kernel.networks(2, 500, 2)
    right, path = np.array(found["right"]), np.array(found["path"])
    assert right.shape == path.shape == (2, 3)
    assert right[0, 0] == right[1, 0] < right[1, -1] < right[0, -1]
    assert path[0, 0] == path[1, 0] < path[:, -1].min()  # the order of its ends is one of means over seeds
    assert found["found"][1] - min(found["grid"]) < 0.002 and 0 <= found["found"][0] <= 1
    assert right[0, 0] < found["tuned"] < 1


def test_networks_without_an_anchor_go_further() -> None:
    found = recursive_meta_distillation.networks(0, 60, 4)
    free, held = np.array(found["forward"])
    assert free[0] == held[0] and free[-1] > held[-1] > 0
    assert np.shape(found["accuracy"]) == np.shape(found["errors"]) == (2, 4)
