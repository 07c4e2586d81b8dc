"""Pairs: posts x criteria with their labels, and the check of their counts."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


class Expectation(BaseModel):
    """The counts that the corpus must have, null for any; with a reason, other counts pass and are recorded.

    Attributes:
        posts: Number of posts.
        criteria: Number of criteria.
        pairs: Number of pairs.
        positive: Number of pairs with label 1. It reveals a truncated file of annotations, which changes neither the
            number of posts nor that of pairs.
        explicit_negative: Number of explicit negatives.
        override_reason: Why other counts are accepted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    # Null must be explicit: `expectation.override_reason=...` alone must not remove the counts that conf/base expects.
    posts: int | None
    criteria: int | None
    pairs: int | None
    positive: int | None = None
    explicit_negative: int | None = None
    override_reason: str | None = None


def grid_cells(
    post_ids: pd.Series[str], criterion_ids: pd.Series[str], posts: pd.DataFrame, criteria: pd.DataFrame
) -> NDArray[np.int64]:
    """Return the position of each pair in the grid of all posts x all criteria, row by row; -1 for an unknown id."""
    post = pd.Index(posts["post_id"]).get_indexer(pd.Index(post_ids))
    criterion = pd.Index(criteria["criterion_id"]).get_indexer(pd.Index(criterion_ids))
    return np.where((post < 0) | (criterion < 0), -1, post * len(criteria) + criterion)


def pairs_of_annotations(posts: pd.DataFrame, criteria: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Pair every post with every criterion, labelled by annotated sentences.

    Args:
        posts: post_id and more.
        criteria: criterion_id and more.
        annotations: post_id, criterion_id, sentence_id, status (1 evidence, 0 explicit negative); a pair may have
            several.

    Returns:
        post_id, criterion_id, label (int8: 1 if any status is 1), explicit_negative (bool: annotated, but never with
        status 1), evidence (the sorted ids of the sentences with status 1, separated by single spaces). The rows
        follow the order of posts and criteria.

    Raises:
        MentallamError: An annotation belongs to no pair; nothing is dropped silently.
    """
    cells = grid_cells(annotations["post_id"], annotations["criterion_id"], posts, criteria)
    n_lost = int((cells < 0).sum())
    if n_lost:
        raise MentallamError(f"{n_lost} annotations name an unknown post or criterion; correct or remove them")
    n_cells = len(posts) * len(criteria)
    is_positive = annotations["status"].to_numpy() == 1
    label, explicit_negative = np.zeros((2, n_cells), bool)
    label[cells[is_positive]] = True
    explicit_negative[cells[~is_positive]] = True
    # One sentence may have the same annotation twice.
    evidence = pd.DataFrame({"cell": cells[is_positive], "sentence_id": annotations["sentence_id"][is_positive]})
    evidence = evidence.drop_duplicates().sort_values(["cell", "sentence_id"])
    ends = np.cumsum(np.bincount(evidence["cell"], minlength=n_cells))
    sentences = pa.ListArray.from_arrays(
        pa.array(np.append(0, ends), pa.int32()), pa.array(evidence["sentence_id"].to_numpy(object), pa.string())
    )
    evidence_ids = pc.binary_join(sentences, " ").to_pandas()
    return _pairs(np.arange(n_cells), label, explicit_negative & ~label, evidence_ids, posts, criteria)


def pairs_of_labels(posts: pd.DataFrame, criteria: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Bring labels into the form of `pairs_of_annotations`; here a label of 0 is not an explicit negative.

    Args:
        posts: post_id and more.
        criteria: criterion_id and more.
        labels: post_id, criterion_id, label (1 or 0), each pair at most once.

    Returns:
        The columns and order of `pairs_of_annotations`, for the pairs that have a label.

    Raises:
        MentallamError: A label belongs to no pair, or a pair has two; nothing is dropped silently.
    """
    cells = grid_cells(labels["post_id"], labels["criterion_id"], posts, criteria)
    order = np.argsort(cells)
    cells = cells[order]
    if (cells < 0).any() or (np.diff(cells) == 0).any():
        raise MentallamError(
            "a label names an unknown post or criterion, or a pair that has a label already; correct or remove it"
        )
    label = labels["label"].to_numpy(bool)[order]
    evidence = pd.Series("", index=range(len(cells)), dtype="str")
    return _pairs(cells, label, np.zeros_like(label), evidence, posts, criteria)


def _pairs(
    cells: NDArray[np.int64],
    label: NDArray[np.bool_],
    explicit_negative: NDArray[np.bool_],
    evidence: pd.Series[str],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "post_id": posts["post_id"].take(cells // len(criteria)).array,
            "criterion_id": criteria["criterion_id"].take(cells % len(criteria)).array,
            "label": label.astype("int8"),
            "explicit_negative": explicit_negative,
            "evidence": evidence.array,
        }
    )


def count_pairs(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of posts, criteria, pairs, positive pairs and explicit negatives."""
    return {
        "posts": len(posts),
        "criteria": len(criteria),
        "pairs": len(pairs),
        "positive": int(pairs["label"].sum()),
        "explicit_negative": int(pairs["explicit_negative"].sum()),
    }


def check_counts(
    posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame, expectation: Expectation
) -> dict[str, Any]:
    """Compare the counts of the corpus as read with the expected ones.

    Returns:
        {"expected": counts, "found": counts, "override_reason": the reason if it was needed, else None}; an expected
        count is None where any is allowed.

    Raises:
        MentallamError: The counts differ and no reason is given.
    """
    found = count_pairs(posts, criteria, pairs)
    expected = expectation.model_dump(include=set(found))
    differing = [
        f"{count} {name} (expected {expected[name]})"
        for name, count in found.items()
        if expected[name] not in (None, count)
    ]
    reason = expectation.override_reason if differing else None
    if differing and not reason:
        raise MentallamError(
            f"the data hold {', '.join(differing)}; if that is intended, give a reason, which is recorded: "
            '--params "expectation.override_reason=WHY", or override_reason under expectation in '
            "conf/<env>/parameters_data_processing.yml"
        )
    if reason:
        logger.warning("the data hold %s; accepted because: %s", ", ".join(differing), reason)
    return {"expected": expected, "found": found, "override_reason": reason}
