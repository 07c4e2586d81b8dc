"""Strict reading of one table: each fault is refused in one sentence that names file and row, never the text.

CSV, Parquet and JSON Lines give the same frame of strings, and nothing is guessed: "NA" and "007" stay as they are. The
rows of a CSV are numbered as in a spreadsheet, with the header as row 1; the other formats have no header. Inference
reads row by row, by the same rules (`serving.sources`, docs/adr/0037-predictions-in-blocks.md).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mentallam.corpus.formats import TABLE_READERS
from mentallam.corpus.layouts import TABLE_ENDINGS, Layout
from mentallam.corpus.refusals import refuse_rows
from mentallam.corpus.unreadable import bad_bytes, beside, ending_advice, refuse_long_lines, refuse_other_format
from mentallam.errors import MentallamError
from mentallam.limits import LONGEST_VALUE


def find_table(folder: Path, name: str, source: str) -> Path:
    """Return the one file called `name` in `folder`, with any ending of a table, in any case.

    Args:
        folder: The folder.
        name: The file's name without its ending.
        source: A clause for messages that says where such a file comes from.

    Raises:
        MentallamError: There is no such file, or more than one.
    """
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in files if path.stem == name and path.suffix.lower() in TABLE_ENDINGS]
    if len(found) > 1:
        raise MentallamError(f"{folder} holds {', '.join(path.name for path in found)}; keep one of them")
    if not found:
        missing = folder / f"{name}.csv"
        raise MentallamError(f"{missing} is missing (.parquet or .jsonl would also do){beside(missing)}; {source}")
    return found[0]


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a table.

    Args:
        path: The file; its text is UTF-8, with or without a byte order mark.
        layout: The columns that it must have.

    Returns:
        `layout.read` and `layout.optional` as strings, indexed by the number of the row in the file. Values of
        `layout.optional` may be missing.

    Raises:
        MentallamError: The file is missing or faulty.
    """
    ending = path.suffix.lower()
    if ending not in layout.endings:
        wanted = f"it must be one of {', '.join(layout.endings)}{ending_advice(path)}"
        raise MentallamError(f"{path} ends in {path.suffix or 'nothing'}: {wanted}")
    try:
        if ending != ".parquet":
            refuse_other_format(path)
            refuse_long_lines(path)
        chunks = list(TABLE_READERS[ending](path, layout))
    except FileNotFoundError:
        raise MentallamError(f"{path} is missing{beside(path)}; {layout.source}") from None
    except UnicodeDecodeError:
        raise bad_bytes(path) from None
    except ValueError as error:
        if "null byte" not in str(error):
            raise
        raise MentallamError(f"{str(path)!r} is no file's name, since it holds a NUL character") from None
    except OSError as error:
        reason = f" ({error.strerror}); check its permissions" if error.strerror else "; get an undamaged copy"
        raise MentallamError(f"{path} can't be read{reason}") from None
    names = [*layout.read, *layout.optional]
    if not any(len(numbers) for _, numbers in chunks):
        below = " below its header" if chunks and ending == ".csv" else ""
        raise MentallamError(f"{path} is empty{below}; {layout.source}")
    table = pa.concat_tables([_complete(table, names) for table, _ in chunks])
    numbers = pd.Index(np.concatenate([numbers for _, numbers in chunks]))
    for name in layout.read:
        refuse_rows(_series(table[name].is_null(), numbers), f"{name} is missing; fill it in or remove the row", path)
    for name in names:
        too_long = pc.greater(pc.utf8_length(table[name]), LONGEST_VALUE).fill_null(False)
        refuse_rows(_series(too_long, numbers), f"{name} has more than {LONGEST_VALUE} characters; shorten it", path)
    for name in names:
        holds_nul = pc.match_substring(table[name], "\0").fill_null(False)
        refuse_rows(_series(holds_nul, numbers), "holds a NUL character; get an undamaged copy", path)
    frame: pd.DataFrame = table.to_pandas()
    return frame.set_index(numbers)


def _complete(table: pa.Table, names: list[str]) -> pa.Table:
    """Return the named columns in that order; fill a column that the table lacks with missing values."""
    nothing = pa.nulls(table.num_rows, pa.large_string())
    return pa.table([table[name] if name in table.column_names else nothing for name in names], names)


def _series(mask: pa.ChunkedArray, numbers: pd.Index[int]) -> pd.Series[bool]:
    return pd.Series(np.asarray(mask), index=numbers)
