"""Pairs: every post x every criterion, their labels, the check of their counts, and the hash of the data."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from mentallam.corpus.readers import SPECIAL_CASE
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 10_000  # in Python's own objects, which take many times the memory of a frame


class Expectation(BaseModel):
    """How much data this profile is about; a reason lets other counts pass and is recorded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    posts: int
    criteria: int
    pairs: int
    override_reason: str | None = None


def build_pairs(posts: pd.DataFrame, criteria: pd.DataFrame, annotations: pd.DataFrame) -> pd.DataFrame:
    """Pair every post with every criterion.

    Args:
        posts: post_id and more.
        criteria: criterion_id, symptom and more.
        annotations: post_id, symptom, status (1 evidence, 0 explicit negative); several per pair are normal.

    Returns:
        post_id, criterion_id, label (int8: 1 if any status is 1), explicit_negative (bool: annotated, and
        never with 1), in the order of posts and criteria. SPECIAL_CASE has no criterion and is left out.

    Raises:
        MentallamError: An annotation belongs to no pair; nothing is dropped silently.
    """
    annotations = annotations[annotations["symptom"] != SPECIAL_CASE]
    criterion_id = annotations["symptom"].map(criteria.set_index("symptom")["criterion_id"])
    status = annotations.groupby(["post_id", criterion_id.rename("criterion_id")])["status"].max()
    grid = pd.MultiIndex.from_product([posts["post_id"], criteria["criterion_id"]])
    n_lost = int((criterion_id.isna() | ~annotations["post_id"].isin(posts["post_id"])).sum())
    if n_lost:
        raise MentallamError(f"{n_lost} annotations name a symptom without a criterion or an unknown post; mend them.")
    highest = status.reindex(grid, fill_value=-1)
    pairs: pd.DataFrame = pd.DataFrame(
        {
            "post_id": grid.get_level_values(0),
            "criterion_id": grid.get_level_values(1),
            "label": (highest == 1).astype("int8").to_numpy(),
            "explicit_negative": (highest == 0).to_numpy(),
        }
    )
    return pairs


def check_counts(
    posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame, expectation: Expectation
) -> dict[str, Any]:
    """Compare the data with what the profile expects.

    Returns:
        {"expected": counts, "found": counts, "override_reason": the reason if it was needed, else None}.

    Raises:
        MentallamError: The counts differ and no reason is given.
    """
    found = {"posts": len(posts), "criteria": len(criteria), "pairs": len(pairs)}
    expected = expectation.model_dump(include=set(found))
    differing = [
        f"{count} {name} (expected {expected[name]})" for name, count in found.items() if count != expected[name]
    ]
    reason = expectation.override_reason if differing else None
    if differing and not reason:
        raise MentallamError(
            f"The data hold {', '.join(differing)}; if that is meant, give the reason, which is recorded: "
            '--params "expectation.override_reason=WHY", or override_reason under expectation in '
            "conf/<env>/parameters_data_processing.yml."
        )
    if reason:
        logger.warning("The data hold %s; accepted because: %s", ", ".join(differing), reason)
    return {"expected": expected, "found": found, "override_reason": reason}


def data_hash(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Return the sha256 of texts, criteria and labels; the order of the rows does not matter.

    Args:
        posts: post_id, text.
        criteria: criterion_id, criterion.
        pairs: post_id, criterion_id, label.
    """
    digest = hashlib.sha256()
    for frame, keys, value in (
        (posts, ["post_id"], "text"),
        (criteria, ["criterion_id"], "criterion"),
        (pairs, ["post_id", "criterion_id"], "label"),
    ):
        rows = frame[[*keys, value]].sort_values(keys)
        digest.update(b"[")
        for start in range(0, len(rows), ROWS_AT_ONCE):
            chunk = rows.iloc[start : start + ROWS_AT_ONCE].astype({value: object}).to_numpy().tolist()
            digest.update(((", " if start else "") + json.dumps(chunk)[1:-1]).encode())
        digest.update(b"]")
    return digest.hexdigest()
