"""Where the errors are: the same metrics on parts of the out-of-fold table."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from mentallam.evaluation.metrics import pair_metrics


def slice_metrics(oof: pd.DataFrame) -> list[dict[str, Any]]:
    """Metrics of truncated posts, of the others, and of posts by quartile of length.

    Args:
        oof: The out-of-fold table.

    Returns:
        One row per slice that holds pairs: slice, n_posts, n, n_positive and the metrics of `pair_metrics`.
    """
    return [
        {
            "slice": name,
            "n_posts": int(own["post_id"].nunique()),
            "n": len(own),
            "n_positive": int(own["label"].sum()),
            **pair_metrics(own["label"], own["probability"], own["prediction"]),
        }
        for name, own in _slices(oof)
        if len(own)
    ]


def explicit_negatives(oof: pd.DataFrame) -> dict[str, int | float | None]:
    """False alarms among pairs that annotators marked as *not* matching, beside those among all unmatched pairs.

    An explicit negative names the symptom to deny it, so it is what a reader of keywords gets wrong.

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
    tokens = oof.drop_duplicates("post_id")["post_tokens"]
    edges = np.unique(np.quantile(tokens, [0.25, 0.5, 0.75], method="inverted_cdf"))
    quarter = np.searchsorted(edges, oof["post_tokens"])
    for position in range(len(edges) + 1):
        own = oof[quarter == position]
        if len(own):
            yield f"posts of {own['post_tokens'].min()} to {own['post_tokens'].max()} tokens", own
