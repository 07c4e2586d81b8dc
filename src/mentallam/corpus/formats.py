"""Read the columns of a layout from CSV, Parquet, JSON Lines and plain text, as strings and with nothing guessed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain, compress, islice
from operator import itemgetter, methodcaller, not_
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mentallam.corpus.layouts import Layout
from mentallam.errors import MentallamError

# Rows that are Python objects at a time; what was read before is packed in Arrow.
CHUNK = 10_000
# What Python's csv module takes at most; its default of 128 KiB is less than some posts.
LONGEST_FIELD = 2**31 - 1
# With the comma before it, so that what follows the quote is no quoted value of its own.
_QUOTED_VALUE = re.compile(r'(?:^|,)"[^"]*(?:""[^"]*)*"')

Value = TypeVar("Value")
# The columns, and the number of each row; a file without rows gives none.
Rows = Iterator[tuple[pa.Table, "NDArray[np.int64]"]]


def read_csv(path: Path, layout: Layout) -> Rows:
    """Read strictly, where pandas would fill up a short row or read on past a stray quote."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = _csv_rows(file, _holds_quotes(path))
        try:
            first, header = next(((row, values) for row, values in enumerate(reader, start=1) if values), (1, []))
            if not any(map(str.strip, header)):
                return
            places = layout.places(header, path)
            yield _strings([[]] * len(places), [*places]), np.empty(0, np.int64)
            for numbers, rows in _chunks(reader, not_, first + 1):
                if set(map(len, rows)) != {len(header)}:
                    raise _uneven(rows, numbers, len(header), path)
                values = [map(itemgetter(place), rows) for place in places.values()]
                yield _without_blanks(_strings(values, [*places]), layout), numbers
        except csv.Error as error:
            fault = f"{path}, row {_row_of_bad_csv(path)}: not valid CSV ({error}); mend its quotes"
            raise MentallamError(layout.separator_fault(path) or fault) from None
    if not layout.hand_made and not _ends_its_last_line(path):
        raise MentallamError(
            f"{path} does not end with a line break, so its last row may be cut off; get an undamaged copy, or end the "
            "row with a line break if it is whole"
        )


def _strings(columns: Iterable[Iterable[str]], names: list[str]) -> pa.Table:
    return pa.table([pa.array(column, pa.large_string()) for column in columns], names)


def _without_blanks(table: pa.Table, layout: Layout) -> pa.Table:
    """Return the table with missing values for blank ones where these are optional."""
    for place, name in enumerate(table.column_names):
        if name in layout.optional:
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


def read_parquet(path: Path, layout: Layout) -> Rows:
    """Read strings, and numbers where the layout allows them; checksums find a damaged page."""
    with path.open("rb") as stream:
        try:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            header = file.schema_arrow.names
            places = layout.places(header, path)
            table = file.read(columns=[header[place] for place in places.values()])
            columns = {name: table[header[place]] for name, place in places.items()}
        except (pa.ArrowException, OSError, TypeError, ValueError):
            raise MentallamError(f"{path} is no valid Parquet file; get an undamaged copy") from None
    strings = [_parquet_strings(column, name, layout, path) for name, column in columns.items()]
    yield pa.table(strings, [*columns]), np.arange(1, table.num_rows + 1)


def _parquet_strings(column: pa.ChunkedArray, name: str, layout: Layout, path: Path) -> pa.ChunkedArray:
    values = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values)
    is_label = pa.types.is_integer(values) or pa.types.is_boolean(values) or pa.types.is_floating(values)
    is_nothing = pa.types.is_null(values) and name in layout.optional
    if not (
        is_text
        or is_nothing
        or (name in layout.integers and pa.types.is_integer(values))
        or (name in layout.labels and is_label)
    ):
        raise MentallamError(
            f"{path}: {name} holds values of the type {values}, but each must be {_wanted(name, layout)}"
        )
    try:
        strings = column.cast(pa.large_string())
        strings.validate(full=True)  # Parquet's reader takes any bytes for a string
    except (pa.ArrowException, ValueError):
        raise MentallamError(f"{path}: {name} holds bytes that are not UTF-8; write the file again") from None
    return strings


