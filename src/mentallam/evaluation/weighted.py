"""All metrics of a table for many weightings of its groups at once: what makes thousands of resamples cheap.

A resample draws whole groups, so that a pair weighs as often as its group was drawn. Counts are then one matrix product
of weights and per-group sums, and ranking metrics are read off one order, sorted once.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mentallam.evaluation.arrays import checked_labels, checked_pairs

Weights = NDArray[np.float64]
Values = NDArray[np.float64]

METRICS = (
    "f1",
    "precision",
    "recall",
    "macro_f1",
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "roc_auc",
    "average_precision",
    "brier",
    "log_loss",
)
"""The headline metrics, in the order of `WeightedMetrics`' first columns."""

_TN, _FP, _FN, _TP = range(4)


class WeightedMetrics:
    """The headline metrics and the F1 of each criterion, for any weights of the groups.

    Each value is scikit-learn's with `sample_weight`, except that it is NaN where the pairs of positive weight cannot
    tell: precision, recall and F1 (of all pairs or of a criterion) without a positive pair; macro F1 without a positive
    pair of a criterion that has one in the table; balanced accuracy, MCC, ROC-AUC and average precision without both
    labels. Precision without a prediction is 0; so is, in macro F1, a criterion that has no positive pair in the table.

    Attributes:
        criteria: The criteria of the table, sorted; their F1 are the columns after `METRICS`.
    """

    def __init__(self, pairs: pd.DataFrame, unit: ArrayLike, n_units: int, rank: ArrayLike | None = None) -> None:
        """Sum and sort once.

        Args:
            pairs: Columns criterion_id, label, probability, prediction; n rows.
            unit: The position of each row's weight, from 0 to n_units - 1, shape (n,).
            n_units: Number of weights.
            rank: What ROC-AUC and average precision rank by, shape (n,); the probability if not given.

        Raises:
            MentallamError: No pair, or a value out of range.
        """
        labels, probabilities = checked_pairs(pairs["label"], pairs["probability"])
        units = np.asarray(unit, np.intp)
        criteria, criterion = np.unique(pairs["criterion_id"].to_numpy(str), return_inverse=True)
        self.criteria: list[str] = criteria.tolist()
        self._counts = confusion_sums(labels, checked_labels(pairs["prediction"]), criterion, units, n_units)
        self._has_positives = self._counts[..., [_FN, _TP]].any(axis=(0, 2))
        self._losses = _loss_sums(labels, probabilities, units, n_units)
        self._ranking = _Ranking(labels, probabilities if rank is None else np.asarray(rank, np.float64), units)

    def __call__(self, weights: Weights) -> Values:
        """The metrics under each weighting.

        Args:
            weights: Not negative, shape (b, n_units).

        Returns:
            Shape (b, number of `METRICS` + number of criteria); NaN where not defined.
        """
        per_criterion = weighted_counts(weights, self._counts)
        f1 = f1_of(per_criterion)
        counts = per_criterion.sum(axis=1)
        has_both = (counts[:, [_TN, _FP]].sum(axis=1) > 0) & (counts[:, [_FN, _TP]].sum(axis=1) > 0)
        losses = (weights @ self._losses) / counts.sum(axis=1, keepdims=True)
        headline = {
            "f1": f1_of(counts),
            "precision": _precision(counts),
            "recall": _ratio(counts[:, _TP], counts[:, _TP] + counts[:, _FN]),
            "macro_f1": np.where(self._has_positives, f1, 0.0).mean(axis=1),
            "accuracy": (counts[:, _TN] + counts[:, _TP]) / counts.sum(axis=1),
            "balanced_accuracy": _balanced_accuracy(counts),
            "mcc": np.where(has_both, _matthews(counts), np.nan),
            **{name: np.where(has_both, own, np.nan) for name, own in self._ranking.scores(weights).items()},
            "brier": losses[:, 0],
            "log_loss": losses[:, 1],
        }
        return np.column_stack([*(headline[name] for name in METRICS), f1])


