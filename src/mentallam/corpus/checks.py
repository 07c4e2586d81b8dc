"""What the rows of a corpus' tables must be: a breach is refused with file and row, and never shows a post's text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mentallam.errors import MentallamError

# At most one word that does not end like a sentence.
_IDENTIFIER = re.compile(r"\s*(\w([\w.:/-]*\w)?)?\s*")


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
    ids = arrow_strings(frame[column])
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
    other = ~_is_in(frame[column], pd.Series(allowed, dtype="str"))
    if other.any():
        seen = sorted(frame[column][other].unique())
        raise MentallamError(
            f"{path}, row {first_row(other)}: {column} must be one of {listed(allowed)}; seen besides: "
            f"{listed(_shown_label(value, allowed) for value in seen[:10])}{', ...' if len(seen) > 10 else ''}."
        )


def refuse_unknown(frame: pd.DataFrame, column: str, known: pd.Series[str], path: Path, known_path: Path) -> None:
    """Refuse ids that another table does not have."""
    unknown = ~_is_in(frame[column], known)
    if unknown.any():
        row = first_row(unknown)
        raise MentallamError(
            f"{path}, row {row}: {column} {shown(str(frame.loc[row, column]))} is not in {known_path.name}; add it "
            "there or remove the rows that name it."
        )


def arrow_strings(values: pd.Series[str]) -> pa.Array:
    """Return strings as one Arrow array."""
    strings = pa.array(values, pa.large_string())
    return strings.combine_chunks() if isinstance(strings, pa.ChunkedArray) else strings


def _is_in(values: pd.Series[str], known: pd.Series[str]) -> pd.Series[bool]:
    """As pandas' `isin`, which loops over strings in Python."""
    found = pc.is_in(arrow_strings(values), value_set=arrow_strings(known))
    return pd.Series(np.asarray(found), index=values.index)


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


def listed(values: Iterable[str]) -> str:
    """Return values for a message."""
    return ", ".join(values)
