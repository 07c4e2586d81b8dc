"""Summary and histogram of the lengths of posts, in words or in tokens."""

from __future__ import annotations

from typing import TypedDict

import numpy as np
import pandas as pd

BINS_PER_DOUBLING = 4


class Histogram(TypedDict):
    """Bin i holds the posts of length edges[i] to below edges[i + 1]."""

    edges: list[int]
    posts: list[int]


def words_per_post(texts: pd.Series[str]) -> pd.Series[int]:
    """Return the number of words of each text."""
    return texts.map(lambda text: len(text.split()))


def length_summary(lengths: pd.Series[int]) -> dict[str, float]:
    """Return mean, min, q25, q50, q75 and max."""
    return {
        "mean": float(lengths.mean()),
        "min": int(lengths.min()),
        **{f"q{percent}": float(lengths.quantile(percent / 100)) for percent in (25, 50, 75)},
        "max": int(lengths.max()),
    }


def length_histogram(lengths: pd.Series[int]) -> Histogram:
    """Return a histogram whose bins grow with the length, since lengths of posts span orders of magnitude."""
    doublings = np.log2(max(int(lengths.max()), 1)) + 1
    powers = 2 ** (np.arange(0, doublings * BINS_PER_DOUBLING + 1) / BINS_PER_DOUBLING)
    edges = np.unique(np.round(powers).astype(int))
    posts, _ = np.histogram(lengths.clip(lower=1), edges)
    filled = np.flatnonzero(posts)
    bins = slice(filled[0], filled[-1] + 1)
    return {"edges": edges[bins.start : bins.stop + 1].tolist(), "posts": posts[bins].tolist()}
