"""Search for posts that occur more than once: word for word, nearly, or as a part of a longer post.

A copy of a held-out post among the training posts is a leak that grouping by post or author does not prevent.
"""

from __future__ import annotations

import hashlib
import logging
import re
import zlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

logger = logging.getLogger(__name__)

SHINGLE = 5
FEWEST_WORDS = 50
"""A post of fewer words is not taken for a part of a longer one: short posts consist of common phrases."""

# With a run of words that is shared by many posts, each post is compared with this many of them, the next longer ones:
# n posts with a common template take at most n times this many comparisons, not n squared.
_MOST_COMPARED = 32
_KEPT_IN_MEMORY = 4096
_WORD = re.compile(r"\w+")
# Odd 64-bit numbers: the upper half of the sum of products mixes the hashes of a run's words.
_MULTIPLIERS = np.random.RandomState(0).randint(2**62, size=SHINGLE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def find_duplicates(posts: pd.DataFrame, threshold: float, containment_threshold: float = 1.0) -> pd.DataFrame:
    """Link posts that are the same except for a few words, and posts that are a part of another post.

    Posts are compared as sets of runs of five words, without case and punctuation. Two posts are linked if the Jaccard
    similarity of their sets is at least `threshold`, or if the shorter one has 50 words or more (`FEWEST_WORDS`) and at
    least `containment_threshold` of its runs are in the longer one, in a part that is at most twice as long: a very
    long post may hold a short one's phrases here and there.

    Every pair that may reach a threshold is found (prefix filtering; Bayardo, Ma and Srikant 2007, "Scaling up all
    pairs similarity search") and compared exactly, except among posts that share a template: see `_MOST_COMPARED`. A
    warning counts the posts that were not compared with all others.

    Args:
        posts: post_id, text (cleaned).
        threshold: The lowest similarity of duplicates; 1 finds only the same words in other case or punctuation.
        containment_threshold: The lowest share of the shorter post's runs; 1 finds only parts without any change.

    Returns:
        post_id, duplicate_of, similarity (Jaccard), containment (share of the runs of the post with fewer): the fewest
        rows that link all duplicates, directly or through others. The result does not depend on the order of `posts`.
    """
    posts = posts[["post_id", "text"]].sort_values("post_id", ignore_index=True)
    first = first_copy(posts)
    is_copy = first != posts["post_id"]
    copies = pd.DataFrame(
        {"post_id": posts["post_id"][is_copy], "duplicate_of": first[is_copy], "similarity": 1.0, "containment": 1.0}
    )
    distinct = posts[~is_copy].reset_index(drop=True)
    links = [
        (*sorted((distinct["post_id"][one], distinct["post_id"][other]), reverse=True), similarity, containment)
        for one, other, similarity, containment in _near_duplicates(distinct["text"], threshold, containment_threshold)
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


def shingles(text: str) -> list[str]:
    """Return the runs of five words in a text, in order; a shorter text is one run."""
    words = _WORD.findall(text.lower())
    if not words:  # only punctuation or emoji
        return [text]
    return [" ".join(words[start : start + SHINGLE]) for start in range(max(1, len(words) - SHINGLE + 1))]


def _near_duplicates(
    texts: pd.Series[str], threshold: float, containment_threshold: float
) -> Iterator[tuple[int, int, float, float]]:
    """Yield (position, position, similarity, containment) of the links between different texts."""
    if len(texts) < 2:
        return
    hashed = [_hashes(text) for text in texts]
    sizes = np.array([len(hashes) for hashes in hashed])
    # From the shortest to the longest, so that each post is looked for in those that follow.
    order = np.argsort(sizes, kind="stable")
    keys = np.concatenate(
        [hashed[position].astype(np.uint64) << np.uint64(32) | np.uint64(rank) for rank, position in enumerate(order)]
    )
    del hashed
    candidates, beyond = _candidates(keys, sizes[order], min(threshold, containment_threshold))
    sequence = lru_cache(_KEPT_IN_MEMORY)(lambda rank: shingles(texts[int(order[rank])]))
    runs = lru_cache(_KEPT_IN_MEMORY)(lambda rank: frozenset(sequence(rank)))
    linked = DisjointSet(range(len(texts)))
    for shorter, longer in candidates.tolist():
        # Copies of copies need no second link, so a hundred copies of one post take about a hundred comparisons.
        if linked.connected(shorter, longer):
            continue
        few, many = runs(shorter), runs(longer)
        shared = len(few & many)
        similarity, containment = shared / (len(few) + len(many) - shared), shared / min(len(few), len(many))
        is_part = (
            containment >= containment_threshold
            and len(few) > FEWEST_WORDS - SHINGLE
            and _together(few, sequence(longer)) >= containment_threshold
        )
        if similarity >= threshold or is_part:
            linked.merge(shorter, longer)
            yield int(order[shorter]), int(order[longer]), similarity, containment
    _warn_of_templates(beyond, linked)


def _together(few: frozenset[str], many: list[str]) -> float:
    """Return the largest share of some runs that occurs in a part of a text, at most twice as long as they are."""
    found = np.cumsum([0, *(run in few for run in many)])
    width = min(2 * len(few), len(many))
    return float((found[width:] - found[:-width]).max() / len(few))


def _hashes(text: str) -> NDArray[np.uint32]:
    """Return the hashes of `shingles`, each once."""
    words = _WORD.findall(text.lower()) or [text]
    hashes = np.array([zlib.crc32(word.encode()) for word in words], dtype=np.uint64)
    if len(hashes) < SHINGLE:
        hashes = np.concatenate([hashes, np.zeros(SHINGLE - len(hashes), np.uint64)])
    mixed = np.lib.stride_tricks.sliding_window_view(hashes, SHINGLE) @ _MULTIPLIERS
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _candidates(
    keys: NDArray[np.uint64], sizes: NDArray[np.int64], share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs that may share enough runs, and the pairs that are left out because of a template.

    If a post shares k of its n runs with another, one of any n - k + 1 of its runs is shared. Looking for the rarest
    ones yields the fewest pairs.

    Args:
        keys: The runs of all posts: hash x 2^32 + rank of the post. Sorted in place.
        sizes: The number of runs of each post, by rank; ascending.
        share: The smallest share of a post's runs that counts.

    Returns:
        Ranks of pairs, (pairs, 2), the shorter post first, without repetition; and of each post that has more than
        `_MOST_COMPARED` longer ones with one of its rarest runs, with the first and the last of those left out.
    """
    keys.sort()
    run, rank = keys >> np.uint64(32), (keys & np.uint64(2**32 - 1)).astype(np.int64)
    starts = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
    counts = np.diff(np.append(starts, len(run)))
    end, count = np.repeat(starts + counts, counts), np.repeat(counts, counts)
    shared = np.flatnonzero(count > 1)
    rarest = shared[np.lexsort((count[shared], rank[shared]))]
    # How many of a post's rarest runs to look for, less those that it shares with no post.
    enough = np.ceil(share * sizes - 1e-9).astype(np.int64)
    n_shared = np.bincount(rank[shared], minlength=len(sizes))
    looked_for = np.maximum(sizes - enough + 1 - (sizes - n_shared), 0)
    place = np.arange(len(rarest)) - np.repeat(np.cumsum(n_shared) - n_shared, n_shared)
    rarest = rarest[place < looked_for[rank[rarest]]]

    found = [np.empty((0, 2), np.int64)]
    for step in range(1, _MOST_COMPARED + 1):
        rarest_left = rarest[rarest + step < end[rarest]]
        pairs = rank[rarest_left] * len(sizes) + rank[rarest_left + step]
        found.append(np.stack(np.divmod(np.unique(pairs), len(sizes)), axis=1))
    over = rarest[rarest + _MOST_COMPARED + 1 < end[rarest]]
    left_out = np.stack([rank[over], rank[over + _MOST_COMPARED + 1], rank[end[over] - 1]], axis=1)
    # The nearest in length come first: copies are linked before their further neighbours are compared.
    return pd.DataFrame(np.concatenate(found)).drop_duplicates().to_numpy(), np.unique(left_out, axis=0)


def _warn_of_templates(left_out: NDArray[np.int64], linked: DisjointSet) -> None:
    """Warn about posts that were not compared with all that share a run of words, unless they are linked to them."""
    unlinked = {one for one, *others in left_out.tolist() if not all(linked.connected(one, other) for other in others)}
    if unlinked:
        logger.warning(
            "%d posts share runs of words with more than %d others, perhaps a template: each was compared with the "
            "next longer %d of them only, so near duplicates among them may be missed",
            *(len(unlinked), _MOST_COMPARED, _MOST_COMPARED),
        )
