"""What a table must look like, and in which of a file's columns it stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from mentallam.corpus.checks import is_identifier, listed, shown
from mentallam.corpus.unreadable import other_separator
from mentallam.errors import MentallamError

TABLES = (".csv", ".parquet", ".jsonl")
# A file with more columns than this is described by the first ones.
_SHOWN_HEADINGS = 20


@dataclass(frozen=True)
class Layout:
    """What a table must look like; further columns are ignored.

    Attributes:
        columns: The columns that it must have.
        read: Those of them that are wanted; the others may hold anything.
        optional: Columns that it may have; a missing value is allowed in them.
        integers: Columns that may hold integers in Parquet and JSON Lines. An id may not: 7 was "007" once.
        labels: Columns that may hold booleans and numbers there.
        headings: By column, the headings that it may have in the file, its name unless said; the first found counts.
            Capitals and white space around a heading do not matter.
        mappable: Columns whose heading the user can choose with the option `columns`.
        endings: Endings that the file may have.
        hand_made: Whether people write such files by hand and look at each answer: then a last line without a line
            break and a NUL character pass, which elsewhere are signs of a damaged copy.
        source: Half a sentence that says where such a file comes from.
    """

    columns: tuple[str, ...]
    read: tuple[str, ...]
    source: str
    optional: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    headings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mappable: tuple[str, ...] = ()
    endings: tuple[str, ...] = TABLES
    hand_made: bool = False

    def mapped(self, columns: Mapping[str, str]) -> Layout:
        """Return the layout with the headings that the user chose, which the file must then have."""
        chosen = {name: (heading,) for name, heading in columns.items() if name in self.mappable}
        required = tuple(dict.fromkeys((*self.columns, *chosen)))
        return replace(self, columns=required, headings={**self.headings, **chosen})

    def places(self, header: Sequence[str], path: Path) -> dict[str, int]:
        """Return where in `header` the columns to read stand, by column.

        Raises:
            MentallamError: A column is missing or occurs twice.
        """
        written = [_plain(heading) for heading in header]
        places, missing = {}, []
        for name in dict.fromkeys((*self.columns, *self.optional)):
            headings = self.headings.get(name, (name,))
            heading = next((one for one in headings if _plain(one) in written), None)
            if heading is None:
                missing += [name] if name in self.columns else []
                continue
            if written.count(_plain(heading)) > 1:
                raise MentallamError(f"{path}, row 1: the column {heading} occurs twice; remove one")
            places[name] = written.index(_plain(heading))
        if missing:
            raise self._lacks(missing, header, path)
        return {name: places[name] for name in (*self.read, *self.optional) if name in places}

    def separator_fault(self, path: Path) -> str | None:
        """Return a sentence if the columns of a CSV are separated by something else than commas."""
        wanted = chain.from_iterable(self.headings.get(name, (name,)) for name in self.columns)
        return other_separator(path, map(_plain, wanted))

    def _lacks(self, missing: Sequence[str], header: Sequence[str], path: Path) -> MentallamError:
        if path.suffix.lower() == ".csv" and (fault := self.separator_fault(path)):
            return MentallamError(fault)
        first = {name: self.headings.get(name, (name,))[0] for name in self.columns}
        # Without any of the names, what looks like a sentence or stands alone may be a post of a CSV without headings.
        is_header = (
            path.suffix.lower() != ".csv"
            or len(missing) < len(self.columns)
            or (len(header) > 1 and all(map(is_identifier, header)))
        )
        seen = listed(map(shown, header[:_SHOWN_HEADINGS])) + (", ..." if len(header) > _SHOWN_HEADINGS else "")
        found = f"found {seen}" if is_header else "its first row names none of them"
        option = ",".join(f"columns.{name}=HEADING" for name in missing if name in self.mappable)
        lacked = listed(first[name] for name in missing)
        return MentallamError(
            f"{path} lacks the column {lacked}: it must have {listed(first.values())}, {found}"
            f"{f'; rename it, or name its heading with --params {option}' if option else ''}"
        )


def chosen_headings(columns: Mapping[str, object] | None, allowed: Iterable[str]) -> dict[str, str]:
    """Return the option `columns`: by column, the heading that it has in the user's file.

    Args:
        columns: What was given; null stands for the usual heading.
        allowed: Columns that can be named.

    Raises:
        MentallamError: It names another column, or no heading.
    """
    chosen = {str(name): heading for name, heading in (columns or {}).items() if heading is not None}
    allowed = list(allowed)
    for name, heading in chosen.items():
        if name not in allowed:
            raise MentallamError(f"columns.{name} names no column that is read: use one of {listed(allowed)}")
        if not str(heading).strip() or not isinstance(heading, str | int | float):
            raise MentallamError(f"columns.{name} names no heading; write it as columns.{name}=HEADING")
    return {name: str(heading) for name, heading in chosen.items()}


def _plain(heading: str) -> str:
    return heading.strip().casefold()
