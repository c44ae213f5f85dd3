from __future__ import annotations

import numpy as np
import pytest

from limbeck.embeddings import ReverseDistiller, assess
from limbeck.errors import LimbeckError


def scaling(loud: float, rows: int = 600, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Two models: the larger one knows a factor more, beside noise of a given loudness."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((rows, 3))
    small = np.hstack([z[:, :2], 0.1 * rng.standard_normal((rows, 2))])
    large = z @ rng.standard_normal((3, 40)) + loud * rng.standard_normal((rows, 40))
    return [small, large], z[:, 0] - z[:, 1] + z[:, 2] + 0.3 * rng.standard_normal(rows)


def advice(loud: float, labels=lambda y: y):
    family, y = scaling(loud)
    distiller = ReverseDistiller("linear").fit(family)
    return assess(distiller, [x[:120] for x in family], labels(y[:120]))


def test_raw_is_advised_where_it_scales_well():
    found = advice(0.1)
    assert found.raw[1] > found.raw[0] + 0.1 and found.fall.mean < 0
    assert found.summary().splitlines()[-1] == "The raw embeddings do not get worse with size: use raw, of width 40."


def test_reverse_distillation_is_advised_where_it_does_not():
    found = advice(5.0)
    assert found.raw[1] < found.raw[0] - 0.1 and found.fall.mean > 2 * found.fall.error
    assert found.distilled[1] > found.raw[1] and found.gain.mean > 2 * found.gain.error
    assert found.distilled[0] == pytest.approx(found.raw[0])
    assert found.advice == "The raw embeddings get worse with size: use reverse distillation, cut at width 40."
    assert found.to_dict()["widths"] == [4, 40] and found.to_dict()["gain"]["pairs"] == 120


def test_a_vector_that_mends_nothing_is_not_advised():
    """The larger model is noise: what is best is the smaller one's raw embedding."""
    family, y = scaling(1.0)
    family[1] = np.random.default_rng(3).standard_normal(family[1].shape)
    y = family[0][:, 0] - family[0][:, 1]
    found = assess(ReverseDistiller("linear").fit(family), [x[:60] for x in family], y[:60])
    assert found.fall.mean > 2 * found.fall.error and found.distilled[1] <= found.raw[0]
    assert found.advice.endswith("reverse distillation does not mend it: use raw, of width 4.")


def test_classes_are_whole_numbers_or_words():
    numbers, words = advice(0.1, lambda y: (y > 0).astype(int)), advice(0.1, lambda y: np.where(y > 0, "yes", "no"))
    assert numbers.raw == words.raw and numbers.raw[1] > 0.9
    assert all(round(120 * score) == pytest.approx(120 * score) for score in numbers.raw)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(120, lambda y: y[:-1]), (120, np.zeros_like), (9, lambda y: y), (120, lambda y: y[:, None])],
)
def test_labels_that_say_nothing_are_refused(rows, labels):
    family, y = scaling(1.0)
    distiller = ReverseDistiller("linear").fit(family)
    with pytest.raises(LimbeckError, match="expected a label a row"):
        assess(distiller, [x[:rows] for x in family], labels(y[:rows]))
    with pytest.raises(LimbeckError, match="and 2 models"):
        assess(distiller, [family[0]], y)