def read_jsonl(path: Path, layout: Layout) -> Rows:
    """Read one object per line; a key that a line lacks is a missing value."""
    # An object becomes a tuple of its pairs, so that a key that occurs twice is not lost.
    decode = json.JSONDecoder(object_pairs_hook=tuple).decode
    with path.open(encoding="utf-8-sig") as file:
        for numbers, lines in _chunks(file, str.isspace, 1):
            try:
                objects = list(map(decode, lines))
                rows = list(map(dict, objects))
                is_sound = set(map(type, objects)) == {tuple} and sum(map(len, objects)) == sum(map(len, rows))
            except (ValueError, TypeError, RecursionError):
                is_sound = False
            if not is_sound:
                raise _bad_json(lines, numbers, decode, path)
            keys = list(dict.fromkeys(chain.from_iterable(rows)))
            columns = {
                name: _json_strings(list(map(methodcaller("get", keys[place]), rows)), name, layout, path, numbers)
                for name, place in layout.places(keys, path).items()
            }
            yield pa.table([*columns.values()], [*columns]), numbers


def _json_strings(values: list[Any], name: str, layout: Layout, path: Path, numbers: NDArray[np.int64]) -> pa.Array:
    types = {str, type(None)}
    types |= {int} if name in layout.integers else set()
    types |= {int, bool, float} if name in layout.labels else set()
    if not set(map(type, values)) <= types:
        row, other = next((row, value) for row, value in zip(numbers, values, strict=True) if type(value) not in types)
        way_out = "; put it in quotes" if isinstance(other, int | float) else ""
        raise MentallamError(f"{path}, row {row}: {name} must be {_wanted(name, layout)}{way_out}")
    if not set(map(type, values)) <= {str, type(None)}:
        values = [None if value is None else str(value) for value in values]
    try:
        return pa.array(values, pa.large_string())
    except UnicodeEncodeError:  # half of a surrogate pair passes for JSON
        row = numbers[next(place for place, value in enumerate(values) if not _is_unicode(value))]
        raise MentallamError(f"{path}, row {row}: {name} is no valid Unicode; write the file again") from None


def _wanted(name: str, layout: Layout) -> str:
    if name in layout.labels:
        return "a string, a boolean or a number"
    return "a string or an integer" if name in layout.integers else "a string"


def read_txt(path: Path, layout: Layout) -> Rows:
    """Read a text from every line that is not blank."""
    with path.open(encoding="utf-8-sig") as file:
        for numbers, lines in _chunks(file, str.isspace, 1):
            yield _strings([[line.rstrip("\n") for line in lines]], [layout.columns[0]]), numbers


TABLE_READERS: dict[str, Callable[[Path, Layout], Rows]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
    ".txt": read_txt,
}


def _chunks(
    rows: Iterator[Value], is_blank: Callable[[Value], bool], first: int
) -> Iterator[tuple[NDArray[np.int64], list[Value]]]:
    """Yield some rows at a time with their numbers; a blank row holds no value, so it is passed over but counted."""
    while chunk := list(islice(rows, CHUNK)):
        numbers = np.arange(first, first + len(chunk))
        first += len(chunk)
        if any(map(is_blank, chunk)):
            filled = [not is_blank(row) for row in chunk]
            numbers, chunk = numbers[filled], list(compress(chunk, filled))
        if chunk:
            yield numbers, chunk


def _uneven(rows: list[list[str]], numbers: NDArray[np.int64], n_columns: int, path: Path) -> MentallamError:
    row, n_values = next(
        (row, len(values)) for row, values in zip(numbers, rows, strict=True) if len(values) != n_columns
    )
    return MentallamError(
        f"{path}, row {row}: {n_values} values, but the header names {n_columns} columns; quote values that hold "
        "commas or line breaks"
    )


def _bad_json(lines: list[str], numbers: Iterable[int], decode: Callable[[str], Any], path: Path) -> MentallamError:
    for row, line in zip(numbers, lines, strict=True):
        try:
            value = decode(line)
        except (ValueError, RecursionError):
            return MentallamError(f"{path}, row {row}: not valid JSON; each line must be one object")
        if isinstance(value, list):
            return MentallamError(f"{path}, row {row}: no JSON object but an array; write one object per line")
        if not isinstance(value, tuple):
            return MentallamError(f"{path}, row {row}: no JSON object; each line must be one object")
        if len(dict(value)) < len(value):
            return MentallamError(f"{path}, row {row}: a key occurs twice; remove one")
    raise AssertionError("called for rows without a fault")


def _row_of_bad_csv(path: Path) -> int:
    """Return the row at which the csv module gives up."""
    row = 1
    with path.open(encoding="utf-8-sig", newline="") as file, suppress(csv.Error):
        for _ in _csv_rows(file, holds_quotes=True):
            row += 1
    return row


def _holds_quotes(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b'"' in block for block in iter(lambda: file.read(2**20), b""))


def _ends_its_last_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() in (b"\n", b"\r")


def _is_unicode(value: str | None) -> bool:
    try:
        (value or "").encode()
    except UnicodeEncodeError:
        return False
    return True
