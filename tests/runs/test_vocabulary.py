from __future__ import annotations

import pytest

from limbeck.runs import COLUMNS, VOCABULARY, vocabulary_table
from limbeck.runs.vocabulary import SETUP, recognise


def test_no_two_names_share_an_alias_and_every_alias_is_recognised():
    owners: dict[str, str] = {}
    for column in VOCABULARY:
        for alias in (column.name, *column.aliases):
            assert recognise(alias) == (column.name, 1.0)
            assert owners.setdefault(alias.lower(), column.name) == column.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("N", "params"),
        ("D", "tokens"),
        ("C", "flops"),
        ("n_params", "params"),
        ("NUM_PARAMS", "params"),
        (" Train Tokens ", "tokens"),
        ("train_flop", "flops"),
        ("eval/loss", "loss"),
        ("val/loss", "loss"),
        ("validation-loss", "loss"),
        ("num_input_tokens_seen", "tokens"),
        ("Model Family", "family"),
    ],
)
def test_names_people_use(name, expected):
    assert recognise(name) == (expected, 1.0)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tokens_B", ("tokens", 1e9)),
        ("Model Size (B)", ("params", 1e9)),
        ("Pretraining Data Size (T)", ("tokens", 1e12)),
        ("FLOPs (1E21)", ("flops", 1e21)),
        ("params_m", ("params", 1e6)),
    ],
)
def test_scale_in_the_name_of_a_count(name, expected):
    assert recognise(name) == expected


@pytest.mark.parametrize("name", ["n", "d", "c", "loss_b", "lr_k", "hellaswag_acc", "", "note", "损失"])
def test_what_stays_unrecognised(name):
    assert recognise(name) is None


def test_units_and_setup():
    assert COLUMNS["loss"].unit == "nats/token"
    assert COLUMNS["flops"].unit == "FLOP"
    assert all(COLUMNS[name].kind == "text" for name in SETUP)
    assert [c.name for c in VOCABULARY if c.essential] == ["params", "tokens", "samples", "flops", "loss"]


def test_table_fits_its_width_and_names_all_columns():
    lines, _, rules = vocabulary_table(80).partition("\n\n")
    assert "one-letter names" in rules
    lines = lines.splitlines()
    assert max(map(len, [*lines, *rules.splitlines()])) <= 80
    heads = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert heads == list(COLUMNS)
