"""Rows of posts from files, folders, patterns, stores and standard input, one at a time; a bad row is told from others.

The strict reader of a corpus (`corpus.tables`) stops at the first fault and holds a whole table. Here a file may be
larger than the memory, and one bad row must not cost the answers to the others.
"""

import csv
import glob
import io
import json
import os
import sys
import typing  # for parameters of nodes: see test_parameter_types.py
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path, PurePosixPath
from typing import IO, Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from mentallam.corpus.formats import QUOTED_VALUE
from mentallam.corpus.layouts import Layout, chosen_headings
from mentallam.corpus.unreadable import beside, ending_advice, refuse_other_format
from mentallam.errors import MentallamError
from mentallam.limits import LONGEST_LINE, LONGEST_VALUE, MOST_COLUMNS, megabytes
from mentallam.serving.posts import FIELDS
from mentallam.storage import (
    Options,
    StorageError,
    accessing,
    find,
    is_remote,
    is_url,
    local_path,
    open_bytes,
    place_of,
    state_of,
)

STANDARD_INPUT = "-"
_COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
_ROWS_OF_PARQUET = 256
# Bytes of standard input by which its format is recognised.
_HEAD = 2**16
_WAYS = (
    "a file, a folder, a pattern or an address such as s3://bucket/posts.csv with `--params input=posts.csv` (.csv, "
    '.jsonl, .parquet or .txt, also .gz and .zst), or a text with `mentallam predict "..."`'
)
_LAYOUT = Layout(
    columns=("text",),
    read=(),
    optional=FIELDS,
    headings={"text": ("text", "post")},
    mappable=FIELDS,
    source="it needs at least one post",
)


@dataclass(frozen=True)
class Row:
    """One row of an input.

    Attributes:
        number: Its number in the file: of a CSV as a spreadsheet counts, with the header as row 1.
        values: Values by the names in `posts.FIELDS`, a missing one None or absent; None if the row can't be read.
        reason: Why it can't be read, with the way out and without any of its text.
    """

    number: int
    values: Mapping[str, Any] | None
    reason: str = ""


