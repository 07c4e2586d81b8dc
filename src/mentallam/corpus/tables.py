"""Read one table strictly: every fault is refused in one sentence that names file and row, never the text.

CSV, Parquet and JSON Lines give the same frame of strings, nothing guessed: "NA" and "007" stay what they are.
A CSV's row is counted as a spreadsheet shows it, the header is row 1; the other two have no header.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from itertools import islice
from operator import itemgetter, methodcaller
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mentallam.errors import MentallamError

# Rows that are Python objects at a time; what was read before is packed in Arrow.
CHUNK = 10_000
# What Python's csv module takes at most; its default of 128 KiB is less than some posts.
LONGEST_FIELD = 2**31 - 1
# At most one word that does not end like a sentence.
_IDENTIFIER = re.compile(r"\s*(\w([\w.:/-]*\w)?)?\s*")

# With the comma before it, so that what follows the quote is no quoted value of its own.
_QUOTED_VALUE = re.compile(r'(?:^|,)"[^"]*(?:""[^"]*)*"')

Value = TypeVar("Value")


@dataclass(frozen=True)
class Layout:
    """What a table must look like; further columns are ignored.

    Attributes:
        columns: The columns that it must have.
        read: Those of them that are wanted; the others may hold anything.
        optional: Columns that it may have; a missing value is allowed in them.
        integers: Columns that may hold integers in Parquet and JSON Lines. An id may not: 7 was "007" once.
        source: A sentence that says where such a file comes from.
    """

    columns: tuple[str, ...]
    read: tuple[str, ...]
    source: str
    optional: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()


def find_table(folder: Path, name: str, source: str) -> Path:
    """Return the one file of that name in `folder`, whichever ending it has.

    Raises:
        MentallamError: There is none, or more than one.
    """
    found = [path for ending in READERS if (path := folder / f"{name}{ending}").exists()]
    if len(found) > 1:
        raise MentallamError(
            f"{folder} holds {_listed(path.name for path in found)}: which one counts? Keep one of them."
        )
    if not found:
        raise MentallamError(f"{folder / name}.csv is missing (.parquet or .jsonl would do as well). {source}")
    return found[0]


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a table.

    Args:
        path: A .csv, .parquet or .jsonl file; the text in it is UTF-8, a byte order mark is fine.
        layout: What it must look like.

    Returns:
        `layout.read` and `layout.optional` as strings (missing values in the latter), indexed by the number of the row.

    Raises:
        MentallamError: The file is missing or faulty.
    """
    if path.suffix not in READERS:
        raise MentallamError(f"{path} ends in {path.suffix or 'nothing'}: it must be one of {_listed(READERS)}.")
    first_row = 2 if path.suffix == ".csv" else 1
    try:
        table = READERS[path.suffix](path, layout)
    except FileNotFoundError:
        raise MentallamError(f"{path} is missing. {layout.source}") from None
    except UnicodeDecodeError:
        raise MentallamError(f"{path}, row {_row_of_bad_bytes(path)}: not UTF-8; save the file as UTF-8.") from None
    except OSError as error:
        raise MentallamError(f"{path} cannot be read: {error.strerror or 'it is damaged'}.") from None
    if table.num_rows == 0:
        raise MentallamError(f"{path} is empty{' below its header' if first_row == 2 else ''}. {layout.source}")
    for name in layout.read:
        _refuse_where(table[name].is_null(), f"{name} is missing; fill it in or remove the row", path, first_row)
    for name in table.column_names:
        holds_nul = pc.match_substring(table[name], "\0").fill_null(False)
        _refuse_where(holds_nul, "holds a NUL character; get an undamaged copy", path, first_row)
    for name in layout.optional:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.large_string()))
    frame: pd.DataFrame = table.to_pandas()
    return frame.set_index(pd.RangeIndex(first_row, first_row + len(frame)))


