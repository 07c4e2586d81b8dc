"""Describe the data in figures, without a word of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mentallam.corpus.folds import FoldSplit, author_of


class CorpusLabel(BaseModel):
    """What the corpus is called wherever its figures appear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    synthetic: bool


def describe(
    annotation_counts: dict[str, int],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    folds: Sequence[FoldSplit],
    cleaning_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json.

    Args:
        annotation_counts: From the corpus as read.
        posts: post_id, text (cleaned).
        criteria: criterion_id, symptom.
        pairs: post_id, criterion_id, label, explicit_negative.
        folds: All folds of these pairs.
        cleaning_counts: From `cleaning.clean_posts`.
        checked_counts: From `pairs.check_counts`.
        label: Name of the corpus, and whether it is synthetic.
    """
    words = posts["text"].map(lambda text: len(text.split()))
    per_criterion = pairs.groupby("criterion_id", sort=False)
    positive, explicit_negative = per_criterion["label"].sum(), per_criterion["explicit_negative"].sum()
    return {
        "corpus": label.name,
        "synthetic": label.synthetic,
        "data_hash": folds[0]["data_hash"],
        "n_posts": len(posts),
        "n_pairs": len(pairs),
        "n_unlabelled": len(posts) * len(criteria) - len(pairs),
        "n_positive": int(pairs["label"].sum()),
        "base_rate": float(pairs["label"].mean()),
        "n_without_symptom": int((pairs.groupby("post_id")["label"].max() == 0).sum()),
        "criteria": {
            criterion_id: {
                "symptom": symptom,
                "positive": int(positive.loc[criterion_id]),
                "explicit_negative": int(explicit_negative.loc[criterion_id]),
            }
            for criterion_id, symptom in zip(criteria["criterion_id"], criteria["symptom"], strict=True)
        },
        "annotations": annotation_counts,
        "words_per_post": {
            "mean": float(words.mean()),
            "min": int(words.min()),
            **{f"q{percent}": float(words.quantile(percent / 100)) for percent in (25, 50, 75)},
            "max": int(words.max()),
        },
        "posts_cleaned": cleaning_counts,
        "counts": checked_counts,
        "folds": {
            "n_folds": folds[0]["n_folds"],
            "seed": folds[0]["seed"],
            "group_by": folds[0]["group_by"],
            "held_out_posts": [len(fold["held_out"]) for fold in folds],
        },
        **_authors(posts["post_id"], folds),
    }


def _authors(post_ids: pd.Series[str], folds: Sequence[FoldSplit]) -> dict[str, int | None]:
    """Count authors, and those held out in more than one fold; None where ids do not name them."""
    authors = author_of(post_ids)
    if authors.isna().any():
        return {"n_authors": None, "n_authors_straddling_folds": None}
    fold_of = {post_id: fold["fold"] for fold in folds for post_id in fold["held_out"]}
    n_folds = post_ids.map(fold_of).groupby(authors).nunique()
    return {"n_authors": len(n_folds), "n_authors_straddling_folds": int((n_folds > 1).sum())}
