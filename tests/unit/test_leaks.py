"""The search for leaked words finds them in every kind of file that a run writes, and only there."""

import gzip
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.leaks import find_leaks

TEXT = "one Zanthoquell more, " * 200


def database(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE notes (note TEXT)")
        connection.execute("INSERT INTO notes VALUES (?)", (TEXT,))
    connection.close()


def archive(path: Path) -> None:
    table(path.with_suffix(".parquet"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(path.with_suffix(".parquet"), "table")
    path.with_suffix(".parquet").unlink()


def table(path: Path) -> None:
    pd.DataFrame({"note": [TEXT], "number": [1]}).to_parquet(path, compression="zstd")


WRITERS: dict[str, Callable[[Path], object]] = {
    "page.html": lambda path: path.write_text(f"<p>{TEXT}", encoding="utf-8"),
    "table.parquet": table,
    "mlflow.db": database,
    "log.gz": lambda path: path.write_bytes(gzip.compress(TEXT.encode())),
    "build.zip": archive,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_word_is_found_in_packed_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    WRITERS[name](tmp_path / "below" / name)
    assert find_leaks(["zanthoquell", "glimmerfax"], tmp_path) == [f"below/{name}: zanthoquell"]
    assert find_leaks(["glimmerfax"], tmp_path) == []
    assert find_leaks(["zanthoquell"], tmp_path, [f"*/{name}"]) == []


def test_a_file_that_is_named_after_a_word_is_found(tmp_path: Path) -> None:
    (tmp_path / "zanthoquell.json").touch()
    assert find_leaks(["zanthoquell"], tmp_path) == ["zanthoquell.json: zanthoquell"]
