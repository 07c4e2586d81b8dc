"""The record of the data: name, files, options, counts and versions, and one hash of the result."""

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
from pydantic import BaseModel, ConfigDict

from mentallam import __version__
from mentallam.checksums import file_sha256
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.pairs import count_pairs

# The frames that all later pipelines start from, and the columns that identify a row.
TABLE_KEYS = {
    "posts": ["post_id"],
    "criteria": ["criterion_id"],
    "pairs": ["post_id", "criterion_id"],
    "groups": ["post_id"],
}
# Posts and options determine the groups.
_HASHED = ("posts", "criteria", "pairs")
# Another version of these packages, or of this one, may clean, mask, group or split differently.
_PACKAGES = ("ftfy", "linkify-it-py", "phonenumbers", "scikit-learn", "scipy", "pandas")


class CorpusLabel(BaseModel):
    """The name of the corpus, shown with all its figures, and whether it is synthetic."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    synthetic: bool


class FileFacts(TypedDict):
    """A file of the corpus; its path is relative to the folder of the corpus."""

    path: str
    bytes: int
    sha256: str


class Source(TypedDict):
    """The origin of the corpus: the reader's format, the name of its folder, its files."""

    format: str
    folder: str
    files: list[FileFacts]


class Manifest(TypedDict):
    """The content of manifest.json."""

    data_hash: str
    corpus: str
    synthetic: bool
    source: Source
    options: dict[str, Any]
    counts: dict[str, int]
    posts_cleaned: dict[str, int]
    frames: dict[str, str]
    versions: dict[str, str]


def describe_source(format: str, folder: Path, files: Iterable[Path]) -> Source:
    """Return the origin of a corpus, with the size and hash of each file."""
    facts: list[FileFacts] = [
        {
            "path": Path(os.path.relpath(path, folder)).as_posix(),
            "bytes": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in files
    ]
    return {"format": format, "folder": folder.resolve().name, "files": facts}


def build_manifest(
    source: Source,
    label: CorpusLabel,
    cleaning: CleaningOptions,
    folds: FoldOptions,
    posts_cleaned: dict[str, int],
    checked_counts: Mapping[str, Any],
    **frames: pd.DataFrame,
) -> Manifest:
    """Return the manifest.

    Args:
        source: The origin of the corpus.
        label: The name of the corpus, and whether it is synthetic.
        cleaning: How the posts were cleaned.
        folds: How the posts were grouped.
        posts_cleaned: From `cleaning.clean_posts`.
        checked_counts: From `pairs.check_counts`: a corpus that fails the check gets no manifest, and so no folds.
        **frames: All frames of `TABLE_KEYS`.
    """
    hashes = {name: frame_hash(frames[name], keys) for name, keys in TABLE_KEYS.items()}
    chosen = options(cleaning, folds)
    # The frames already show which placeholders were left out.
    hashed = {**chosen, "cleaning": cleaning.model_dump(exclude={"placeholders"})}
    content = {"format": source["format"], "options": hashed, "frames": {name: hashes[name] for name in _HASHED}}
    counts = count_pairs(frames["posts"], frames["criteria"], frames["pairs"])
    return {
        "data_hash": hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        "corpus": label.name,
        "synthetic": label.synthetic,
        "source": source,
        "options": chosen,
        "counts": {
            "posts": counts["posts"],
            "placeholder_posts": checked_counts["found"]["posts"] - counts["posts"],
            "criteria": counts["criteria"],
            "pairs": counts["pairs"],
            "positive_pairs": counts["positive"],
            "groups": frames["groups"]["group"].nunique(),
        },
        "posts_cleaned": posts_cleaned,
        "frames": hashes,
        "versions": {"mentallam": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def options(cleaning: CleaningOptions, folds: FoldOptions) -> dict[str, Any]:
    """Return the options that shape the data; seed, dev_splits and max_share only split it into folds."""
    return {
        "cleaning": cleaning.model_dump(mode="json"),
        "folds": folds.model_dump(exclude={"seed", "dev_splits", "max_share"}),
    }


def frame_hash(frame: pd.DataFrame, keys: list[str]) -> str:
    """Return the sha256 of a frame's values; the order of rows and columns does not matter.

    Rows are sorted by `keys`. Then each column, in the order of names, adds its name and number of rows as JSON,
    followed by its values: numbers and flags as little-endian int64, strings as their lengths in bytes (int64, -1
    for a missing value) and then all of them in UTF-8.
    """
    # The texts of a large corpus exceed 2 GiB and need 64-bit offsets.
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
        # The buffer holds all values one after the other, so none is copied to a Python string.
        _, offsets, values = pc.fill_null(column, "").buffers()
        ends = np.frombuffer(offsets, dtype=np.int64)[[0, len(column)]] if len(column) else (0, 0)
        if values is not None:
            digest.update(memoryview(values)[ends[0] : ends[1]])
    return digest.hexdigest()


def find_changed_file(manifest: Manifest, folder: Path) -> Path | None:
    """Return the first file of the corpus that has changed, or None.

    A missing file is not a change: saved results can be used on a machine that must not hold the corpus.
    """
    for facts in manifest["source"]["files"]:
        path = folder / facts["path"]
        if path.is_file() and (path.stat().st_size != facts["bytes"] or file_sha256(path) != facts["sha256"]):
            return Path(os.path.normpath(path))
    return None


def _canonical(column: pd.Series[Any]) -> pa.Array:
    array = pa.Array.from_pandas(column)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_boolean(array.type) or pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    return array.cast(pa.large_string())