def _read_csv(path: Path, layout: Layout) -> pa.Table:
    """The csv module reads strictly where pandas would fill up a short row or read on past a stray quote."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = _csv_rows(file, _holds_quotes(path))
        try:
            header = next(reader, [])
            if not any(map(str.strip, header)):
                raise MentallamError(f"{path} is empty. {layout.source}")
            names = _checked_header(header, layout, path)
            places = itemgetter(*map(header.index, names))
            chunks = [pa.table([pa.array([], pa.large_string())] * len(names), names)]
            for number, rows in _chunks(reader, lambda row: not row, first=2):
                if set(map(len, rows)) != {len(header)}:
                    raise _uneven(rows, number, len(header), path)
                values = zip(*map(places, rows), strict=True)
                chunks.append(pa.table([pa.array(column, pa.large_string()) for column in values], names))
        except csv.Error as error:
            raise MentallamError(
                f"{path}, row {_row_of_bad_csv(path)}: not valid CSV ({error}); mend its quotes."
            ) from None
    if not _ends_its_last_line(path):
        raise MentallamError(
            f"{path} does not end with a line break, so its last row may be cut off; get an undamaged copy, or end the "
            "row with a line break if it is whole."
        )
    table = pa.concat_tables(chunks)
    for name in set(names).intersection(layout.optional):
        place = names.index(name)
        blank = pc.equal(pc.utf8_trim_whitespace(table[name]), "")
        table = table.set_column(place, name, pc.if_else(blank, None, table[name]))
    return table


def _csv_rows(file: IO[str], holds_quotes: bool) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_FIELD)
    return _well_quoted(file) if holds_quotes else csv.reader(file, strict=True)


def _well_quoted(file: IO[str]) -> Iterator[list[str]]:
    """Yield rows; refuse a quote within a value that is not quoted, which the csv module takes as it is."""
    lines: list[str] = []

    def remembered() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    for row in csv.reader(remembered(), strict=True):
        written = "".join(lines)
        if '"' in written and '"' in _QUOTED_VALUE.sub("", written):
            raise csv.Error("a quote within a value that is not quoted")
        lines.clear()
        yield row


def _read_parquet(path: Path, layout: Layout) -> pa.Table:
    with path.open("rb") as stream:
        try:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            names = _checked_header(file.schema_arrow.names, layout, path)
            table = file.read(columns=names).select(names)
        except (pa.ArrowException, OSError, TypeError, ValueError):
            raise MentallamError(f"{path} is no valid Parquet file; get an undamaged copy.") from None
    columns = [_parquet_strings(table[name], name, layout, path) for name in names]
    return pa.table(columns, names)


def _parquet_strings(column: pa.ChunkedArray, name: str, layout: Layout, path: Path) -> pa.ChunkedArray:
    values = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values)
    if not is_text and not (name in layout.integers and pa.types.is_integer(values)):
        wanted = "strings or integers" if name in layout.integers else "strings"
        raise MentallamError(f"{path}: {name} holds values of the type {values}, but must hold {wanted}.")
    try:
        strings = column.cast(pa.large_string())
        strings.validate(full=True)  # Parquet's reader takes any bytes for a string
    except (pa.ArrowException, ValueError):
        raise MentallamError(f"{path}: {name} holds bytes that are not UTF-8; write the file again.") from None
    return strings


def _read_jsonl(path: Path, layout: Layout) -> pa.Table:
    # An object becomes a tuple of its pairs, so that a key that occurs twice is not lost.
    decode = json.JSONDecoder(object_pairs_hook=tuple).decode
    names: list[str] = []
    chunks = []
    with path.open(encoding="utf-8-sig") as file:
        for number, lines in _chunks(file, str.isspace, first=1):
            try:
                objects = list(map(decode, lines))
                rows = list(map(dict, objects))
                is_sound = set(map(type, objects)) == {tuple} and sum(map(len, objects)) == sum(map(len, rows))
            except (ValueError, TypeError, RecursionError):
                is_sound = False
            if not is_sound:
                raise _bad_json(lines, number, decode, path)
            names = names or _checked_header(list(rows[0]), layout, path)
            columns = [list(map(methodcaller("get", name), rows)) for name in (*layout.read, *layout.optional)]
            chunks.append(
                pa.table(
                    [
                        _json_strings(column, name, layout, path, number)
                        for column, name in zip(columns, (*layout.read, *layout.optional), strict=True)
                    ],
                    [*layout.read, *layout.optional],
                )
            )
    if not chunks:
        raise MentallamError(f"{path} is empty. {layout.source}")
    return pa.concat_tables(chunks)


def _json_strings(values: list[Any], name: str, layout: Layout, path: Path, first_row: int) -> pa.Array:
    types = {str, type(None)} | ({int} if name in layout.integers else set())
    if not set(map(type, values)) <= types:
        row = first_row + next(place for place, value in enumerate(values) if type(value) not in types)
        wanted = "a string or an integer" if name in layout.integers else "a string"
        raise MentallamError(f"{path}, row {row}: {name} must be {wanted}.")
    if int in map(type, values):
        values = [None if value is None else str(value) for value in values]
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:  # half of a surrogate pair passes for JSON
        row = first_row + next(place for place, value in enumerate(values) if not _is_unicode(value))
        raise MentallamError(f"{path}, row {row}: {name} is no valid Unicode; write the file again.") from None


READERS: dict[str, Callable[[Path, Layout], pa.Table]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
}


def _chunks(rows: Iterator[Value], is_blank: Callable[[Value], bool], first: int) -> Iterator[tuple[int, list[Value]]]:
    """Yield some rows at a time with the number of the first; blank rows at the end of the file are left out."""
    while chunk := list(islice(rows, CHUNK)):
        n_filled = len(chunk)
        while n_filled and is_blank(chunk[n_filled - 1]):
            n_filled -= 1
        if n_filled < len(chunk) and all(map(is_blank, rows)):
            chunk = chunk[:n_filled]
        if chunk:
            yield first, chunk
        first += len(chunk)


def _checked_header(header: Sequence[str], layout: Layout, path: Path) -> list[str]:
    """Return the names of the columns to read."""
    missing = [name for name in layout.columns if name not in header]
    # Without any of the names the first row is none: it may hold a post.
    found = f"found {_listed(map(shown, header))}" if len(missing) < len(layout.columns) else "it names none of them"
    if missing:
        raise MentallamError(
            f"{path} lacks the column {_listed(missing)}: its first row must name {_listed(layout.columns)}, {found}."
        )
    wanted = (*layout.columns, *layout.optional)
    if twice := [name for name in wanted if list(header).count(name) > 1]:
        raise MentallamError(f"{path}, row 1: the column {_listed(twice)} occurs twice; remove one.")
    return [*layout.read, *(name for name in layout.optional if name in header)]


def _uneven(rows: list[list[str]], first_row: int, n_columns: int, path: Path) -> MentallamError:
    place, row = next((place, row) for place, row in enumerate(rows) if len(row) != n_columns)
    return MentallamError(
        f"{path}, row {first_row + place}: {len(row)} values, but the header names {n_columns} columns; quote values "
        "that hold commas or line breaks."
    )


def _bad_json(lines: list[str], first_row: int, decode: Callable[[str], Any], path: Path) -> MentallamError:
    for row, line in enumerate(lines, start=first_row):
        try:
            value = decode(line)
        except (ValueError, RecursionError):
            return MentallamError(f"{path}, row {row}: not valid JSON; each line must be one object.")
        if not isinstance(value, tuple):
            return MentallamError(f"{path}, row {row}: no JSON object; each line must be one object.")
        if len(dict(value)) < len(value):
            return MentallamError(f"{path}, row {row}: a key occurs twice; remove one.")
    raise AssertionError("called for rows without a fault")


def _row_of_bad_csv(path: Path) -> int:
    """Return the row at which the csv module gives up."""
    row = 1
    with path.open(encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
        for _ in _csv_rows(file, holds_quotes=True):
            row += 1
    return row


def _row_of_bad_bytes(path: Path) -> int:
    """Return the row of the first byte that is not UTF-8."""
    data = path.read_bytes()
    try:
        data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark that error.start does not count.
        before = error.object[: error.start].decode()
        reader = csv.reader(StringIO(before + "|", newline="")) if path.suffix == ".csv" else StringIO(before + "|")
        row = 0
        with suppress(csv.Error):
            for _ in reader:
                row += 1
        return max(row, 1)
    raise AssertionError("called for a file without a fault")


def _holds_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b'"' in block for block in iter(lambda: file.read(2**20), b""))


def _ends_its_last_line(path: Path) -> bool:
    file: IO[bytes]
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() in (b"\n", b"\r")


def _is_unicode(value: str | None) -> bool:
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_where(fault: pa.ChunkedArray, message: str, path: Path, first_row: int) -> None:
    place = pc.index(fault, True).as_py()
    if place >= 0:
        raise MentallamError(f"{path}, row {first_row + place}: {message}.")


def refuse_blank(frame: pd.DataFrame, column: str, path: Path) -> None:
    """Refuse a row in which `column` holds white space at most."""
    blank = frame[column].str.strip() == ""
    if blank.any():
        raise MentallamError(
            f"{path}, row {first_row(blank)}: {column} is empty ({blank.sum()} such rows); fill it in or remove the "
            "row."
        )


def refuse_bad_ids(frame: pd.DataFrame, column: str, path: Path) -> None:
    """Refuse an id that is blank, has white space around it, or an invisible character in it."""
    refuse_blank(frame, column, path)
    ids = pa.array(frame[column], pa.large_string())
    sound = pc.and_(pc.utf8_is_printable(ids), pc.equal(pc.utf8_trim_whitespace(ids), ids))
    odd = pd.Series(~np.asarray(sound), index=frame.index)
    if odd.any():
        raise MentallamError(
            f"{path}, row {first_row(odd)}: {column} has white space around it or an invisible character in it; "
            "remove that."
        )


def refuse_duplicates(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Refuse rows that share their values in `columns`."""
    duplicate = frame[columns].duplicated()
    if duplicate.any():
        row = first_row(duplicate)
        values = frame.loc[row, columns]
        earlier = first_row((frame[columns] == values).all(axis=1))
        named = " and ".join(f"{name} {shown(str(value))}" for name, value in values.items())
        raise MentallamError(f"{path}, row {row}: {named} is already in row {earlier}; keep one of them.")


