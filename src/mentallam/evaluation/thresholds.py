"""Decision thresholds: the probability from which a pair counts as matched."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mentallam.evaluation.arrays import Labels, Probabilities, checked_pairs

GRID: Probabilities = np.arange(101) / 100
"""0.00, 0.01, ..., 1.00: the candidates of every threshold choice."""

NO_POSITIVES_THRESHOLD = 0.5


@dataclass(frozen=True)
class ThresholdChoice:
    """A threshold and its F1 of the positive class on the pairs it was chosen on."""

    threshold: float
    f1: float


def predict_labels(probabilities: ArrayLike, threshold: ArrayLike) -> Labels:
    """Turn probabilities into predictions: 1 where probability >= threshold.

    Args:
        probabilities: From 0 to 1, shape (n,), any float type; compared as float64.
        threshold: One for all, or one per pair, shape (n,).

    Returns:
        int8 predictions, shape (n,).
    """
    return (np.asarray(probabilities, np.float64) >= np.asarray(threshold, np.float64)).astype(np.int8)


def sweep(labels: ArrayLike, probabilities: ArrayLike, grid: Probabilities = GRID) -> pd.DataFrame:
    """Compute precision, recall and F1 of the positive class at every threshold of a grid.

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


@dataclass(frozen=True)
class ThresholdRule:
    """The criterion by which one threshold is better than another.

    Attributes:
        beta: Recall counts beta times as much as precision (van Rijsbergen 1979, F-beta); 1 is F1.
        min_recall: If given, the highest precision among thresholds with at least this recall instead.
        smoothing: Grid steps on either side over which the score is averaged first; 0 for no averaging. Smoothing
            prefers a threshold whose neighbours are good as well, which helps with few pairs.
    """

    beta: float = 1.0
    min_recall: float | None = None
    smoothing: int = 0

    def describe(self) -> str:
        """Put the rule into words."""
        aim = f"F{self.beta:g}" if self.min_recall is None else f"precision at a recall of {self.min_recall:g} or more"
        smoothed = f", smoothed over {self.smoothing} steps on either side" if self.smoothing else ""
        return f"{aim} on the inner dev split, grid 0.00-1.00 step 0.01{smoothed}"


PLAN = ThresholdRule()
"""The rule of the study: F1 without smoothing."""


def best_threshold(labels: ArrayLike, probabilities: ArrayLike, rule: ThresholdRule = PLAN) -> ThresholdChoice:
    """Choose the best threshold on `GRID` by a rule.

    Many grid points tie, since a score changes only where a probability is crossed. The middle of the longest run of
    neighbouring best thresholds is chosen, and the lowest run if several are equally long. A threshold at the edge
    of a gap between these pairs would be the first to fail on others.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        rule: The criterion of the choice.

    Returns:
        The threshold, a multiple of 0.01, and its F1. Without a positive pair all thresholds are equally good: 0.5
        and 0.0 are returned.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    from sklearn.metrics import f1_score  # takes a second to import; only a choice needs it

    labels, probabilities = checked_pairs(labels, probabilities)
    if not labels.any():
        return ThresholdChoice(NO_POSITIVES_THRESHOLD, 0.0)
    score = _score(sweep(labels, probabilities), rule)
    # Different scores differ by more than 1 / (2n)^2; equal ones differ by rounding only.
    is_best = np.isclose(score, score.max(), rtol=1e-12, atol=0)
    edges = np.flatnonzero(np.diff(is_best, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    longest = np.argmax(ends - starts)
    threshold = float(GRID[(starts[longest] + ends[longest] - 1) // 2])
    # All other F1 values come from this function, so equal ones are equal to the last bit.
    return ThresholdChoice(threshold, float(f1_score(labels, predict_labels(probabilities, threshold))))


def _score(curve: pd.DataFrame, rule: ThresholdRule) -> Probabilities:
    """Score each row of a `sweep` by the rule; -1 where the recall is too low."""
    precision, recall = curve["precision"].to_numpy(), curve["recall"].to_numpy()
    if rule.min_recall is None:
        denominator = rule.beta**2 * precision + recall
        score = np.divide(
            (1 + rule.beta**2) * precision * recall, denominator, out=np.zeros_like(denominator), where=denominator > 0
        )
    else:
        score = precision
    if rule.smoothing:
        from scipy.ndimage import uniform_filter1d

        score = uniform_filter1d(score, 2 * rule.smoothing + 1, mode="nearest")
    enough = recall >= (rule.min_recall or 0.0)  # the lowest threshold always has a recall of 1
    scored: Probabilities = np.where(enough, score, -1.0)
    return scored


def _precision_and_recall_at(
    labels: Labels, probabilities: Probabilities, grid: Probabilities
) -> tuple[Probabilities, Probabilities]:
    """Read scikit-learn's curve, which has a point per distinct probability, at the grid's thresholds."""
    if not labels.any():
        return np.zeros_like(grid), np.zeros_like(grid)
    from sklearn.metrics import precision_recall_curve

    precision, recall, distinct = precision_recall_curve(labels, probabilities)
    precision[-1] = 0.0  # at the curve's end nothing is predicted: 1 by scikit-learn's convention, 0 by ours
    point = np.searchsorted(distinct, grid)  # the lowest distinct probability that is >= the threshold
    return precision[point], recall[point]