@dataclass
class Source:
    """One file of posts, or standard input.

    Attributes:
        path: The file, of this machine or of a store (`storage.find`); `STANDARD_INPUT` for standard input.
        headings: The headings that the user chose, by field.
        label: What tells its rows from those of other files in default ids; empty for a single file.
        start: How many of its first rows belong to another partition; only of Parquet, as `stop`.
        stop: The row behind which another partition begins; None for the last one.
        bytes_read: How much of the file has been read so far.
    """

    path: Path
    headings: Mapping[str, str] = field(default_factory=dict)
    label: str = ""
    start: int = 0
    stop: int | None = None
    bytes_read: int = 0

    @property
    def name(self) -> str:
        """What messages and rejects call it."""
        return "standard input" if self.is_standard_input else str(self.path)

    @property
    def is_standard_input(self) -> bool:
        """Whether this is standard input."""
        return str(self.path) == STANDARD_INPUT

    @property
    def state(self) -> tuple[int, int]:
        """Its size in bytes, and a number that changes when its content does; zeros for standard input."""
        return (0, 0) if self.is_standard_input else state_of(self.path)

    def rows(self) -> Iterator[Row]:
        """Yield the rows; blank ones are counted but left out.

        Raises:
            MentallamError: The file as a whole can't be read: it has another format, or lacks the column text.
        """
        layout = _LAYOUT.mapped(self.headings)
        number = 0
        try:
            for row in self._read(layout):
                number = row.number
                yield row
        except (OSError, EOFError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None)
            if number:  # the compressed data end early, or the disk fails
                yield Row(number + 1, None, "the file can't be read from here on; get an undamaged copy")
                return
            raise MentallamError(
                f"{self.name} can't be read{f' ({reason})' if reason else ''}; check its permissions, or get an "
                f"undamaged copy"
            ) from None

    def _read(self, layout: Layout) -> Iterator[Row]:
        if self.is_standard_input:
            stdin = io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False), _HEAD)
            yield from _READERS[_format_of(stdin.peek(_HEAD), layout)](_lines(_as_text(stdin)), layout, self.path)
            return
        ending, codec = _endings(self.path)
        if ending == ".parquet":
            yield from self._read_parquet(layout)
            return
        if codec is None:
            with accessing(self.path) if is_remote(self.path) else nullcontext():
                refuse_other_format(self.path)
        with open_bytes(self.path) as raw:
            stream = io.BufferedReader(raw if codec is None else pa.CompressedInputStream(raw, codec))
            text = _as_text(stream)  # closes the stream when nothing holds it any more
            for row in _READERS[ending](_lines(text), layout, self.path):
                self.bytes_read = raw.tell()
                yield row

    def _read_parquet(self, layout: Layout) -> Iterator[Row]:
        with io.BufferedReader(open_bytes(self.path)) as stream:
            file = self._parquet_file(stream)
            header = file.schema_arrow.names
            places = layout.places(_checked_width(header, self.name), self.path)
            groups, number = self._row_groups(file)
            names = [header[place] for place in places.values()]
            for batch in file.iter_batches(_ROWS_OF_PARQUET, row_groups=groups, columns=names):
                columns = {name: batch.column(header[place]) for name, place in places.items()}
                for index in range(batch.num_rows):
                    if number == self.stop:
                        return
                    number += 1
                    if number > self.start:
                        yield _parquet_row(number, columns, index)
                self.bytes_read = stream.tell()

    def _parquet_file(self, stream: io.BufferedIOBase) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(stream, page_checksum_verification=True)
        except (pa.ArrowException, OSError):
            raise MentallamError(f"{self.name} is not a valid Parquet file; get an undamaged copy") from None

    def _row_groups(self, file: pq.ParquetFile) -> tuple[list[int], int]:
        """Return the row groups that hold its rows, and how many rows are before the first of them."""
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        ends = list(accumulate(sizes))
        stop = ends[-1] if ends and self.stop is None else self.stop or 0
        found = [g for g, end in enumerate(ends) if end > self.start and end - sizes[g] < stop]
        return found, ends[found[0]] - sizes[found[0]] if found else 0

    def divided(self, rows: int, multiple: int) -> "list[Source]":
        """Return parts of a Parquet file that can be read apart, and any other file as it is.

        Args:
            rows: From how many rows on a part ends, with the row group.
            multiple: The number of rows of a part, except the last one's, is a multiple of it.

        Raises:
            StorageError: The store refuses or does not answer.
        """
        if _endings(self.path)[0] != ".parquet":
            return [self]
        try:
            with io.BufferedReader(open_bytes(self.path)) as stream:
                file = self._parquet_file(stream)
                _LAYOUT.mapped(self.headings).places(_checked_width(file.schema_arrow.names, self.name), self.path)
                ends = accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
        except StorageError:
            raise
        except (MentallamError, OSError):
            return [self]  # whoever reads it says what is wrong with it
        return [replace(self, start=start, stop=stop) for start, stop in parts_of_rows([*ends], rows, multiple)]


