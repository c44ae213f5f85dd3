from __future__ import annotations

import re

import numpy as np
import pytest

from limbeck import laws
from limbeck.laws.law import SOURCES, TABLES, published, published_family


@pytest.mark.parametrize("name", TABLES["law"])
def test_published_constants_are_those_of_their_law(name):
    found = published(name)
    assert set(found.parameters) == set(found.law.parameter_names) and found.where
    assert all(isinstance(value, float) for value in found.parameters.values())
    assert np.isfinite(found.value(**dict.fromkeys(found.law.columns, 2.0)))


def test_published_constants_have_the_papers_of_their_names():
    assert laws.MUENNIGHOFF_2023.source == SOURCES["muennighoff-2023"]
    assert laws.KAPLAN_2020_BATCH.source == laws.KAPLAN_2020_TOKENS.source == SOURCES["kaplan-2020"]
    assert (
        laws.DISTILLATION_2025.source == SOURCES["busbridge-2025"] and laws.DISTILLATION_2025.reach["tokens"] == 512e9
    )
    assert laws.HOFFMANN_2022.parameters["A"] == pytest.approx(np.exp(6.0073404), rel=1e-12)
    assert set(published_family("nezhurina-2025")) == {"clip", "mammut"}


def test_papers_can_be_looked_up():
    for source in SOURCES.values():
        assert source.title and source.authors and 1990 < source.year < 2030
        assert re.fullmatch(r"\d{4}\.\d{4,5}", source.arxiv), source
