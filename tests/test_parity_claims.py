"""Every file of reference vectors is consumed by a test, or waits in a list that only shrinks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WAITING: set[str] = set()
"""Files whose methods are not built yet. Never add to it."""


def claimed() -> set[str]:
    """Slugs that a test loads through the `parity` fixture."""
    pattern = re.compile(r"""parity\(\s*["']([a-z0-9-]+)["']\s*\)""")
    return {slug for path in TESTS.rglob("test_*.py") for slug in pattern.findall(path.read_text())}


@pytest.mark.parity
def test_every_file_is_claimed_or_waits(request):
    folder = request.getfixturevalue("reference_folder")
    files = {path.stem for path in folder.glob("*.json")}
    assert files - claimed() - WAITING == set()


def test_the_waiting_list_only_shrinks():
    assert WAITING & claimed() == set()
    assert len(WAITING) <= 41


def test_claimed_files_have_a_copy_here():
    assert {path.stem for path in (TESTS / "parity").glob("*.json")} == claimed()
