"""Layouts of tables: the columns that a table must have, and where a file has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from mentallam.corpus.identifiers import is_identifier, shown
from mentallam.corpus.unreadable import other_separator
from mentallam.errors import MentallamError

TABLE_ENDINGS = (".csv", ".parquet", ".jsonl")
# Messages name at most so many of a file's columns.
_SHOWN_HEADINGS = 20


@dataclass(frozen=True)
class Layout:
    """The columns of a table; a file may have others, which are ignored.

    Attributes:
        columns: Columns that the file must have.
        read: Those of `columns` that are read; the others may hold anything.
        source: A clause for messages that says where such a file comes from.
        optional: Columns that the file may have; values in them may be missing.
        integers: Columns that may hold integers in Parquet and JSON Lines. Ids may not: 7 may once have been "007".
        labels: Columns that may hold booleans and numbers in Parquet and JSON Lines.
        headings: By column, the headings that it may have in the file, by default its name; the first one found
            counts. Case and surrounding white space are ignored.
        mappable: Columns whose heading the user can choose with the option `columns`.
        endings: Endings that the file may have.
    """

    columns: tuple[str, ...]
    read: tuple[str, ...]
    source: str
    optional: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    headings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mappable: tuple[str, ...] = ()
    endings: tuple[str, ...] = TABLE_ENDINGS

    def mapped(self, columns: Mapping[str, str]) -> Layout:
        """Return the layout with the headings that the user chose; the file must have them."""
        chosen = {name: (heading,) for name, heading in columns.items() if name in self.mappable}
        required = tuple(dict.fromkeys((*self.columns, *chosen)))
        return replace(self, columns=required, headings={**self.headings, **chosen})

    def places(self, header: Sequence[str], path: Path) -> dict[str, int]:
        """Return the position in `header` of each column to read.

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
        """Return what is wrong if a CSV separates its columns by something other than commas, else None."""
        wanted = chain.from_iterable(self.headings.get(name, (name,)) for name in self.columns)
        return other_separator(path, map(_plain, wanted))

    def _lacks(self, missing: Sequence[str], header: Sequence[str], path: Path) -> MentallamError:
        if path.suffix.lower() == ".csv" and (fault := self.separator_fault(path)):
            return MentallamError(fault)
        first = {name: self.headings.get(name, (name,))[0] for name in self.columns}
        # In a CSV without any of the names, a first row of sentences or of one value may be a post.
        is_header = (
            path.suffix.lower() != ".csv"
            or len(missing) < len(self.columns)
            or (len(header) > 1 and all(map(is_identifier, header)))
        )
        seen = ", ".join(map(shown, header[:_SHOWN_HEADINGS])) + (", ..." if len(header) > _SHOWN_HEADINGS else "")
        found = f"found {seen}" if is_header else "its first row names none of them"
        option = ",".join(f"columns.{name}=HEADING" for name in missing if name in self.mappable)
        lacked = ", ".join(first[name] for name in missing)
        return MentallamError(
            f"{path} lacks the column {lacked}: it must have {', '.join(first.values())}, {found}"
            f"{f'; rename it, or name its heading with --params {option}' if option else ''}"
        )


def chosen_headings(columns: Mapping[str, object] | None, allowed: Iterable[str]) -> dict[str, str]:
    """Return the headings that the user's file has, by column, from the option `columns`.

    Args:
        columns: The option's value; null stands for the usual heading.
        allowed: Columns that the option may name.

    Raises:
        MentallamError: The option names another column, or no heading.
    """
    chosen = {str(name): heading for name, heading in (columns or {}).items() if heading is not None}
    allowed = list(allowed)
    for name, heading in chosen.items():
        if name not in allowed:
            raise MentallamError(f"columns.{name} does not name a column that is read: use one of {', '.join(allowed)}")
        if not str(heading).strip() or not isinstance(heading, str | int | float):
            raise MentallamError(f"columns.{name} has no heading; write it as columns.{name}=HEADING")
    return {name: str(heading) for name, heading in chosen.items()}


def _plain(heading: str) -> str:
    return heading.strip().casefold()