def parts_of_rows(ends: Sequence[int], rows: int, multiple: int) -> list[tuple[int, int | None]]:
    """Return where the parts of a table begin and end; together they hold each row once.

    Args:
        ends: The rows behind which its row groups end.
        rows: From how many rows on a part ends.
        multiple: Of which number the places between parts are multiples.
    """
    total, start, parts = ends[-1] if ends else 0, 0, list[tuple[int, int | None]]()
    for end in ends:
        cut = -(-end // multiple) * multiple
        if cut - start >= rows and cut < total:
            parts.append((start, cut))
            start = cut
    return [*parts, (start, None)]


def find_sources(
    given: str | None, columns: typing.Mapping[str, str | None] | None = None, storage: Options | None = None
) -> list[Source]:
    """Return the files that an input names, sorted by their path.

    Args:
        given: A file, a folder, a pattern such as `posts/*.jsonl.gz`, an address of one of these such as
            `s3://bucket/posts/*.parquet`, or `-` for standard input; None if the user named none.
        columns: The headings of the files for the names in `posts.FIELDS`; None stands for the usual heading.
        storage: What a store needs beside an address, such as credentials.

    Raises:
        MentallamError: There is no such file, or a file has an ending that can't be read.
    """
    if given is None:
        raise MentallamError(f"inference needs an input: name {_WAYS}")
    headings = chosen_headings(columns, FIELDS)
    given = str(given)  # Kedro reads `input=2024` as a number
    if given == STANDARD_INPUT:
        return [Source(Path(given), headings)]
    paths = _stored(given, storage or {}) if is_url(given) else _matching(local_path(given))
    if not paths and is_url(given):
        raise MentallamError(f"input={given} is no file, and matches none; name {_WAYS}")
    if not paths:
        # Several words may be the text of a post, which a message must not repeat.
        is_name = _endings(Path(given))[0] in _ENDINGS or len(given.split()) == 1
        named = f"input={given} is no file{beside(Path(given))}" if is_name else "the given input is no file"
        raise MentallamError(f"{named}; name {_WAYS}")
    for path in paths:
        ending, codec = _endings(path)
        if ending not in _ENDINGS:
            wanted = f"it must be one of {', '.join(_ENDINGS)}{ending_advice(path)}"
            raise MentallamError(f"{path} ends in {path.suffix or 'nothing'}: {wanted}")
        if codec and ending == ".parquet":
            raise MentallamError(f"{path} is Parquet, which is compressed within: unpack it")
        if headings and ending == ".txt":
            raise MentallamError(f"{path} has no columns, so columns.{next(iter(headings))} has no meaning")
    if len(paths) == 1:
        return [Source(paths[0], headings)]
    places = [place_of(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(place) for place in places])  # noqa: PTH120  # of a store, too
    labels = [PurePosixPath(place).relative_to(PurePosixPath(common)).as_posix() for place in places]
    return [Source(path, headings, label) for path, label in zip(paths, labels, strict=True)]


def _stored(given: str, storage: Options) -> list[Path]:
    found = find(given, storage)
    if found and _is_named(given, found):
        return found
    return [path for path in found if _endings(path)[0] in _ENDINGS]


def _is_named(given: str, found: Sequence[Path]) -> bool:
    """Return whether an address names the files themselves, by a name or a pattern, rather than their folder."""
    return any(sign in given for sign in "*?[") or [str(path) for path in found] == [given]


def _matching(given: str) -> list[Path]:
    with suppress(OSError, ValueError):  # a whole text is not a valid file name
        path = Path(given or "\0")  # no name would be this folder
        if path.is_file():
            return [path]
        if path.is_dir():
            return sorted(file for file in path.iterdir() if file.is_file() and _endings(file)[0] in _ENDINGS)
        found = glob.glob(given, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        return sorted(path for path in map(Path, found) if path.is_file())
    return []


def _endings(path: Path) -> tuple[str, str | None]:
    """Return the ending that says the format, and the codec if the file is compressed."""
    codec = _COMPRESSED.get(path.suffix.lower())
    return (path.with_suffix("").suffix if codec else path.suffix).lower(), codec


def _as_text(stream: IO[bytes]) -> TextIO:
    """Return a stream as text; a byte that is not UTF-8 becomes half of a surrogate pair, which no valid text has."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _lines(text: TextIO) -> Iterator[str | None]:
    """Yield lines with their line breaks; None stands for one that is too long, and ends the file."""
    while line := text.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE and not line.endswith(("\n", "\r")):
            yield None
            return
        yield line


_TOO_LONG = (
    f"longer than {megabytes(LONGEST_LINE)}, so the file is not read from here on; get an undamaged copy, or write "
    "each post on a line of its own"
)


def _read_txt(lines: Iterator[str | None], layout: Layout, path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if line is None:
            yield Row(number, None, _TOO_LONG)
        elif not line.isspace():
            yield Row(number, {"text": line.rstrip("\r\n")})


def _read_jsonl(lines: Iterator[str | None], layout: Layout, path: Path) -> Iterator[Row]:
    places: dict[tuple[str, ...], dict[str, int]] = {}
    for number, line in enumerate(lines, 1):
        if line is None:
            yield Row(number, None, _TOO_LONG)
            continue
        if line.isspace():
            continue
        try:
            # An object becomes a tuple of its pairs, so that a repeated key is not lost.
            pairs = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            what = "nested too deeply" if isinstance(error, RecursionError) else "not valid JSON"
            yield Row(number, None, f"{what}; each line must be one object")
            continue
        if not isinstance(pairs, tuple):
            what = "an array, not a JSON object" if isinstance(pairs, list) else "not a JSON object"
            yield Row(number, None, f"{what}; write one object per line")
            continue
        keys = tuple(key for key, _ in pairs)
        if len(set(keys)) < len(keys):
            yield Row(number, None, "a key occurs twice; remove one")
            continue
        if keys not in places:
            # The first row must have the column text, so that a wrong heading is one sentence about the file.
            wanted = layout if not places else _without_needs(layout)
            places[keys] = wanted.places(_checked_width(keys, str(path)), path)
        yield Row(number, {name: pairs[place][1] for name, place in places[keys].items()})


_DECODER = json.JSONDecoder(object_pairs_hook=tuple)


def _without_needs(layout: Layout) -> Layout:
    return Layout(columns=(), read=(), optional=FIELDS, headings=layout.headings, source=layout.source)


def _read_csv(lines: Iterator[str | None], layout: Layout, path: Path) -> Iterator[Row]:
    rows = _csv_values(lines)
    number, header, fault = next(((number, *row) for number, row in enumerate(rows, 1) if row != ([], "")), (1, [], ""))
    if fault:
        raise MentallamError(layout.separator_fault(path) or f"{path}, row {number}: {fault}")
    if not any(map(str.strip, header)):
        return
    places = layout.places(_checked_width(header, str(path)), path)
    first = number + 1
    for number, (values, fault) in enumerate(rows, first):
        if fault:
            yield Row(number, None, fault)
        elif values and len(values) != len(header):
            many = f"{len(values)} values, but the header names {len(header)} columns"
            yield Row(number, None, f"{many}; quote values that contain commas or line breaks")
        elif values:
            yield Row(number, {name: values[place] for name, place in places.items()})


def _csv_values(lines: Iterator[str | None]) -> Iterator[tuple[list[str], str]]:
    """Yield the values of each row, or an empty list and what is wrong; after a fault the next line is read.

    A quote that is never closed takes in lines up to `LONGEST_VALUE`; the reason says how many.
    """
    taken: list[str] = []

    def remembered() -> Iterator[str]:
        for line in lines:
            taken.append("" if line is None else line)
            yield "\n" if line is None else line

    csv.field_size_limit(LONGEST_VALUE)  # Python's default of 128 KiB is less than some posts have
    reader = csv.reader(remembered(), strict=True)
    while True:
        taken.clear()
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            lost = f", which takes in {len(taken)} lines" if len(taken) > 1 else ""
            yield [], f"not valid CSV ({error}){lost}; correct its quotes"
            continue
        written = "".join(taken)
        if taken == [""]:
            yield [], _TOO_LONG
        elif '"' in written and '"' in QUOTED_VALUE.sub("", written):
            yield [], "not valid CSV (a quote within a value that is not quoted); correct its quotes"
        else:
            yield values, ""


def _parquet_row(number: int, columns: Mapping[str, pa.Array], index: int) -> Row:
    try:
        return Row(number, {name: column[index].as_py() for name, column in columns.items()})
    except UnicodeDecodeError:  # Parquet's reader accepts any bytes as a string
        return Row(number, None, "a value is not valid UTF-8; write the file again")


def _checked_width(header: Sequence[str], name: str) -> Sequence[str]:
    if len(header) > MOST_COLUMNS:
        raise MentallamError(
            f"{name}, row 1: {len(header)} columns, more than the {MOST_COLUMNS} that a table may have; remove those "
            "that are not needed"
        )
    return header


def _format_of(head: bytes, layout: Layout) -> str:
    """Return the format of standard input: JSON Lines if it begins with {, CSV if its first line names the text."""
    first, _, _ = head.decode("utf-8-sig", "replace").lstrip().partition("\n")
    if first.startswith("{"):
        return ".jsonl"
    named = {value.strip().strip('"').casefold() for value in first.split(",")}
    wanted = {heading.casefold() for heading in layout.headings["text"]}
    return ".csv" if named & wanted else ".txt"


_READERS: dict[str, Callable[[Iterator[str | None], Layout, Path], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".txt": _read_txt,
}
_ENDINGS = (".csv", ".parquet", ".jsonl", ".txt")
