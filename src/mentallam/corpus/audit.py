"""The figures of the data audit, without a word of any post."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mentallam import __version__
from mentallam.corpus.duplicates import first_copy
from mentallam.corpus.folds import CriterionBalance, FoldSplit, criterion_balance
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
    """Return every figure of the audit; its page and plots compute nothing.

    Args:
        posts: post_id, text (cleaned), author.
        criteria: criterion_id, symptom, criterion.
        pairs: post_id, criterion_id, label; pairs may be missing.
        folds: All folds of these pairs.
        statistics: The content of data_statistics.json, from which the counts come.
        tokens: One dict per tokenizer, from `classifier.token_counts.token_statistics`.
    """
    balance = criterion_balance(folds)
    per_criterion = _per_criterion(criteria, statistics, balance)
    return {
        "version": __version__,
        "statistics": dict(statistics),
        "counts": _counts(statistics),
        "criteria": per_criterion,
        "co_occurrence": _co_occurrence(posts, criteria, pairs),
        "words": length_histogram(words_per_post(posts["text"])),
        "tokens": list(tokens),
        "duplicates": _duplicates(posts, folds),
        "authors": _authors(posts),
        "folds": _folds({row["criterion_id"]: balance[row["criterion_id"]] for row in per_criterion}, folds),
    }


def _counts(statistics: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "posts": statistics["n_posts"],
        "criteria": len(statistics["criteria"]),
        "pairs": statistics["n_pairs"],
        "missing_pairs": statistics["n_unlabelled"],
        "positives": statistics["n_positive"],
        "base_rate": statistics["base_rate"],
        "posts_without_criterion": statistics["n_without_symptom"],
        "explicit_negatives": sum(counts["explicit_negative"] for counts in statistics["criteria"].values()),
    }


def _per_criterion(
    criteria: pd.DataFrame, statistics: Mapping[str, Any], balance: Mapping[str, CriterionBalance]
) -> list[dict[str, Any]]:
    rows = criteria[["criterion_id", "symptom", "criterion"]].itertuples(index=False)
    return [
        {
            "criterion_id": criterion_id,
            "name": symptom,
            "wording": criterion,
            "pairs": sum(balance[criterion_id]["pairs"]),
            "positive": statistics["criteria"][criterion_id]["positive"],
            "explicit_negative": statistics["criteria"][criterion_id]["explicit_negative"],
            "rate": balance[criterion_id]["rate"],
        }
        for criterion_id, symptom, criterion in rows
    ]


def _co_occurrence(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, list[list[Any]]]:
    """Return for every two criteria the posts that match both, their Jaccard index, and their lift over chance."""
    matched = pairs[pairs["label"] == 1]
    matches = np.zeros((len(posts), len(criteria)), dtype=np.float32)
    rows = pd.Index(posts["post_id"]).get_indexer(pd.Index(matched["post_id"]))
    columns = pd.Index(criteria["criterion_id"]).get_indexer(pd.Index(matched["criterion_id"]))
    matches[rows, columns] = 1
    both = (matches.T @ matches).astype(int)  # float32 counts exactly up to 16 million posts
    alone = both.diagonal()
    either = alone[:, None] + alone[None, :] - both
    by_chance = np.outer(alone, alone) / len(posts)
    return {"posts": both.tolist(), "jaccard": _ratio(both, either), "lift": _ratio(both, by_chance)}


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> list[list[float | None]]:
    """Divide element by element; None where the denominator is 0, since JSON has no NaN."""
    quotient = np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)
    return [[None if np.isnan(value) else float(value) for value in row] for row in quotient]


def _duplicates(posts: pd.DataFrame, folds: Sequence[FoldSplit]) -> dict[str, Any]:
    """Describe the posts whose cleaned text is exactly the same."""
    fold_of = {post_id: fold["fold"] for fold in folds for post_id in fold["held_out"]}
    first = first_copy(posts)
    is_repeated = first.duplicated(keep=False)
    groups = sorted(sorted(ids) for ids in posts["post_id"][is_repeated].groupby(first[is_repeated]).agg(list))
    return {
        "posts": int(is_repeated.sum()),
        "n_groups": len(groups),
        "n_straddling": sum(len({fold_of.get(post_id) for post_id in group}) > 1 for group in groups),
        "groups": groups[:DUPLICATES_SHOWN],
    }


def _authors(posts: pd.DataFrame) -> dict[str, Any] | None:
    """Count the authors by their number of posts; None if no author is known."""
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


def _folds(balance: Mapping[str, CriterionBalance], folds: Sequence[FoldSplit]) -> dict[str, Any]:
    """Describe what each fold holds out, and how far its rates are from those of all pairs."""
    return {
        "posts": [len(fold["held_out"]) for fold in folds],
        "groups": [fold["groups"]["held_out"] for fold in folds],
        "positives": [criterion["positive"] for criterion in balance.values()],
        "deviations": [criterion["deviations"] for criterion in balance.values()],
        "largest": _largest(balance),
        "without_positives": [criterion_id for criterion_id, found in balance.items() if 0 in found["positive"]],
    }


def _largest(balance: Mapping[str, CriterionBalance]) -> dict[str, Any]:
    """Return the largest deviation of a fold's rate, with its fold and criterion."""
    deviation, fold, criterion_id = max(
        (abs(deviation), fold, criterion_id)
        for criterion_id, found in balance.items()
        for fold, deviation in enumerate(found["deviations"])
        if deviation is not None
    )
    return {"deviation": deviation, "fold": fold, "criterion_id": criterion_id}
