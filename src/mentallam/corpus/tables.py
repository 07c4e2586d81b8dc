"""Read one table strictly: every fault is refused in one sentence that names file and row, never the text.

CSV, Parquet and JSON Lines give the same frame of strings, nothing guessed: "NA" and "007" stay what they are.
A CSV's row is counted as a spreadsheet shows it, the header is row 1; the others have no header. The corpus and
inference both read through this module (docs/adr/0025-one-reader-for-tables.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mentallam.corpus.checks import listed, refuse_rows
from mentallam.corpus.formats import TABLE_READERS
from mentallam.corpus.layouts import TABLES, Layout
from mentallam.corpus.unreadable import bad_bytes, beside, ending_advice, refuse_other_format
from mentallam.errors import MentallamError


def find_table(folder: Path, name: str, source: str) -> Path:
    """Return the one file of that name in `folder`, whichever ending it has, in capitals or not.

    Raises:
        MentallamError: There is none, or more than one.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in files if path.stem == name and path.suffix.lower() in TABLES]
    if len(found) > 1:
        raise MentallamError(
            f"{folder} holds {listed(path.name for path in found)}: which one counts? Keep one of them"
        )
    if not found:
        missing = folder / f"{name}.csv"
        raise MentallamError(f"{missing} is missing (.parquet or .jsonl would do as well){beside(missing)}; {source}")
    return found[0]


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a table.

    Args:
        path: The file; the text in it is UTF-8, a byte order mark is fine.
        layout: What it must look like.

    Returns:
        `layout.read` and `layout.optional` as strings (missing values in the latter), indexed by the number of the row.

    Raises:
        MentallamError: The file is missing or faulty.
    """
    ending = path.suffix.lower()
    if ending not in layout.endings:
        wanted = f"it must be one of {listed(layout.endings)}{ending_advice(path)}"
        raise MentallamError(f"{path} ends in {path.suffix or 'nothing'}: {wanted}")
    try:
        if ending != ".parquet":
            refuse_other_format(path)
        chunks = list(TABLE_READERS[ending](path, layout))
    except FileNotFoundError:
        raise MentallamError(f"{path} is missing{beside(path)}; {layout.source}") from None
    except UnicodeDecodeError:
        raise bad_bytes(path) from None
    except OSError as error:
        reason = f" ({error.strerror}); check its rights" if error.strerror else "; get an undamaged copy"
        raise MentallamError(f"{path} can't be read{reason}") from None
    names = [*layout.read, *layout.optional]
    if not any(len(numbers) for _, numbers in chunks):
        below = " below its header" if chunks and ending == ".csv" else ""
        raise MentallamError(f"{path} is empty{below}; {layout.source}")
    table = pa.concat_tables([_complete(table, names) for table, _ in chunks])
    numbers = pd.Index(np.concatenate([numbers for _, numbers in chunks]))
    for name in layout.read:
        refuse_rows(_series(table[name].is_null(), numbers), f"{name} is missing; fill it in or remove the row", path)
    for name in names if not layout.hand_made else ():
        holds_nul = pc.match_substring(table[name], "\0").fill_null(False)
        refuse_rows(_series(holds_nul, numbers), "holds a NUL character; get an undamaged copy", path)
    frame: pd.DataFrame = table.to_pandas()
    return frame.set_index(numbers)


def _complete(table: pa.Table, names: list[str]) -> pa.Table:
    """Return the columns in that order; missing values for a column that there is not."""
    nothing = pa.nulls(table.num_rows, pa.large_string())
    return pa.table([table[name] if name in table.column_names else nothing for name in names], names)


def _series(mask: pa.ChunkedArray, numbers: pd.Index[int]) -> pd.Series[bool]:
    return pd.Series(np.asarray(mask), index=numbers)
