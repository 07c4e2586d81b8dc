"""Read a corpus strictly: every fault is refused in one sentence that names file and row, never the text.

A row is counted as a spreadsheet shows it: the header is row 1.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from mentallam.errors import MentallamError

POST_COLUMNS = ("post_id", "text")
ANNOTATION_COLUMNS = ("post_id", "sentence_id", "sentence_text", "DSM5_symptom", "status", "explanation")
CRITERION_COLUMNS = ("criterion_id", "symptom", "criterion")
# Sentences that matter clinically and belong to none of the nine criteria; they never become pairs.
SPECIAL_CASE = "SPECIAL_CASE"

REDSM5_POSTS = "redsm5_posts.csv"
REDSM5_ANNOTATIONS = "redsm5_annotations.csv"
REDSM5_SOURCE = (
    f"Put {REDSM5_POSTS} and {REDSM5_ANNOTATIONS} into that folder: the ReDSM5 corpus comes from its authors "
    "(Bao, Perez and Parapar, CIKM 2025, arXiv 2508.03399) after signing their agreement, the synthetic "
    "sample from `python -m mentallam.corpus.synthetic --out FOLDER`, the synthetic twin from `make twin`."
)


@dataclass(frozen=True)
class Corpus:
    """A corpus as its files state it, all columns strings unless said.

    Attributes:
        posts: post_id, text (as written, not cleaned).
        annotations: post_id, sentence_id, symptom, status (int8; 1 evidence, 0 explicit negative).
        criteria: criterion_id, symptom, criterion, in the file's order.
    """

    posts: pd.DataFrame = field(repr=False)  # a log that prints the corpus must not print the posts
    annotations: pd.DataFrame = field(repr=False)
    criteria: pd.DataFrame = field(repr=False)


def read_corpus(format: str, folder: str | Path, criteria_path: str | Path) -> Corpus:
    """Read the corpus in `folder` and the criteria file.

    Args:
        format: Name of the file schema, a key of `READERS`.
        folder: Folder that holds the corpus files.
        criteria_path: CSV with `CRITERION_COLUMNS`.

    Raises:
        MentallamError: The format is unknown, a file is missing, or a file is not what its schema says.
    """
    if format not in READERS:
        raise MentallamError(f"Corpus format {format!r} is unknown: use one of {_listed(READERS)}.")
    criteria = read_criteria(Path(criteria_path))
    posts, annotations = READERS[format](Path(folder), criteria["symptom"])
    return Corpus(posts, annotations, criteria)


def read_criteria(path: Path) -> pd.DataFrame:
    """Read the criteria file; return criterion_id, symptom, criterion in the file's order.

    Raises:
        MentallamError: The file is missing or faulty.
    """
    criteria = _read_csv(path, CRITERION_COLUMNS, "It comes with the project and lists one criterion per row.")
    for column in CRITERION_COLUMNS:
        _refuse_empty(criteria, column, path)
    for column in ("criterion_id", "symptom"):
        _refuse_duplicates(criteria, column, path)
    return criteria


def read_redsm5(folder: Path, symptoms: Iterable[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read ReDSM5's two files; return posts and annotations as in `Corpus`.

    The same sentence may be annotated twice for one symptom, even with both statuses: the pair's label is the
    maximum all the same, and `statistics` counts such contradictions.

    Args:
        folder: Folder with redsm5_posts.csv and redsm5_annotations.csv.
        symptoms: The symptoms that have a criterion; beside them only SPECIAL_CASE is allowed.

    Raises:
        MentallamError: A file is missing or faulty.
    """
    posts_path, annotations_path = folder / REDSM5_POSTS, folder / REDSM5_ANNOTATIONS
    posts = _read_csv(posts_path, POST_COLUMNS, REDSM5_SOURCE)
    _refuse_empty(posts, "post_id", posts_path)
    _refuse_empty(posts, "text", posts_path)
    _refuse_duplicates(posts, "post_id", posts_path)

    annotations = _read_csv(annotations_path, ANNOTATION_COLUMNS, REDSM5_SOURCE)
    _refuse_empty(annotations, "sentence_id", annotations_path)
    for column, allowed in (("DSM5_symptom", [*symptoms, SPECIAL_CASE]), ("status", ["0", "1"])):
        _refuse_others(annotations, column, allowed, annotations_path)
    unknown = ~annotations["post_id"].isin(posts["post_id"])
    if unknown.any():
        post_id = annotations["post_id"][unknown].iloc[0]
        raise MentallamError(
            f"{annotations_path}, row {_first_row(unknown)}: post_id {_shown(post_id)} is not in "
            f"{posts_path.name}; add that post or remove its annotations."
        )
    annotations = annotations.rename(columns={"DSM5_symptom": "symptom"}).astype({"status": "int8"})
    return posts, annotations[["post_id", "sentence_id", "symptom", "status"]]


