"""Describe the data in figures, without a word of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mentallam.corpus.folds import FoldOptions, FoldSplit, fold_balance, parts_without_positives
from mentallam.corpus.groups import group_posts
from mentallam.corpus.lengths import length_summary, words_per_post


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
    placeholder_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
    options: FoldOptions,
    duplicates: pd.DataFrame,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json.

    Args:
        annotation_counts: From the corpus as read.
        posts: post_id, text (cleaned), author.
        criteria: criterion_id, symptom.
        pairs: post_id, criterion_id, label, explicit_negative.
        folds: All folds of these pairs.
        cleaning_counts: From `cleaning.clean_posts`.
        placeholder_counts: From `placeholders.leave_out_placeholders`.
        checked_counts: From `pairs.check_counts`.
        label: Name of the corpus, and whether it is synthetic.
        options: How the posts were grouped.
        duplicates: From `duplicates.find_duplicates`; empty if they were not looked for.
    """
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
        "words_per_post": length_summary(words_per_post(posts["text"])),
        "posts_cleaned": cleaning_counts,
        "placeholder_posts": placeholder_counts,
        "counts": checked_counts,
        "folds": {
            "n_folds": folds[0]["n_folds"],
            "seed": folds[0]["seed"],
            "group_by": folds[0]["group_by"],
            "held_out_posts": [len(fold["held_out"]) for fold in folds],
            "balance": fold_balance(folds),
            "without_positives": parts_without_positives(folds),
            "stratification": _stratification(folds),
        },
        "duplicates": {
            "handling": options.duplicates,
            "threshold": options.near_duplicate_threshold,
            **_duplicates(posts, duplicates, folds),
        },
        **_authors(posts, folds),
    }


def _authors(posts: pd.DataFrame, folds: Sequence[FoldSplit]) -> dict[str, int | None]:
    """Count authors, and those held out in more than one fold; None where some are not known."""
    if posts["author"].isna().any():
        return {"n_authors": None, "n_authors_straddling_folds": None}
    n_folds = _held_out_in(posts, folds).groupby(posts["author"]).nunique()
    return {"n_authors": len(n_folds), "n_authors_straddling_folds": int((n_folds > 1).sum())}


def _duplicates(posts: pd.DataFrame, duplicates: pd.DataFrame, folds: Sequence[FoldSplit]) -> dict[str, int]:
    """Count the sets of posts that are nearly the same, their posts, and the sets in more than one fold."""
    alike = group_posts(posts, "post_id", duplicates)["group"].to_numpy()
    sets = _held_out_in(posts, folds).groupby(alike).agg(["size", "nunique"])
    sets = sets[sets["size"] > 1]
    return {
        "sets": len(sets),
        "posts": int(sets["size"].sum()),
        "sets_straddling_folds": int((sets["nunique"] > 1).sum()),
    }


def _held_out_in(posts: pd.DataFrame, folds: Sequence[FoldSplit]) -> pd.Series[int]:
    return posts["post_id"].map({post_id: fold["fold"] for fold in folds for post_id in fold["held_out"]})


def _stratification(folds: Sequence[FoldSplit]) -> dict[str, dict[str, Any]]:
    """Return for each criterion the held-out positives of each fold, and how far a fold's rate is off at most."""
    held_out = [fold["label_distribution"]["held_out"] for fold in folds]
    quality = {}
    for criterion_id in dict.fromkeys(name for fold in held_out for name in fold):
        counts = [fold.get(criterion_id, {"positive": 0, "negative": 0}) for fold in held_out]
        positive, pairs = [count["positive"] for count in counts], [sum(count.values()) for count in counts]
        rate = sum(positive) / sum(pairs)
        off = [abs(own / size - rate) for own, size in zip(positive, pairs, strict=True) if size]
        quality[criterion_id] = {"held_out_positive": positive, "rate": rate, "max_deviation": max(off)}
    return quality
