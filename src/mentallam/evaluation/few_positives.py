"""Criteria with few positive pairs, and how often the intervals of their figures cover the truth in simulations.

A percentile interval needs enough positive pairs: a resample can't contain what the table lacks, so with a handful
the interval is too narrow. The coverages below are those of `studies/coverage.py`, for intervals of 95 %.
"""

from collections.abc import Iterable, Mapping
from typing import Any

FEW = 20
"""A criterion with fewer positive pairs is named in warnings."""

MACRO_F1_COVERAGE = ((60, 0.87), (300, 0.92), (1484, 0.94))
"""Posts, and the share of simulated studies at ReDSM5's rates whose interval of macro F1 covers the truth."""

BANDS = ((1, 0.51), (3, 0.87), (5, 0.94), (10, 0.93), (20, 0.95), (50, 0.95))
"""The fewest positive pairs of a band, and the share of intervals of a criterion's F1 there that cover the truth."""


def few_positives(criterion_rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the ids of the criteria with fewer than `FEW` positive pairs.

    Args:
        criterion_rows: criterion_id and n_positive of each criterion.
    """
    return [row["criterion_id"] for row in criterion_rows if row["n_positive"] < FEW]


def simulated_coverage(n_positive: int) -> float | None:
    """Return how often a nominal 95 % interval of a criterion's F1 covered the truth in simulations.

    Args:
        n_positive: The criterion's positive pairs; without any its F1 is not defined, and the result is None.
    """
    return next((coverage for fewest, coverage in reversed(BANDS) if n_positive >= fewest), None)