Reader = Callable[[Path, Iterable[str]], tuple[pd.DataFrame, pd.DataFrame]]
READERS: dict[str, Reader] = {"redsm5": read_redsm5}


def _read_csv(path: Path, columns: tuple[str, ...], source: str) -> pd.DataFrame:
    """Return `columns` of a CSV as strings, nothing guessed: "NA" and "null" stay what they are.

    The csv module reads strictly where pandas would fill up a short row or read on past a stray quote.
    """
    header, rows = _read_rows(path, source)
    missing = [column for column in columns if column not in header]
    if missing:
        raise MentallamError(
            f"{path} lacks the column {_listed(missing)}: its first row must name {_listed(columns)}, found "
            f"{_listed(map(_shown, header))}."
        )
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise MentallamError(f"{path}, row 1: the column {_listed(twice)} occurs twice; remove one.")
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise MentallamError(
                f"{path}, row {number}: {len(row)} values, but the header names {len(header)} columns; quote "
                "values that hold commas or line breaks."
            )
    if not rows:
        raise MentallamError(f"{path} is empty below its header. {source}")
    frame: pd.DataFrame = pd.DataFrame(rows, columns=header, dtype=str)[list(columns)]
    return frame


def _read_rows(path: Path, source: str) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a UTF-8 file (a byte order mark is fine)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MentallamError(f"{path} is missing. {source}") from None
    except OSError as error:
        raise MentallamError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # error.object lacks the byte order mark that error.start does not count.
        row = _row_at(error.object[: error.start].decode("utf-8"))
        raise MentallamError(f"{path}, row {row}: not UTF-8; save the file as UTF-8.") from None
    if "\0" in text:
        row = _row_at(text.partition("\0")[0])
        raise MentallamError(f"{path}, row {row}: holds a NUL character; get an undamaged copy.")
    if not text.strip():
        raise MentallamError(f"{path} is empty. {source}")
    rows: list[list[str]] = []
    try:
        for values in csv.reader(io.StringIO(text, newline=""), strict=True):
            rows.append(values)
    except csv.Error as error:
        row = len(rows) + 1
        raise MentallamError(f"{path}, row {row}: not valid CSV ({error}); mend its quotes.") from None
    while rows[-1] == []:  # blank lines at the end
        rows.pop()
    return rows[0], rows[1:]


def _row_at(text_before: str) -> int:
    """Return the row of the character that follows `text_before`."""
    reader = csv.reader(io.StringIO(text_before + "|", newline=""))
    with suppress(csv.Error):
        return sum(1 for _ in reader)
    return reader.line_num


def _refuse_empty(frame: pd.DataFrame, column: str, path: Path) -> None:
    empty = frame[column].str.strip() == ""
    if empty.any():
        raise MentallamError(
            f"{path}, row {_first_row(empty)}: {column} is empty ({empty.sum()} such rows); fill it in or "
            "remove the row."
        )


def _refuse_duplicates(frame: pd.DataFrame, column: str, path: Path) -> None:
    duplicate = frame[column].duplicated()
    if duplicate.any():
        row, value = _first_row(duplicate), frame[column][duplicate].iloc[0]
        first = _first_row(frame[column] == value)
        raise MentallamError(
            f"{path}, row {row}: {column} {_shown(value)} is already in row {first}; keep one of them."
        )


def _refuse_others(frame: pd.DataFrame, column: str, allowed: list[str], path: Path) -> None:
    other = ~frame[column].isin(allowed)
    if other.any():
        seen = sorted(set(frame[column][other]))
        raise MentallamError(
            f"{path}, row {_first_row(other)}: {column} must be one of {_listed(allowed)}; seen besides: "
            f"{_listed(map(_shown, seen[:10]))}."
        )


def _first_row(mask: pd.Series[bool]) -> int:
    return int(mask.to_numpy().argmax()) + 2


def _shown(value: str) -> str:
    """Return an identifier for a message; what may be a post's text (a shifted column) is only described."""
    looks_like_text = len(value) > 40 or len(value.split()) > 2
    return f"(a value of {len(value)} characters)" if looks_like_text else repr(value)


def _listed(values: Iterable[str]) -> str:
    return ", ".join(values)
