"""Readers of CSV, Parquet and JSON Lines: the columns of a layout as strings, with nothing guessed."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
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
from mentallam.limits import LARGEST_TABLE, LONGEST_VALUE, MOST_COLUMNS, MOST_ROWS, megabytes

# Rows held as Python objects at a time; earlier rows are already packed in Arrow.
CHUNK = 10_000
# The comma before the value belongs to the match, so that text after a closing quote is not taken for another value.
QUOTED_VALUE = re.compile(r'(?:^|,)"[^"]*(?:""[^"]*)*"')

_TOO_LONG = f"a value of more than {LONGEST_VALUE} characters"

Value = TypeVar("Value")
# Chunks of a table, each with the numbers of its rows; a file without rows yields none.
Rows = Iterator[tuple[pa.Table, "NDArray[np.int64]"]]


def read_csv(path: Path, layout: Layout) -> Rows:
    """Read a CSV strictly; pandas would fill up a short row or read on past a stray quote."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = _csv_rows(file, _holds_quotes(path))
        try:
            first, header = next(((row, values) for row, values in enumerate(reader, start=1) if values), (1, []))
            if not any(map(str.strip, header)):
                return
            _refuse_wide(len(header), path, first)
            places = layout.places(header, path)
            yield _strings([[]] * len(places), [*places]), np.empty(0, np.int64)
            for numbers, rows in _chunks(reader, not_, first + 1):
                if set(map(len, rows)) != {len(header)}:
                    raise _uneven(rows, numbers, len(header), path)
                values = [map(itemgetter(place), rows) for place in places.values()]
                yield _without_blanks(_strings(values, [*places]), layout), numbers
        except csv.Error as error:
            row = f"{path}, row {_row_of_bad_csv(path)}"
            if "field larger than" in str(error):  # most often because a quote is never closed
                raise MentallamError(f"{row}: {_TOO_LONG}; correct its quotes") from None
            fault = f"{row}: not valid CSV ({error}); correct its quotes"
            raise MentallamError(layout.separator_fault(path) or fault) from None
    if not _ends_its_last_line(path):
        raise MentallamError(
            f"{path} does not end with a line break, so its last row may be cut off; get an undamaged copy, or end the "
            "row with a line break if it is whole"
        )


def _strings(columns: Iterable[Iterable[str]], names: list[str]) -> pa.Table:
    return pa.table([pa.array(column, pa.large_string()) for column in columns], names)


def _without_blanks(table: pa.Table, layout: Layout) -> pa.Table:
    """Return the table with blank values of optional columns as missing values."""
    for place, name in enumerate(table.column_names):
        if name in layout.optional:
            blank = pc.equal(pc.utf8_trim_whitespace(table[name]), "")
            table = table.set_column(place, name, pc.if_else(blank, None, table[name]))
    return table


def _refuse_wide(n_columns: int, path: Path, row: int) -> None:
    if n_columns > MOST_COLUMNS:
        raise MentallamError(
            f"{path}, row {row}: {n_columns} columns, more than the {MOST_COLUMNS} that a table may have; remove those "
            "that are not needed"
        )


def _csv_rows(file: IO[str], holds_quotes: bool) -> Iterator[list[str]]:
    csv.field_size_limit(LONGEST_VALUE)  # Python's default of 128 KiB is less than some posts have
    return _well_quoted(file) if holds_quotes else csv.reader(file, strict=True)


def _well_quoted(file: IO[str]) -> Iterator[list[str]]:
    """Yield rows; refuse a quote within an unquoted value, which the csv module accepts as it is."""
    lines: list[str] = []

    def remembered() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    for row in csv.reader(remembered(), strict=True):
        written = "".join(lines)
        if '"' in written and '"' in QUOTED_VALUE.sub("", written):
            raise csv.Error("a quote within a value that is not quoted")
        lines.clear()
        yield row


def read_parquet(path: Path, layout: Layout) -> Rows:
    """Read strings, and numbers where the layout allows them; checksums reveal a damaged page."""
    with path.open("rb") as stream:
        try:
            file = pq.ParquetFile(stream, page_checksum_verification=True)
            header = file.schema_arrow.names
            _refuse_wide(len(header), path, 1)
            places = layout.places(header, path)
            wanted = [header[place] for place in places.values()]
            _refuse_bomb(file.metadata, wanted, path)
            # A page's dictionary holds a repeated value once; without it, a small file could fill the memory.
            texts = [header[place] for place in places.values() if _is_text(file.schema_arrow.types[place])]
            file = pq.ParquetFile(stream, read_dictionary=texts, page_checksum_verification=True)
            table = file.read(columns=wanted)
            _refuse_large(sum(map(_unpacked_bytes, table.columns)), path)
            columns = {name: table[header[place]] for name, place in places.items()}
        except (pa.ArrowException, OSError, TypeError, ValueError):
            raise MentallamError(f"{path} is not a valid Parquet file; get an undamaged copy") from None
    strings = [_parquet_strings(column, name, layout, path) for name, column in columns.items()]
    yield pa.table(strings, [*columns]), np.arange(1, table.num_rows + 1)


