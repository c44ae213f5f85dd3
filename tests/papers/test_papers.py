"""The list of papers, and every paper's experiment in its quick form."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

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
