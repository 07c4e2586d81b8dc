"""The statistics of the data, without a word of a post's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mentallam.corpus.folds import FoldSplit, criterion_balance, fold_balance, parts_without
from mentallam.corpus.groups import group_posts
from mentallam.corpus.lengths import length_summary, words_per_post
from mentallam.corpus.manifest import Manifest


def describe(
    manifest: Manifest,
    annotation_counts: dict[str, int],
    placeholder_counts: dict[str, int],
    checked_counts: dict[str, Any],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    duplicates: pd.DataFrame,
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the content of data_statistics.json.

    Args:
        manifest: The record of these data.
        annotation_counts: From the corpus as read.
        placeholder_counts: From `placeholders.leave_out_placeholders`.
        checked_counts: From `pairs.check_counts`.
        posts: post_id, text (cleaned), author.
        criteria: criterion_id, symptom.
        pairs: post_id, criterion_id, label, explicit_negative.
        duplicates: From `duplicates.find_duplicates`; empty if the search was switched off.
        *folds: All folds of these pairs.
    """
    counts, grouping = manifest["counts"], manifest["options"]["folds"]
    return {
        "corpus": manifest["corpus"],
        "synthetic": manifest["synthetic"],
        "data_hash": manifest["data_hash"],
        "options": manifest["options"],
        "frames": manifest["frames"],
        "n_posts": counts["posts"],
        "n_pairs": counts["pairs"],
        "n_unlabelled": counts["posts"] * counts["criteria"] - counts["pairs"],
        "n_positive": counts["positive_pairs"],
        "base_rate": counts["positive_pairs"] / counts["pairs"],
        "n_without_symptom": int((pairs.groupby("post_id")["label"].max() == 0).sum()),
        "criteria": _criteria(criteria, pairs),
        "annotations": annotation_counts,
        "words_per_post": length_summary(words_per_post(posts["text"])),
        "posts_cleaned": manifest["posts_cleaned"],
        "placeholder_posts": placeholder_counts,
        "counts": checked_counts,
        "folds": {
            "n_folds": folds[0]["n_folds"],
            "seed": folds[0]["seed"],
            "group_by": folds[0]["group_by"],
            "held_out_posts": [len(fold["held_out"]) for fold in folds],
            "balance": fold_balance(folds),
            "without_positives": parts_without("positive", folds),
            "without_negatives": parts_without("negative", folds),
            "stratification": _stratification(folds),
        },
        "duplicates": {
            "handling": grouping["duplicates"],
            "threshold": grouping["near_duplicate_threshold"],
            "containment_threshold": grouping["containment_threshold"],
            **_duplicates(posts, duplicates, folds),
        },
        **_authors(posts, folds),
    }


def _criteria(criteria: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, dict[str, Any]]:
    counts = pairs.groupby("criterion_id")[["label", "explicit_negative"]].sum()
    return {
        criterion_id: {
            "symptom": symptom,
            "positive": int(counts["label"][criterion_id]),
            "explicit_negative": int(counts["explicit_negative"][criterion_id]),
        }
        for criterion_id, symptom in zip(criteria["criterion_id"], criteria["symptom"], strict=True)
    }


def _authors(posts: pd.DataFrame, folds: Sequence[FoldSplit]) -> dict[str, int | None]:
    """Count the authors, and those held out in more than one fold; None if a post's author is unknown."""
    if posts["author"].isna().any():
        return {"n_authors": None, "n_authors_straddling_folds": None}
    n_folds = _held_out_in(posts, folds).groupby(posts["author"]).nunique()
    return {"n_authors": len(n_folds), "n_authors_straddling_folds": int((n_folds > 1).sum())}


def _duplicates(posts: pd.DataFrame, duplicates: pd.DataFrame, folds: Sequence[FoldSplit]) -> dict[str, int]:
    """Count the sets of near duplicates, their posts, and the sets in more than one fold."""
    set_of_post = group_posts(posts, "post_id", duplicates)["group"].to_numpy()
    sets = _held_out_in(posts, folds).groupby(set_of_post).agg(["size", "nunique"])
    sets = sets[sets["size"] > 1]
    return {
        "sets": len(sets),
        "posts": int(sets["size"].sum()),
        "sets_straddling_folds": int((sets["nunique"] > 1).sum()),
    }


def _held_out_in(posts: pd.DataFrame, folds: Sequence[FoldSplit]) -> pd.Series[int]:
    return posts["post_id"].map({post_id: fold["fold"] for fold in folds for post_id in fold["held_out"]})


def _stratification(folds: Sequence[FoldSplit]) -> dict[str, Mapping[str, Any]]:
    """Return each criterion's held-out positives by fold, its rate, and the largest deviation of a fold's rate."""
    return {
        criterion_id: {
            "held_out_positive": balance["positive"],
            "rate": balance["rate"],
            "max_deviation": max(abs(deviation) for deviation in balance["deviations"] if deviation is not None),
        }
        for criterion_id, balance in criterion_balance(folds).items()
    }
