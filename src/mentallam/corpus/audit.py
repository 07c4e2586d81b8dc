"""The data audit: what a reviewer would ask of a corpus, as numbers, without a word of any post."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mentallam import __version__
from mentallam.corpus.folds import FoldSplit
from mentallam.corpus.lengths import length_histogram, words_per_post

AUTHOR_BUCKETS = ("1", "2", "3", "4", "5", "6-10", "11-20", "21-50", "51+")
DUPLICATES_SHOWN = 25


def audit_facts(
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    folds: Sequence[FoldSplit],
    statistics: Mapping[str, Any],
    tokens: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return every figure of the audit; the plots and the page only show them.

    Args:
        posts: post_id, text (cleaned), author.
        criteria: criterion_id, symptom, criterion.
        pairs: post_id, criterion_id, label, explicit_negative; pairs may be missing.
        folds: All folds of these pairs.
        statistics: data_statistics, for what only the reader of the corpus knows.
        tokens: One dict per tokenizer, as `classifier.lengths.token_statistics` returns it.
    """
    per_criterion = _per_criterion(criteria, pairs)
    fold_of = {post_id: fold["fold"] for fold in folds for post_id in fold["held_out"]}
    return {
        "version": __version__,
        "statistics": dict(statistics),
        "counts": _counts(posts, criteria, pairs),
        "criteria": per_criterion,
        "co_occurrence": _co_occurrence(posts, criteria, pairs),
        "words": length_histogram(words_per_post(posts["text"])),
        "tokens": list(tokens),
        "duplicates": _duplicates(posts, fold_of),
        "authors": _authors(posts),
        "folds": _folds(per_criterion, folds),
    }


def _counts(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    positive = pairs["label"] == 1
    return {
        "posts": len(posts),
        "criteria": len(criteria),
        "pairs": len(pairs),
        "missing_pairs": len(posts) * len(criteria) - len(pairs),
        "positives": int(positive.sum()),
        "base_rate": float(positive.mean()),
        "posts_without_criterion": len(posts) - pairs.loc[positive, "post_id"].nunique(),
        "explicit_negatives": int(pairs["explicit_negative"].sum()),
    }


def _per_criterion(criteria: pd.DataFrame, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    found = pairs.groupby("criterion_id").agg(
        pairs=("label", "size"), positive=("label", "sum"), explicit_negative=("explicit_negative", "sum")
    )
    found = found.reindex(criteria["criterion_id"], fill_value=0).astype(int).reset_index(drop=True)
    named = criteria[["criterion_id", "symptom", "criterion"]].reset_index(drop=True)
    table = pd.concat([named, found], axis=1)
    rows = [{str(column): value for column, value in row.items()} for row in table.to_dict("records")]
    return [{**row, "rate": row["positive"] / row["pairs"] if row["pairs"] else None} for row in rows]


def _co_occurrence(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, list[list[Any]]]:
    """For every two criteria: posts that match both, their Jaccard index, and their lift over chance."""
    matched = pairs[pairs["label"] == 1]
    shown = np.zeros((len(posts), len(criteria)), dtype=np.float32)
    rows = pd.Index(posts["post_id"]).get_indexer(pd.Index(matched["post_id"]))
    columns = pd.Index(criteria["criterion_id"]).get_indexer(pd.Index(matched["criterion_id"]))
    shown[rows, columns] = 1
    both = (shown.T @ shown).astype(int)  # float32 counts exactly up to 16 million posts
    alone = both.diagonal()
    either = alone[:, None] + alone[None, :] - both
    by_chance = np.outer(alone, alone) / len(posts)
    return {"posts": both.tolist(), "jaccard": _ratio(both, either), "lift": _ratio(both, by_chance)}


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> list[list[float | None]]:
    """Element by element; None where the denominator is 0, as JSON knows no NaN."""
    quotient = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return [[None if np.isnan(value) else float(value) for value in row] for row in quotient]


def _duplicates(posts: pd.DataFrame, fold_of: Mapping[str, int]) -> dict[str, Any]:
    """Posts whose cleaned text is the same, letter by letter."""
    repeated = posts[posts["text"].duplicated(keep=False)]
    groups = sorted(sorted(ids) for ids in repeated.groupby("text")["post_id"].agg(list))
    return {
        "posts": len(repeated),
        "n_groups": len(groups),
        "n_straddling": sum(len({fold_of.get(post_id) for post_id in group}) > 1 for group in groups),
        "groups": groups[:DUPLICATES_SHOWN],
    }


def _authors(posts: pd.DataFrame) -> dict[str, Any] | None:
    """How many authors wrote how many posts; None if none is known."""
    authors = posts["author"]
    n_posts = authors.dropna().value_counts()
    if n_posts.empty:
        return None
    buckets = pd.cut(n_posts, [0, 1, 2, 3, 4, 5, 10, 20, 50, np.inf], labels=AUTHOR_BUCKETS).value_counts(sort=False)
    last = int(np.flatnonzero(buckets)[-1])
    return {
        "authors": len(n_posts),
        "posts_without_author": int(authors.isna().sum()),
        "most_posts": int(n_posts.max()),
        "posts_per_author": {label: int(buckets[label]) for label in AUTHOR_BUCKETS[: last + 1]},
    }


def _folds(per_criterion: Sequence[Mapping[str, Any]], folds: Sequence[FoldSplit]) -> dict[str, Any]:
    """What each fold holds out, and by how much its rates differ from those of all pairs."""
    held_out = [fold["label_distribution"]["held_out"] for fold in folds]
    none = {"positive": 0, "negative": 0}
    positives, deviations = [], []
    for row in per_criterion:
        labels = [own.get(row["criterion_id"], none) for own in held_out]
        positives.append([own["positive"] for own in labels])
        deviations.append([_deviation(own, row["rate"]) for own in labels])
    return {
        "posts": [len(fold["held_out"]) for fold in folds],
        "groups": [fold["groups"]["held_out"] for fold in folds],
        "positives": positives,
        "deviations": deviations,
        "largest": _largest(per_criterion, deviations),
        "without_positives": [
            row["criterion_id"] for row, own in zip(per_criterion, positives, strict=True) if 0 in own
        ],
    }


def _deviation(labels: Mapping[str, int], rate: float | None) -> float | None:
    n_pairs = labels["positive"] + labels["negative"]
    return None if rate is None or n_pairs == 0 else labels["positive"] / n_pairs - rate


def _largest(
    per_criterion: Sequence[Mapping[str, Any]], deviations: Sequence[Sequence[float | None]]
) -> dict[str, Any] | None:
    known = [
        (abs(deviation), fold, row["criterion_id"])
        for row, own in zip(per_criterion, deviations, strict=True)
        for fold, deviation in enumerate(own)
        if deviation is not None
    ]
    if not known:
        return None
    deviation, fold, criterion_id = max(known)
    return {"deviation": deviation, "fold": fold, "criterion_id": criterion_id}