def _refuse_bomb(metadata: pq.FileMetaData, columns: Collection[str], path: Path) -> None:
    """Refuse a file that says itself that it holds too much."""
    if metadata.num_rows > MOST_ROWS:
        raise MentallamError(f"{path} has {metadata.num_rows} rows, more than the {MOST_ROWS} that a table may have")
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    parts = [group.column(place) for group in groups for place in range(group.num_columns)]
    _refuse_large(sum(part.total_uncompressed_size for part in parts if part.path_in_schema in columns), path)


def _refuse_large(size: int, path: Path) -> None:
    if size > LARGEST_TABLE:
        raise MentallamError(
            f"{path} unpacks to more than {megabytes(LARGEST_TABLE)}, more than a table may hold; split it"
        )


def _unpacked_bytes(column: pa.ChunkedArray) -> int:
    """Return the size of a column without its dictionaries."""
    if not pa.types.is_dictionary(column.type) or not _is_text(column.type.value_type):
        return int(column.nbytes)
    sizes = (pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() for chunk in column.chunks)
    return sum(size or 0 for size in sizes)


def _is_text(values: pa.DataType) -> bool:
    return bool(pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_string_view(values))


def _parquet_strings(column: pa.ChunkedArray, name: str, layout: Layout, path: Path) -> pa.ChunkedArray:
    values = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_label = pa.types.is_integer(values) or pa.types.is_boolean(values) or pa.types.is_floating(values)
    is_nothing = pa.types.is_null(values) and name in layout.optional
    if not (
        _is_text(values)
        or is_nothing
        or (name in layout.integers and pa.types.is_integer(values))
        or (name in layout.labels and is_label)
    ):
        raise MentallamError(
            f"{path}: {name} holds values of the type {values}, but each must be {_wanted(name, layout)}"
        )
    try:
        strings = column.cast(pa.large_string())
        strings.validate(full=True)  # Parquet's reader accepts any bytes as a string
    except (pa.ArrowException, ValueError):
        raise MentallamError(f"{path}: {name} holds bytes that are not UTF-8; write the file again") from None
    return strings


def read_jsonl(path: Path, layout: Layout) -> Rows:
    """Read one object per line; a key missing from a line is a missing value."""
    # An object becomes a tuple of its pairs, so that a repeated key is not lost.
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
            _refuse_wide(len(keys), path, int(numbers[0]))
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
    except UnicodeEncodeError:  # half of a surrogate pair is valid JSON
        row = numbers[next(place for place, value in enumerate(values) if not _is_unicode(value))]
        raise MentallamError(f"{path}, row {row}: {name} is not valid Unicode; write the file again") from None


def _wanted(name: str, layout: Layout) -> str:
    if name in layout.labels:
        return "a string, a boolean or a number"
    return "a string or an integer" if name in layout.integers else "a string"


TABLE_READERS: dict[str, Callable[[Path, Layout], Rows]] = {
    ".csv": read_csv,
    ".parquet": read_parquet,
    ".jsonl": read_jsonl,
}


def _chunks(
    rows: Iterator[Value], is_blank: Callable[[Value], bool], first: int
) -> Iterator[tuple[NDArray[np.int64], list[Value]]]:
    """Yield up to `CHUNK` rows at a time with their numbers; blank rows are counted but left out."""
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
        f"{path}, row {row}: {n_values} values, but the header names {n_columns} columns; quote values that contain "
        "commas or line breaks"
    )


def _bad_json(lines: list[str], numbers: Iterable[int], decode: Callable[[str], Any], path: Path) -> MentallamError:
    for row, line in zip(numbers, lines, strict=True):
        try:
            value = decode(line)
        except RecursionError:
            return MentallamError(f"{path}, row {row}: nested too deeply; each line must be one object")
        except ValueError:
            return MentallamError(f"{path}, row {row}: not valid JSON; each line must be one object")
        if isinstance(value, list):
            return MentallamError(f"{path}, row {row}: an array, not a JSON object; write one object per line")
        if not isinstance(value, tuple):
            return MentallamError(f"{path}, row {row}: not a JSON object; each line must be one object")
        if len(dict(value)) < len(value):
            return MentallamError(f"{path}, row {row}: a key occurs twice; remove one")
    raise AssertionError("called for rows without a fault")


def _row_of_bad_csv(path: Path) -> int:
    """Return the row at which the csv module fails."""
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
