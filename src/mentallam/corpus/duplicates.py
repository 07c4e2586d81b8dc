"""Find posts that occur more than once, word for word or nearly.

A copy of a held-out post among the training posts is a leak that no grouping by post or author would see.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pandas as pd
from datasketch import MinHash
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

SHINGLE = 5
_HASHES = 128
# How often a pair that is just as similar as the threshold may be overlooked; a more similar one is so less often.
_OVERLOOKED = 0.02
_WORD = re.compile(r"\w+")


def find_duplicates(posts: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Link posts that are the same but for a few words.

    Two posts are duplicates if the sets of their runs of five words, without case and punctuation, have a Jaccard
    similarity of at least `threshold`. Candidates come from MinHash; every one of them is then compared exactly.

    Args:
        posts: post_id, text (cleaned).
        threshold: From which similarity on; 1 finds the same words in other case or punctuation only.

    Returns:
        post_id, duplicate_of, similarity: as many rows as it takes to link all duplicates of a post, directly or
        through others, and no more. The order of `posts` does not matter.
    """
    posts = posts[["post_id", "text"]].sort_values("post_id", ignore_index=True)
    first = first_copy(posts)
    is_copy = first != posts["post_id"]
    copies = pd.DataFrame({"post_id": posts["post_id"][is_copy], "duplicate_of": first[is_copy], "similarity": 1.0})
    distinct = posts[~is_copy].reset_index(drop=True)
    links = [
        (distinct["post_id"][later], distinct["post_id"][earlier], similarity)
        for earlier, later, similarity in _near_duplicates(distinct["text"], threshold)
    ]
    near = pd.DataFrame(links, columns=list(copies)).astype(copies.dtypes)
    return pd.concat([copies, near]).sort_values(["post_id", "duplicate_of"], ignore_index=True)


def first_copy(posts: pd.DataFrame) -> pd.Series[str]:
    """Return for each post the smallest post_id among the posts with exactly the same text.

    Args:
        posts: post_id, text (cleaned).
    """
    # Hashes, since pandas would copy every text into a Python string to compare them.
    content = pd.Series([hashlib.sha256(text.encode()).digest() for text in posts["text"]], index=posts.index)
    return posts["post_id"].sort_values().groupby(content).transform("first").reindex(posts.index)


def shingles(text: str) -> frozenset[str]:
    """Return the runs of five words in a text; a shorter text is one run."""
    words = _WORD.findall(text.lower())
    if not words:  # nothing but punctuation or pictures
        return frozenset([text])
    return frozenset(" ".join(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1)))


def _near_duplicates(texts: pd.Series[str], threshold: float) -> Iterator[tuple[int, int, float]]:
    """Yield (earlier position, later position, similarity) of the links between texts."""
    if texts.empty:
        return
    linked = DisjointSet(range(len(texts)))
    for bucket in _buckets(_signatures(texts), _rows_per_band(threshold)):
        runs = {position: shingles(texts[position]) for position in bucket}
        for earlier, later in combinations(bucket, 2):
            # Copies of copies need no second link: a hundred of one post take about a hundred comparisons.
            if linked.connected(earlier, later):
                continue
            similarity = len(runs[earlier] & runs[later]) / len(runs[earlier] | runs[later])
            if similarity >= threshold:
                linked.merge(earlier, later)
                yield earlier, later, similarity


def _signatures(texts: pd.Series[str]) -> NDArray[np.uint32]:
    """Return one row of MinHash values per text; only these are kept, half a kilobyte per post."""
    encoded = ([run.encode() for run in shingles(text)] for text in texts)
    hashes = MinHash.generator(encoded, num_perm=_HASHES, hashfunc=zlib.crc32, scheme="affine32")
    signatures = np.empty((len(texts), _HASHES), dtype=np.uint32)
    for row, minhash in enumerate(hashes):
        signatures[row] = minhash.hashvalues
    return signatures


def _rows_per_band(threshold: float) -> int:
    """Return how many hashes two texts must share in a row: the most that overlook few enough duplicates."""
    return next(rows for rows in range(_HASHES, 0, -1) if (1 - threshold**rows) ** (_HASHES // rows) <= _OVERLOOKED)


def _buckets(signatures: NDArray[np.uint32], rows: int) -> Iterator[list[int]]:
    """Yield the positions that share a band of their signatures, one band at a time."""
    for start in range(0, _HASHES - rows + 1, rows):
        band = np.ascontiguousarray(signatures[:, start : start + rows]).view(f"V{4 * rows}").ravel()
        _, bucket, size = np.unique(band, return_inverse=True, return_counts=True)
        shared = np.flatnonzero(size[bucket] > 1)
        for positions in pd.Series(shared).groupby(bucket[shared]):
            yield positions[1].tolist()
