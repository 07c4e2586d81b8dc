"""A search for words that must not be found, in everything below a folder, however it is packed."""

import gzip
import io
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pyarrow.parquet

_SQLITE = b"SQLite format 3\0"


def find_leaks(words: Iterable[str], root: Path, allowed: Iterable[str] = ()) -> list[str]:
    """Return "file: word" for each word in each file, whatever its case; a file's own name counts as well.

    Parquet, SQLite, zip and gzip are unpacked, since a compressed page hides what it holds.

    Args:
        words: What must not be found; ASCII only, so that JSON and HTML do not write it in another way.
        root: A file, or a folder that is searched with everything below it.
        allowed: Patterns of paths below `root` that may hold the words, as `Path.match` takes them.
    """
    needles = [word.lower() for word in words]
    assert needles and all(needle.isascii() for needle in needles)
    allowed = tuple(allowed)
    found: list[str] = []
    for path in sorted([root] if root.is_file() else root.rglob("*")):
        name = str(path.relative_to(root)) if path != root else path.name
        # A link to a file is read, since it shows its content; a link to a folder leads out of the root.
        if any(Path(name).match(pattern) for pattern in allowed):
            continue
        seen = {needle for needle in needles if needle in name.lower()}
        if path.is_file():
            for content in _contents(path.read_bytes()):
                lower = content.lower()
                seen |= {one for one in needles if one.encode() in lower or one.encode("utf-16-le") in lower}
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
        with closing(sqlite3.connect(":memory:")) as database:
            database.deserialize(content)
            yield "\n".join(database.iterdump()).encode()
    elif content.startswith(b"\x1f\x8b"):
        with suppress(OSError, EOFError):
            yield from _contents(gzip.decompress(content))
    elif zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from _contents(archive.read(name))
