"""Refusals of rows that break a table's rules: each names file and rows, and never shows a post's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mentallam.corpus.identifiers import LONGEST_IDENTIFIER, described, shown
from mentallam.errors import MentallamError

# At most two short words; a column of texts has more than a few different values.
_LABEL = re.compile(r"([+-]?\w([\w.:/-]*\w)?( \w([\w.:/-]*\w)?)?)?")
_LONGEST_LABEL, _FEW_LABELS = 20, 10
_NAMED_ROWS = 5


def refuse_blank(frame: pd.DataFrame, column: str, path: Path | str) -> None:
    """Refuse rows in which `column` is empty or only white space."""
    refuse_rows(frame[column].str.strip() == "", f"{column} is empty; fill it in or remove the row", path)


def refuse_bad_ids(frame: pd.DataFrame, column: str, path: Path | str) -> None:
    """Refuse ids that are blank, surrounded by white space, or contain an invisible character."""
    refuse_blank(frame, column, path)
    ids = arrow_strings(frame[column])
    sound = pc.and_(pc.utf8_is_printable(ids), pc.equal(pc.utf8_trim_whitespace(ids), ids))
    refuse_rows(
        pd.Series(~np.asarray(sound), index=frame.index),
        f"{column} has white space around it or an invisible character in it; remove that",
        path,
    )


def refuse_rows(faulty: pd.Series[bool], message: str, path: Path | str) -> None:
    """Refuse the rows for which `faulty` is true, if there are any.

    Args:
        faulty: One value per row, indexed by the number of the row in the file.
        message: What is wrong with these rows, and what to do.
        path: The file.

    Raises:
        MentallamError: At least one row is faulty.
    """
    if faulty.any():
        raise MentallamError(f"{path}, {named_rows(faulty)}: {message}")


def named_rows(faulty: pd.Series[bool]) -> str:
    """Return the numbers of the rows for which `faulty` is true: "row 4", or "rows 4, 9 and 3 more"."""
    rows = faulty.index[faulty.to_numpy(bool)].tolist()
    if len(rows) == 1:
        return f"row {rows[0]}"
    first, n_more = ", ".join(map(str, rows[:_NAMED_ROWS])), len(rows) - _NAMED_ROWS
    return f"rows {first} and {n_more} more" if n_more > 0 else f"rows {first}"


def refuse_duplicates(frame: pd.DataFrame, columns: list[str], path: Path) -> None:
    """Refuse rows that have the same values in `columns`."""
    duplicate = frame[columns].duplicated()
    if duplicate.any():
        row = _first_row(duplicate)
        values = frame.loc[row, columns]
        earlier = _first_row((frame[columns] == values).all(axis=1))
        named = " and ".join(f"{name} {shown(str(value))}" for name, value in values.items())
        raise MentallamError(f"{path}, row {row}: {named} is already in row {earlier}; keep one of them")


def refuse_others(
    frame: pd.DataFrame, column: str, allowed: Sequence[str], path: Path, way_out: str | None = None
) -> None:
    """Refuse values that are not allowed, and list those found.

    Args:
        frame: The table.
        column: The column to check.
        allowed: The allowed values.
        path: The file.
        way_out: What else the user can do; given only for a column of labels that users may word themselves.
    """
    other = ~_is_in(frame[column], pd.Series(allowed, dtype="str"))
    if other.any():
        seen = sorted(frame[column][other].unique())
        values = _shown_labels(seen) if way_out else [_shown_value(value, allowed) for value in seen]
        refuse_rows(
            other,
            f"{column} must be one of {', '.join(allowed)}; found: {', '.join(values[:_FEW_LABELS])}"
            f"{', ...' if len(seen) > _FEW_LABELS else ''}{f'; {way_out}' if way_out else ''}",
            path,
        )


def refuse_unknown(frame: pd.DataFrame, column: str, known: pd.Series[str], path: Path, known_path: Path) -> None:
    """Refuse ids that are missing from another table.

    Args:
        frame: The table that refers to the ids.
        column: The column that holds them.
        known: The ids of the other table.
        path: The table's file.
        known_path: The other table's file.
    """
    unknown = ~_is_in(frame[column], known)
    if unknown.any():
        first = str(frame.loc[_first_row(unknown), column])
        refuse_rows(
            unknown,
            f"{column} {shown(first)} is not in {known_path.name}; add it there or remove the rows that name it",
            path,
        )


def arrow_strings(values: pd.Series[str]) -> pa.Array:
    """Return strings as one Arrow array."""
    strings = pa.array(values, pa.large_string())
    return strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings


def _is_in(values: pd.Series[str], known: pd.Series[str]) -> pd.Series[bool]:
    """Do what pandas' `isin` does, which loops over strings in Python."""
    found = pc.is_in(arrow_strings(values), value_set=arrow_strings(known))
    return pd.Series(np.asarray(found), index=values.index)


def _first_row(mask: pd.Series[bool]) -> int:
    """Return the number of the first row for which `mask` is true."""
    return int(mask.index.to_numpy()[mask.to_numpy().argmax()])


def _shown_value(value: str, allowed: Sequence[str]) -> str:
    """Return a misspelt value for a message; one unlike every allowed value may be a post's text (shifted columns)."""
    resembles = len(value) <= LONGEST_IDENTIFIER and (
        value == value.upper() or get_close_matches(value.strip().upper(), [*map(str.upper, allowed)])
    )
    return shown(value) if resembles else described(value)


def _shown_labels(values: Sequence[str]) -> list[str]:
    """Return labels for a message; long ones, and more than a few, may be texts of a shifted column."""
    are_labels = len(values) <= _FEW_LABELS
    return [
        repr(value)
        if are_labels and len(value) <= _LONGEST_LABEL and _LABEL.fullmatch(value.strip())
        else described(value)
        for value in values
    ]
