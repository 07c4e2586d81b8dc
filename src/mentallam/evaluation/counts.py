"""True and false negatives and positives of a table under many weightings of its groups, and ratios of these counts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Weights = NDArray[np.float64]
Values = NDArray[np.float64]

TN, FP, FN, TP = range(4)
"""The cells of a count, along the last axis."""


@dataclass(frozen=True)
class WeightedPairs:
    """The pairs of a table under b weightings: what the weighted form of a metric is a function of.

    Attributes:
        counts: Cells of all pairs, shape (b, 4).
        criterion_f1: Shape (b, n_criteria); NaN without a positive pair of the criterion.
        brier: Mean squared error, shape (b,).
        log_loss: Mean negative log-likelihood in nats, shape (b,).
        roc_auc: Shape (b,); NaN without both labels.
        average_precision: Shape (b,); NaN without a positive pair.
    """

    counts: Values
    criterion_f1: Values
    brier: Values
    log_loss: Values
    roc_auc: Values
    average_precision: Values


def confusion_sums(labels: ArrayLike, predictions: ArrayLike, part: ArrayLike, unit: ArrayLike, n_units: int) -> Values:
    """Count true and false negatives and positives of each unit and part.

    Args:
        labels: 0 or 1, shape (n,).
        predictions: 0 or 1, shape (n,).
        part: What is counted separately (the criterion, the fold), 0, 1, ..., shape (n,).
        unit: The position of each row's weight, shape (n,).
        n_units: Number of weights.

    Returns:
        Shape (n_units, n_parts, 4): true negatives, false positives, false negatives, true positives.
    """
    parts = np.asarray(part, np.intp)
    n_parts = int(parts.max()) + 1
    cell = 2 * np.asarray(labels, np.intp) + np.asarray(predictions, np.intp)
    place = (np.asarray(unit, np.intp) * n_parts + parts) * 4 + cell
    return np.bincount(place, minlength=n_units * n_parts * 4).reshape(n_units, n_parts, 4).astype(np.float64)


def weighted_counts(weights: Weights, sums: Values) -> Values:
    """Add up the units' counts under each weighting.

    Args:
        weights: Shape (b, n_units).
        sums: As `confusion_sums` returns it.

    Returns:
        Shape (b, n_parts, 4).
    """
    return (weights @ sums.reshape(len(sums), -1)).reshape(len(weights), *sums.shape[1:])


def f1_of(counts: Values) -> Values:
    """Return F1 of the positive class, (...), from counts, (..., 4); NaN without a positive pair."""
    hits, wrong = counts[..., TP], counts[..., FP] + counts[..., FN]
    return np.where(hits + counts[..., FN] > 0, ratio(2 * hits, 2 * hits + wrong), np.nan)


def precision_of(counts: Values) -> Values:
    """Return precision, (b,), from counts, (b, 4); 0 without a positive prediction, NaN without a positive pair."""
    predicted = counts[:, FP] + counts[:, TP]
    precision = np.where(predicted > 0, ratio(counts[:, TP], predicted), 0.0)
    return np.where(counts[:, FN] + counts[:, TP] > 0, precision, np.nan)


def recall_of(counts: Values) -> Values:
    """Return recall, (b,), from counts, (b, 4); NaN without a positive pair."""
    return ratio(counts[:, TP], counts[:, TP] + counts[:, FN])


def accuracy_of(counts: Values) -> Values:
    """Return accuracy, (b,), from counts, (b, 4)."""
    accuracy: Values = (counts[:, TN] + counts[:, TP]) / counts.sum(axis=1)
    return accuracy


def balanced_accuracy_of(counts: Values) -> Values:
    """Return balanced accuracy, (b,), from counts, (b, 4); NaN without both labels."""
    specificity = ratio(counts[:, TN], counts[:, TN] + counts[:, FP])
    return (recall_of(counts) + specificity) / 2


def matthews_of(counts: Values) -> Values:
    """Return Matthews correlation, (b,), from counts, (b, 4); 0 if all predictions are the same, as in scikit-learn."""
    tn, fp, fn, tp = counts.T
    scale = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return np.where(scale > 0, ratio(tp * tn - fp * fn, scale), 0.0)


def macro_f1_of(criterion_f1: Values) -> Values:
    """Return mean F1 over the criteria with a positive pair, (b,); NaN without any.

    Args:
        criterion_f1: Shape (b, n_criteria); NaN without a positive pair of the criterion.
    """
    defined = ~np.isnan(criterion_f1)
    return ratio(np.where(defined, criterion_f1, 0.0).sum(axis=1), defined.sum(axis=1).astype(np.float64))


def reads_per_match_of(counts: Values) -> Values:
    """Return 1 / precision, (b,), from counts, (b, 4); NaN without a true positive."""
    return ratio(counts[:, FP] + counts[:, TP], counts[:, TP])


def ratio(part: Values, whole: Values) -> Values:
    """Divide element by element; NaN where the denominator is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
