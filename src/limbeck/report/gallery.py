"""All reproductions of papers as one HTML page: a line each, then claim, measurement and picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbeck.files import write_text
from limbeck.report.page import Picture, filled


def write_gallery(records: Sequence[Any], counts: str, path: str | Path) -> Path:
    """Write the page of reproductions; it needs no network.

    Args:
        records: as `limbeck.papers.reproduce` returns them.
        counts: how many claims hold, in words.
        path: HTML file.
    """
    drawn = {one.slug: one.plot() for one in records}
    pictures = {slug: figure and Picture.of(figure) for slug, figure in drawn.items()}
    view = {"title": f"{len(records)} reproductions", "records": records, "counts": counts, "pictures": pictures}
    return write_text(path, filled("gallery.html", view | {"quick": any(one.quick for one in records)}))