def confusion_sums(labels: ArrayLike, predictions: ArrayLike, part: ArrayLike, unit: ArrayLike, n_units: int) -> Values:
    """Count true and false negatives and positives of each unit and part.

    Args:
        labels: 0 or 1, shape (n,).
        predictions: 0 or 1, shape (n,).
        part: What is counted apart (the criterion, the fold), 0, 1, ..., shape (n,).
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
    """F1 of the positive class; NaN without a positive pair.

    Args:
        counts: Shape (..., 4), cells as in `confusion_sums`.

    Returns:
        Shape (...).
    """
    hits, wrong = counts[..., _TP], counts[..., _FP] + counts[..., _FN]
    return np.where(hits + counts[..., _FN] > 0, _ratio(2 * hits, 2 * hits + wrong), np.nan)


def ranks(scores: ArrayLike) -> Values:
    """Scores by their place among each other, equal ones sharing the middle of theirs; ROC-AUC stays as it was.

    Args:
        scores: Shape (n,).

    Returns:
        1 (the lowest) to n, shape (n,).
    """
    places: Values = rankdata(scores)
    return places


def _ratio(part: Values, whole: Values) -> Values:
    """The quotient; NaN where the denominator is 0."""
    return np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def _precision(counts: Values) -> Values:
    predicted = counts[:, _FP] + counts[:, _TP]
    precision = np.where(predicted > 0, _ratio(counts[:, _TP], predicted), 0.0)
    return np.where(counts[:, _FN] + counts[:, _TP] > 0, precision, np.nan)


def _balanced_accuracy(counts: Values) -> Values:
    sensitivity = _ratio(counts[:, _TP], counts[:, _TP] + counts[:, _FN])
    specificity = _ratio(counts[:, _TN], counts[:, _TN] + counts[:, _FP])
    return (sensitivity + specificity) / 2


def _matthews(counts: Values) -> Values:
    """Matthews correlation coefficient; 0 where one prediction is never made, as in scikit-learn."""
    tn, fp, fn, tp = counts.T
    scale = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
    return np.where(scale > 0, _ratio(tp * tn - fp * fn, scale), 0.0)


def _loss_sums(labels: NDArray[np.int8], probabilities: Values, unit: NDArray[np.intp], n_units: int) -> Values:
    """Sums over each unit's pairs of squared error and negative log likelihood, shape (n_units, 2)."""
    tiny = np.finfo(np.float64).eps  # the bound of scikit-learn's log_loss
    likelihood = np.clip(np.where(labels == 1, probabilities, 1 - probabilities), tiny, 1 - tiny)
    losses = ((probabilities - labels) ** 2, -np.log(likelihood))
    return np.column_stack([np.bincount(unit, weights=loss, minlength=n_units) for loss in losses])


class _Ranking:
    """The pairs from the highest score to the lowest, sorted once; equal scores form one step of the curves."""

    def __init__(self, labels: NDArray[np.int8], scores: Values, unit: NDArray[np.intp]) -> None:
        step = rankdata(-scores, method="dense") - 1
        order = np.argsort(step, kind="stable")
        self._unit = unit[order]
        self._positive = labels[order].astype(np.float64)
        self._ends = np.flatnonzero(np.diff(step[order], append=-1))

    def scores(self, weights: Weights) -> dict[str, Values]:
        """ROC-AUC (trapezoids) and average precision under each weighting, shape (b,) each; else NaN."""
        drawn = weights[:, self._unit]
        caught = np.cumsum(drawn, axis=1)[:, self._ends]
        hits = np.cumsum(drawn * self._positive, axis=1)[:, self._ends]
        alarms = caught - hits
        more_hits = np.diff(hits, axis=1, prepend=0)
        more_alarms = np.diff(alarms, axis=1, prepend=0)
        precision = np.divide(hits, caught, out=np.zeros_like(hits), where=caught > 0)
        return {
            "roc_auc": _ratio((more_alarms * (hits - more_hits / 2)).sum(axis=1), hits[:, -1] * alarms[:, -1]),
            "average_precision": _ratio((more_hits * precision).sum(axis=1), hits[:, -1]),
        }
