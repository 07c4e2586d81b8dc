"""Files of a corpus for tests."""

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a .csv, .parquet or .jsonl file of strings."""
    frame = pd.DataFrame(rows, columns=list(columns), dtype=str)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True)
