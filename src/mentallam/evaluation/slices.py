"""Metrics of parts of the out-of-fold table, which show where the errors are."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mentallam.evaluation.metrics import table_metrics


def slice_metrics(oof: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute the metrics of truncated posts, of whole posts, and of posts by quartile of length.

    Where some posts are of authors that the fold's model has read other posts of, posts are also divided by that; a
    post of an unknown author is in neither part.

    Args:
        oof: The out-of-fold table.

    Returns:
        One row per slice that holds pairs: slice, n_posts, n, n_positive and the metrics of `pair_metrics`.
    """
    return [
        {
            "slice": name,
            "n_posts": int(rows["post_id"].nunique()),
            "n": len(rows),
            "n_positive": int(rows["label"].sum()),
            **table_metrics(rows),
        }
        for name, rows in _slices(oof)
        if len(rows)
    ]


def explicit_negatives(oof: pd.DataFrame) -> dict[str, int | float | None]:
    """Count false alarms among explicit negatives, and their rate among the other unmatched pairs.

    An explicit negative is a pair that an annotator judged not to match (ReDSM5's status 0), often a near miss: a
    sentence that touches the criterion without meeting it. A classifier that only reads keywords gets it wrong.

    Args:
        oof: The out-of-fold table.

    Returns:
        n, false_alarms (pairs) and rate of the explicit negatives, and rate_of_other_unmatched; a rate is None
        without a pair.
    """
    unmatched = oof[oof["label"] == 0]
    marked, others = unmatched[unmatched["explicit_negative"]], unmatched[~unmatched["explicit_negative"]]
    return {
        "n": len(marked),
        "false_alarms": int(marked["prediction"].sum()),
        "rate": float(marked["prediction"].mean()) if len(marked) else None,
        "rate_of_other_unmatched": float(others["prediction"].mean()) if len(others) else None,
    }


def _slices(oof: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "truncated posts", oof[oof["truncated"]]
    yield "whole posts", oof[~oof["truncated"]]
    if "author_seen" in oof and oof["author_seen"].any():
        seen = oof["author_seen"].fillna(False)
        yield "author seen in training", oof[seen]
        yield "author not seen in training", oof[~seen & oof["author_seen"].notna()]
    tokens = oof.drop_duplicates("post_id")["post_tokens"]
    edges = np.unique(np.quantile(tokens, [0.25, 0.5, 0.75], method="inverted_cdf"))
    quarter = np.searchsorted(edges, oof["post_tokens"])
    for position in range(len(edges) + 1):
        rows = oof[quarter == position]
        if len(rows):
            yield f"posts of {rows['post_tokens'].min()} to {rows['post_tokens'].max()} tokens", rows
