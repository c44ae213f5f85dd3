"""Raw tables: what a file or a data frame holds, cell by cell, before any name or number is interpreted."""

import csv
import gzip
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from limbeck.errors import RunsError

from ._bad_rows import BadRow


@dataclass(frozen=True)
class RawTable:
    """Cells with the column names of their source.

    Args:
        frame: the cells (all text where the format knows no types).
        rows: the label of every row, for messages.
        source: name of the table, for messages.
        counting: how rows are counted, for messages ("" when it is plain).
        bad: rows whose cells could not be told apart.
        is_log: rows may be progress reports between two evaluations.
        derived: columns that were computed while reading, with the formula.
    """

    frame: pl.DataFrame
    rows: pl.Series
    source: str
    counting: str = ""
    bad: Sequence[BadRow] = ()
    is_log: bool = False
    derived: Mapping[str, str] = field(default_factory=dict)


def labels(numbers: Iterable[int], what: str = "row") -> pl.Series:
    """Return row labels such as "row 3"."""
    return pl.Series([f"{what} {number}" for number in numbers], dtype=pl.String)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file (also gzipped).

    Raises:
        RunsError: the file is empty, binary or in another encoding.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, EOFError) as error:
        raise RunsError(f"{path} cannot be read: {error}.") from error
    except UnicodeDecodeError as error:
        raise RunsError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8 or as Parquet.") from error
    if "\0" in text:
        raise RunsError(f"{path} is a binary file. Expected text: CSV or JSONL (or Parquet, with the ending .parquet).")
    if not text.strip():
        raise RunsError(f"{path} is empty.")
    return text


def read_csv(path: Path) -> RawTable:
    """Read a CSV file; the delimiter (comma, semicolon, tab, bar) is the one that splits its header most."""
    text = read_text(path)
    top, start = text.lstrip("\r\n").splitlines()[0], 1
    header: list[str] = []
    rows: dict[int, list[str]] = {}
    bad: list[BadRow] = []
    try:
        delimiter = max(",;\t|", key=lambda mark: len(next(csv.reader([top], delimiter=mark))))
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        for cells in reader:
            if not "".join(cells).strip():
                pass
            elif not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) != len(header):
                bad.append(BadRow(f"row {start}", "", f"{len(cells)} cells, the header has {len(header)}"))
            else:
                rows[start] = cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise RunsError(f"{path}, row {start}: not CSV ({error}).") from error
    if twice := sorted(name for name in header if header.count(name) > 1):
        raise RunsError(f'{path}: the header has the column "{twice[0]}" {header.count(twice[0])} times. Rename them.')
    if not rows and not bad:
        raise RunsError(f"{path} has a header ({', '.join(header)}) and no rows.")
    columns = zip(*rows.values(), strict=True) if rows else [()] * len(header)
    frame = pl.DataFrame([pl.Series(name, list(cells), pl.String) for name, cells in zip(header, columns, strict=True)])
    return RawTable(frame, labels(rows), str(path), "the header is row 1", bad)


def read_parquet(path: Path) -> RawTable:
    """Read a Parquet file."""
    try:
        frame = pl.read_parquet(path.read_bytes())
    except (OSError, pl.exceptions.PolarsError) as error:
        raise RunsError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}.") from error
    return of_frame(frame, str(path))


def of_lists(columns: Mapping[Any, Iterable[Any]]) -> pl.DataFrame:
    """Make a frame of plain Python values of any mixture of types; nested values become JSON text."""
    return pl.DataFrame([_series(str(name), list(values)) for name, values in columns.items()])


def of_records(records: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Make a frame of mappings; a key that a row does not have is an empty cell, a null that it has is a NaN."""
    names = dict.fromkeys(name for record in records for name in record)
    return of_lists({n: [math.nan if record.get(n, 0) is None else record.get(n) for record in records] for n in names})


def _series(name: str, values: Sequence[Any]) -> pl.Series:
    flat = [json.dumps(v, default=str) if isinstance(v, dict | list) else v for v in values]
    if any(isinstance(v, str) for v in flat):  # beside text, NaN is how pandas writes an empty cell
        flat = [None if isinstance(v, float) and math.isnan(v) else v for v in flat]
    return pl.Series(name, flat, strict=False)


def of_frame(frame: Any, source: str = "the data frame") -> RawTable:
    """Take over any pandas, polars, pyarrow or duckdb frame, a list of mappings or a mapping of columns.

    Raises:
        RunsError: it is none of these.
    """
    if not isinstance(frame, pl.DataFrame):
        frame = _to_polars(frame)
    if not len(frame):
        raise RunsError(f"{source} has no rows.")
    frame = frame.with_columns(_series(s.name, s.to_list()) for s in frame if s.dtype.is_nested())
    return RawTable(frame, labels(range(1, len(frame) + 1)), source, "the first row is row 1")


def _to_polars(frame: Any) -> pl.DataFrame:
    if isinstance(frame, Mapping):
        try:
            return of_lists(frame)
        except (TypeError, pl.exceptions.ShapeError) as error:
            raise RunsError(f"a dictionary of columns must hold lists of one length ({error}).") from error
    if isinstance(frame, Sequence) and frame and all(isinstance(row, Mapping) for row in frame):
        return of_records(frame)
    import narwhals as nw  # only frames of other libraries pay for it

    try:
        foreign = nw.from_native(frame).lazy().collect()
    except TypeError as error:
        raise RunsError(
            f"cannot read runs from a {type(frame).__name__}. Give a path, a data frame (pandas, polars, pyarrow, "
            "duckdb), a list of dictionaries or a dictionary of columns."
        ) from error
    return of_lists(foreign.to_dict(as_series=False))
