"""Diagnosis of files that are not what their ending says: another format, encoding or separator."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from mentallam.errors import MentallamError
from mentallam.limits import LONGEST_LINE, LONGEST_VALUE, megabytes

SAVE_AS_UTF8 = 'save it as UTF-8 ("CSV UTF-8" in Excel)'
_SPREADSHEET = 'save its sheet as "CSV UTF-8"'
_WAY_OUT = {
    ".xlsx": _SPREADSHEET,
    ".xls": _SPREADSHEET,
    ".ods": _SPREADSHEET,
    ".tsv": "save it as .csv, with commas between the columns",
    ".json": "write one object per line, and end its name in .jsonl",
    ".ndjson": "end its name in .jsonl",
    ".gz": "unpack it",
    ".zip": "unpack it",
}
# The first bytes of a file, what such a file is, and what to do.
_SIGNATURES = (
    (b"PK\x03\x04", "is an Excel workbook or another ZIP archive", _SPREADSHEET),
    (b"\xd0\xcf\x11\xe0", "is an Excel workbook", _SPREADSHEET),
    (b"PAR1", "is a Parquet file", "end its name in .parquet"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it"),
    (b"\xff\xfe", "is UTF-16, not UTF-8", SAVE_AS_UTF8),
    (b"\xfe\xff", "is UTF-16, not UTF-8", SAVE_AS_UTF8),
)
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_HEAD, _BLOCK = 4096, 2**20
# How Python's `surrogateescape` shows a byte that is not UTF-8.
_BAD_BYTE = re.compile("[\udc80-\udcff]")


def refuse_other_format(path: Path) -> None:
    """Refuse a text file whose first bytes belong to another format or encoding.

    Raises:
        MentallamError: The file has another format or encoding.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for signature, what, way_out in _SIGNATURES:
        if head.startswith(signature):
            raise MentallamError(f"{path} {what}; {way_out}")
    # In UTF-16 without a byte order mark, every second byte of plain English is zero, and the others are not.
    few, many = sorted((head[::2].count(0), head[1::2].count(0)))
    if many > len(head) / 4 and few < many / 4:
        raise MentallamError(f"{path} is probably UTF-16, not UTF-8; {SAVE_AS_UTF8}")
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")) and path.suffix.lower() != ".txt":
        raise MentallamError(f"{path} is a web page; download the file itself")


def other_separator(path: Path, headings: Iterable[str]) -> str | None:
    """Return what is wrong if a CSV separates its columns by something other than commas, else None.

    Args:
        path: The file.
        headings: Headings in lower case. The first line must hold one of them, because a semicolon alone may be text.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        line = file.readline(_HEAD).strip().casefold()
    if line.startswith("sep="):
        return (
            f"{path}, row 1: Excel's line {line[:5].strip()} names a separator; remove that line and separate the "
            "columns by commas"
        )
    wanted = set(headings)
    for separator, name in _SEPARATORS.items():
        if len(parts := line.split(separator)) > 1 and wanted.intersection(part.strip(' "') for part in parts):
            return (
                f"{path}: {name} separate its columns; save it with commas (docs/your-own-data.md says how), or as "
                ".jsonl or .parquet"
            )
    return None


def ending_advice(path: Path) -> str:
    """Return what to do with a file of this ending, as `; DO THAT`, or an empty string."""
    way_out = _WAY_OUT.get(path.suffix.lower())
    return f"; {way_out}" if way_out else ""


def beside(path: Path) -> str:
    """Return a clause that names files beside a missing one whose name differs only in case or ending."""
    stem = f"{path.stem}.".casefold()
    with suppress(OSError, ValueError):  # no such folder, or not a valid file name
        near = sorted(other for other in path.parent.iterdir() if other.name.casefold().startswith(stem))
        if near:
            return f"; its folder holds {', '.join(other.name for other in near)}{ending_advice(near[0])}"
    return ""


def refuse_long_lines(path: Path) -> None:
    """Refuse a text file with a line longer than `limits.LONGEST_LINE`, before a reader takes it into memory.

    Raises:
        MentallamError: The message names the line, which is a CSV's row unless values hold line breaks.
        OSError: The file can't be read.
    """
    line, length = 1, 0
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            ends = [at for at in (block.find(b"\n"), block.find(b"\r")) if at >= 0]
            length += min(ends) if ends else len(block)
            if length > LONGEST_LINE:
                raise MentallamError(
                    f"{path}, line {line}: longer than {megabytes(LONGEST_LINE)}; get an undamaged copy, or write each "
                    "post on a line of its own"
                )
            if ends:  # a line within a block is short enough
                length = len(block) - 1 - max(block.rfind(b"\n"), block.rfind(b"\r"))
                line += block.count(b"\n")


def bad_bytes(path: Path) -> MentallamError:
    """Return the error for a file that is not UTF-8; it names the row of the first invalid byte."""
    is_csv = path.suffix.lower() == ".csv"
    row = 0
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="" if is_csv else None) as file:

        def lines() -> Iterator[str]:
            for line in file:
                yield line
                if _BAD_BYTE.search(line):
                    return

        csv.field_size_limit(LONGEST_VALUE)
        with suppress(csv.Error):
            for _ in csv.reader(lines()) if is_csv else lines():
                row += 1
    guess = ", but perhaps Windows-1252" if _decodes(path, "cp1252") else ""
    return MentallamError(f"{path}, row {max(row, 1)}: not UTF-8{guess}; {SAVE_AS_UTF8}")


def _decodes(path: Path, encoding: str) -> bool:
    with path.open(encoding=encoding) as file, suppress(UnicodeDecodeError):
        for _ in iter(lambda: file.read(_BLOCK), ""):
            pass
        return True
    return False