def refuse_others(frame: pd.DataFrame, column: str, allowed: Sequence[str], path: Path) -> None:
    """Refuse values beside the allowed ones, and list those that were seen."""
    other = ~frame[column].isin(allowed)
    if other.any():
        seen = sorted(frame[column][other].unique())
        raise MentallamError(
            f"{path}, row {first_row(other)}: {column} must be one of {_listed(allowed)}; seen besides: "
            f"{_listed(_shown_label(value, allowed) for value in seen[:10])}{', ...' if len(seen) > 10 else ''}."
        )


def refuse_unknown(frame: pd.DataFrame, column: str, known: pd.Series[str], path: Path, known_path: Path) -> None:
    """Refuse ids that another table does not have."""
    unknown = ~frame[column].isin(known)
    if unknown.any():
        row = first_row(unknown)
        raise MentallamError(
            f"{path}, row {row}: {column} {shown(str(frame.loc[row, column]))} is not in {known_path.name}; add it "
            "there or remove the rows that name it."
        )


def first_row(mask: pd.Series[bool]) -> int:
    """Return the number of the first row for which `mask` is true."""
    return int(mask.index.to_numpy()[mask.to_numpy().argmax()])


def _shown_label(value: str, allowed: Sequence[str]) -> str:
    """Return a misspelt label for a message: what resembles no label may be a word of a post (a shifted column)."""
    resembles = len(value) <= 40 and (
        value == value.upper() or get_close_matches(value.strip().upper(), [*map(str.upper, allowed)])
    )
    return shown(value) if resembles else f"(a value of {len(value)} characters)"


def shown(value: str) -> str:
    """Return an identifier for a message; what may be a post's text (a shifted column) is only described."""
    is_identifier = len(value) <= 40 and _IDENTIFIER.fullmatch(value)
    return repr(value) if is_identifier else f"(a value of {len(value)} characters)"


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values)
