"""The list of papers, and every paper's experiment in its quick form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import limbeck.papers
from limbeck.errors import ConfigError
from limbeck.papers import Paper, get, papers

SLUGS = sorted(papers())


def test_every_public_file_holds_one_paper() -> None:
    files = {path.stem for path in Path(limbeck.papers.__file__).parent.glob("[!_]*.py")}
    assert {type(paper).__module__.rpartition(".")[2] for paper in papers().values()} == files
    assert {slug.replace("-", "_") for slug in papers()} == files
    assert len(papers()) == len(files)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_paper_says_what_it_claims_in_a_sentence(slug: str) -> None:
    paper = get(slug)
    record = paper.to_dict()
    assert json.loads(json.dumps(record))["slug"] == slug
    assert record["claim"].endswith(".")
    assert record["arxiv"][4] == "."
    assert paper.seeds >= 3
    assert len(paper.baseline) <= 20
    assert type(paper).__doc__


def test_listing_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, limbeck.papers; limbeck.papers.catalogue(); print({'torch', 'sklearn'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_unknown_slugs_get_a_hint() -> None:
    with pytest.raises(ConfigError, match='Did you mean "capacity-gap-law"'):
        get("capacity-gap")


def test_seeds_of_a_quick_run_are_three_at_most() -> None:
    assert get("capacity-gap-law").choose_seeds(quick=True) == (0, 1, 2)
    assert len(get("capacity-gap-law").choose_seeds(quick=False)) >= 5
    assert get("capacity-gap-law").choose_seeds(quick=True, seeds=[7]) == (7,)
    assert isinstance(get("capacity-gap-law"), Paper)


def test_overtraining_meets_the_published_errors(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(data_folder))
    record = get("overtraining-downstream").run(quick=True)
    assert record.holds is True
    assert record.mean == pytest.approx(4.18, abs=0.05)
    loss, error, loss_far, error_far = record.details["rpj"]["large models"]  # 6.9 B at M = 20, 1.4 B at M = 640
    assert (loss, error) == pytest.approx((0.73, 0.05), abs=0.01)
    assert (loss_far, error_far) == pytest.approx((0.71, 3.64), abs=0.01)
    assert record.details["c4_original"]["error law"]["gamma"] == pytest.approx(0.75612, abs=1e-4)


def test_overtraining_without_its_table_says_so_and_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    record = get("overtraining-downstream").run(quick=True)
    assert record.holds == "not visible"
    assert "run table absent" in record.notes[0]


def test_a_label_tells_a_larger_model_more_and_a_shuffled_one_misleads() -> None:
    pytest.importorskip("sklearn")
    measured = get("henighan-autoregressive").measure(0, quick=True)
    assert measured["params"] == [585, 2529, 13185]
    blank, label, shuffled = (np.mean(measured[name], axis=1) for name in ("blank", "label", "shuffled"))
    # s.e. over 400 images about 0.1 nats
    assert blank[2] - label[2] > 0.5
    assert blank[2] - label[2] > blank[0] - label[0] + 0.3
    assert blank[2] - shuffled[2] < -0.3


def test_small_trainings_are_reproducible_bit_for_bit() -> None:
    torch = pytest.importorskip("torch")
    from limbeck.papers._characters import cross_entropy, learn, split
    from limbeck.papers._training import draws

    train, validation = split()
    before = torch.random.get_rng_state()
    losses = [cross_entropy(learn(8, train[draws(len(train), 20, 128, seed)], seed), validation) for seed in (3, 3, 4)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] < np.log(30)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.slow
@pytest.mark.parametrize("slug", SLUGS)
def test_a_quick_run_leaves_a_record_that_json_holds(slug: str) -> None:
    record = get(slug).run(quick=True)
    assert record.error is None
    assert record.figure is not None
    assert record.holds in (True, False, "not visible")
    assert json.loads(json.dumps(record.to_dict(), allow_nan=False))["seeds"] == list(record.seeds)
