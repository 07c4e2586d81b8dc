"""Decision thresholds: from which probability on a pair counts as matched."""

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import f1_score, precision_recall_curve

from mentallam.evaluation.checks import Labels, Probabilities, checked_pairs

logger = logging.getLogger(__name__)

GRID: Probabilities = np.arange(101) / 100
"""0.00, 0.01, ..., 1.00: the candidates of every threshold choice."""

NO_POSITIVES_THRESHOLD = 0.5


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold and the F1 of the positive class that it reaches on the pairs it was chosen on."""

    threshold: float
    f1: float


def predict_labels(probabilities: ArrayLike, threshold: ArrayLike) -> Labels:
    """The one rule that turns probabilities into predictions: 1 where probability >= threshold.

    Args:
        probabilities: From 0 to 1, shape (n,), any float type; compared as float64.
        threshold: One for all, or one per pair, shape (n,).

    Returns:
        int8 predictions, shape (n,).
    """
    return (np.asarray(probabilities, np.float64) >= np.asarray(threshold, np.float64)).astype(np.int8)


def sweep(labels: ArrayLike, probabilities: ArrayLike, grid: Probabilities = GRID) -> pd.DataFrame:
    """Precision, recall and F1 of the positive class at every threshold of a grid.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        grid: Thresholds, shape (m,).

    Returns:
        Columns threshold, precision, recall, f1 (float64), m rows in the grid's order. A ratio without a
        denominator (no pair predicted, or none positive) is 0.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    precision, recall = _precision_and_recall_at(labels, probabilities, grid)
    total = precision + recall
    f1: Probabilities = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return pd.DataFrame({"threshold": grid, "precision": precision, "recall": recall, "f1": f1})


def best_threshold(labels: ArrayLike, probabilities: ArrayLike) -> ThresholdChoice:
    """The threshold on `GRID` with the highest F1.

    Many grid points tie, since F1 changes only where a probability is crossed. Of the longest run of
    neighbouring best thresholds (of equals the lowest) the middle is taken: a threshold at the edge of a gap
    between the pairs it was chosen on would be the first to err on others.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).

    Returns:
        The threshold, a multiple of 0.01, and its F1. Without a positive pair every F1 is 0: then 0.5 and
        0.0, and a warning is logged.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    f1 = sweep(labels, probabilities)["f1"].to_numpy()
    if not f1.any():
        logger.warning(
            "No pair is positive, so no threshold is better than another; %s is used.", NO_POSITIVES_THRESHOLD
        )
        return ThresholdChoice(NO_POSITIVES_THRESHOLD, 0.0)
    # Different F1 values differ by more than 1 / (2n)^2, equal ones by rounding only.
    is_best = np.isclose(f1, f1.max(), rtol=1e-12, atol=0)
    edges = np.flatnonzero(np.diff(is_best, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    longest = np.argmax(ends - starts)
    threshold = float(GRID[(starts[longest] + ends[longest] - 1) // 2])
    # By the function of every other F1, so that equal ones are equal to the last bit.
    return ThresholdChoice(threshold, float(f1_score(labels, predict_labels(probabilities, threshold))))


def _precision_and_recall_at(
    labels: Labels, probabilities: Probabilities, grid: Probabilities
) -> tuple[Probabilities, Probabilities]:
    """Read scikit-learn's curve, which has a point per distinct probability, at the grid's thresholds."""
    if not labels.any():
        return np.zeros_like(grid), np.zeros_like(grid)
    precision, recall, distinct = precision_recall_curve(labels, probabilities)
    precision[-1] = 0.0  # the curve's end, where nothing is predicted, is 1 by convention there and 0 by ours
    point = np.searchsorted(distinct, grid)  # the lowest distinct probability that is >= the threshold
    return precision[point], recall[point]
