"""A search for words that must not be found, in everything below a folder, however it is packed."""

import gzip
import io
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from fnmatch import fnmatch
from pathlib import Path

import pyarrow.parquet

# Made-up secrets in the variables that libraries read theirs from.
SECRETS = {
    "HF_TOKEN": "hf_canaryKvcnQwTzLmRpXyBd",
    "MLFLOW_TRACKING_PASSWORD": "canary-password-71b4",
    "AWS_SECRET_ACCESS_KEY": "canaryAwsSecret9f3e",
    "DATABRICKS_TOKEN": "dapicanary5512",
    "GITHUB_TOKEN": "ghp_canary82hfke",
}

_SQLITE = b"SQLite format 3\0"


def find_leaks(words: Iterable[str], root: Path, allowed: Iterable[str] = ()) -> list[str]:
    """Return "file: word" for each word in each file, whatever its case; a file's own name counts as well.

    Parquet, SQLite, zip and gzip are unpacked, since a compressed page hides what it holds.

    Args:
        words: What must not be found; ASCII only, so that JSON and HTML do not write it in another way.
        root: A file, or a folder that is searched with everything below it.
        allowed: Patterns of paths below `root` that may hold the words; `*` stands for slashes, too.
    """
    needles = [word.lower() for word in words]
    assert needles and all(needle.isascii() for needle in needles)
    patterns = tuple(allowed)
    found: list[str] = []
    for path in sorted([root] if root.is_file() else root.rglob("*")):
        name = str(path.relative_to(root)) if path != root else path.name
        if any(fnmatch(name, pattern) for pattern in patterns):
            continue
        seen = {needle for needle in needles if needle in name.lower()}
        if path.is_file():
            for content in _contents(path.read_bytes()):
                lower = content.lower()
                seen |= {needle for needle in needles if needle.encode() in lower}
        found += [f"{name}: {needle}" for needle in sorted(seen)]
    return found


def _contents(content: bytes) -> Iterator[bytes]:
    """Yield the bytes themselves, and what is packed in them."""
    yield content
    if content.startswith(b"PAR1"):
        with suppress(pyarrow.ArrowException, OSError):  # a test has cut it
            table = pyarrow.parquet.read_table(io.BytesIO(content))
            for column in table.columns:
                yield "\n".join(map(str, column.to_pylist())).encode()
    elif content.startswith(_SQLITE):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "copy.db").write_bytes(content)
            with closing(sqlite3.connect(Path(folder) / "copy.db")) as database:
                yield "\n".join(database.iterdump()).encode()
    elif content.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError):
            yield from _contents(gzip.decompress(content))
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from _contents(archive.read(name))
