"""What the data are: the files they came from, what was made of them and how, and one hash of it all."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions

# The frames that everything after data_processing is made from, and what names a row of each.
KEYS = {
    "posts": ["post_id"],
    "criteria": ["criterion_id"],
    "pairs": ["post_id", "criterion_id"],
    "groups": ["post_id"],
}
# The groups follow from the posts and the options.
_HASHED = ("posts", "criteria", "pairs")
# Another version of these may clean, mask, group or deal out otherwise.
_PACKAGES = ("mentallam", "ftfy", "linkify-it-py", "phonenumbers", "datasketch", "scikit-learn", "scipy", "pandas")


class FileFacts(TypedDict):
    """A file of the corpus; its path is relative to the corpus's folder."""

    path: str
    bytes: int
    sha256: str


class Source(TypedDict):
    """Where the corpus came from: the reader's format, the name of its folder, its files."""

    format: str
    folder: str
    files: list[FileFacts]


class Manifest(TypedDict):
    """The content of manifest.json."""

    data_hash: str
    source: Source
    options: dict[str, Any]
    counts: dict[str, int]
    posts_cleaned: dict[str, int]
    frames: dict[str, str]
    versions: dict[str, str]


def describe_source(format: str, folder: Path, files: Iterable[Path]) -> Source:
    """Return where a corpus came from."""
    facts: list[FileFacts] = [
        {
            "path": Path(os.path.relpath(path, folder)).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": _file_sha256(path),
        }
        for path in files
    ]
    return {"format": format, "folder": folder.resolve().name, "files": facts}


def build_manifest(
    source: Source,
    frames: Mapping[str, pd.DataFrame],
    cleaning: CleaningOptions,
    folds: FoldOptions,
    posts_cleaned: dict[str, int],
    placeholder_posts: dict[str, int],
) -> Manifest:
    """Return the manifest.

    Args:
        source: Where the corpus came from.
        frames: All frames of `KEYS`, by name.
        cleaning: How the posts were cleaned.
        folds: How the posts were grouped.
        posts_cleaned: From `cleaning.clean_posts`.
        placeholder_posts: From `placeholders.leave_out_placeholders`.
    """
    hashes = {name: frame_hash(frames[name], keys) for name, keys in KEYS.items()}
    chosen = options(cleaning, folds)
    # What the placeholders left out shows in the frames.
    hashed = {**chosen, "cleaning": cleaning.model_dump(exclude={"placeholders"})}
    content = {"format": source["format"], "options": hashed, "frames": {name: hashes[name] for name in _HASHED}}
    return {
        "data_hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "source": source,
        "options": chosen,
        "counts": {
            "posts": len(frames["posts"]),
            "placeholder_posts": sum(placeholder_posts.values()),
            "criteria": len(frames["criteria"]),
            "pairs": len(frames["pairs"]),
            "positive_pairs": int(frames["pairs"]["label"].sum()),
            "groups": frames["groups"]["group"].nunique(),
        },
        "posts_cleaned": posts_cleaned,
        "frames": hashes,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def options(cleaning: CleaningOptions, folds: FoldOptions) -> dict[str, Any]:
    """Return the options that shape the data; how the folds are dealt out (seed, dev_splits, max_share) does not."""
    return {
        "cleaning": cleaning.model_dump(mode="json"),
        "folds": folds.model_dump(exclude={"seed", "dev_splits", "max_share"}),
    }


def frame_hash(frame: pd.DataFrame, keys: list[str]) -> str:
    """Return the sha256 of a frame's values, whatever the order of its rows and columns.

    Rows are sorted by `keys`; then each column, in the order of their names, adds its name and number of rows as
    JSON, and its values: numbers and flags as little-endian int64, strings as their lengths in bytes (int64, -1 for
    a missing value) followed by all of them in UTF-8.
    """
    # 64-bit offsets, since the texts of a large corpus are more than 2 GiB.
    table = pa.table({name: _canonical(frame[name]) for name in sorted(frame.columns)})
    table = table.take(pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys]))
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        digest.update(json.dumps([name, len(column)]).encode())
        if pa.types.is_integer(column.type):
            digest.update(column.to_numpy(zero_copy_only=False).astype("<i8").data)
            continue
        digest.update(pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False).astype("<i8").data)
        # The concatenation of all values; nothing is copied to Python strings.
        _, offsets, values = pc.fill_null(column, "").buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[[0, len(column)]] if len(column) else (0, 0)
        if values is not None:
            digest.update(memoryview(values)[ends[0] : ends[1]])
    return digest.hexdigest()


def find_changed_file(manifest: Manifest, folder: Path) -> Path | None:
    """Return the first file of the corpus that is not what it was, or None.

    A file that is gone is no change: what was made of it can be used where the corpus itself must not lie.
    """
    for facts in manifest["source"]["files"]:
        path = folder / facts["path"]
        if path.is_file() and (path.stat().st_size != facts["bytes"] or _file_sha256(path) != facts["sha256"]):
            return Path(os.path.normpath(path))
    return None


def _canonical(column: pd.Series[Any]) -> pa.Array:
    array = pa.Array.from_pandas(column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    return array.cast(pa.large_string())


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
