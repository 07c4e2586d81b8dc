"""All metrics of a table under many weightings of its groups at once, which makes thousands of resamples cheap.

A resample draws whole groups, so a pair counts as often as its group was drawn. Counts are then one matrix product
of weights and sums per group. Ranking metrics are read from one order, sorted once.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mentallam.evaluation.arrays import checked_labels, checked_pairs
from mentallam.evaluation.counts import (
    FN,
    FP,
    TN,
    TP,
    Values,
    WeightedPairs,
    Weights,
    confusion_sums,
    f1_of,
    ratio,
    weighted_counts,
)
from mentallam.evaluation.metrics import METRICS

HEADLINE = tuple(metric.name for metric in METRICS if metric.weighted is not None)
"""The metrics with intervals, in the order of `WeightedMetrics`' first columns."""


class WeightedMetrics:
    """The headline metrics and the F1 of each criterion, for any weights of the groups.

    Each value is scikit-learn's with `sample_weight`, except that it is NaN where the pairs of positive weight do not
    define it: precision, recall, F1 (of all pairs or of a criterion) and macro F1 without a positive pair; the number
    needed to read without a true positive; the metrics that need both labels without both. Precision without a positive
    prediction is 0. Macro F1 is the mean over the criteria with a positive pair of positive weight.

    Attributes:
        criteria: The criteria of the table, sorted; their F1 are the columns after `HEADLINE`.
    """

    def __init__(self, pairs: pd.DataFrame, unit: ArrayLike, n_units: int, rank: ArrayLike | None = None) -> None:
        """Sum and sort once.

        Args:
            pairs: Columns criterion_id, label, probability, prediction; n rows.
            unit: The position of each row's weight, from 0 to n_units - 1, shape (n,).
            n_units: Number of weights.
            rank: What ROC-AUC and average precision rank by, shape (n,); the probability by default.

        Raises:
            MentallamError: No pair, or a value out of range.
        """
        labels, probabilities = checked_pairs(pairs["label"], pairs["probability"])
        units = np.asarray(unit, np.intp)
        criteria, criterion = np.unique(pairs["criterion_id"].to_numpy(str), return_inverse=True)
        self.criteria: list[str] = criteria.tolist()
        self._counts = confusion_sums(labels, checked_labels(pairs["prediction"]), criterion, units, n_units)
        self._losses = _loss_sums(labels, probabilities, units, n_units)
        self._ranking = _Ranking(labels, probabilities if rank is None else np.asarray(rank, np.float64), units)

    def __call__(self, weights: Weights) -> Values:
        """Return the metrics under each weighting.

        Args:
            weights: Not negative, shape (b, n_units).

        Returns:
            Shape (b, number of `HEADLINE` + number of criteria); NaN where not defined.
        """
        pairs = self._weighted(weights)
        counts = pairs.counts
        has_both = (counts[:, [TN, FP]].sum(axis=1) > 0) & (counts[:, [FN, TP]].sum(axis=1) > 0)
        headline = [
            np.where(has_both | (not metric.needs_both_labels), metric.weighted(pairs), np.nan)
            for metric in METRICS
            if metric.weighted is not None
        ]
        return np.column_stack([*headline, pairs.criterion_f1])

    def _weighted(self, weights: Weights) -> WeightedPairs:
        per_criterion = weighted_counts(weights, self._counts)
        counts = per_criterion.sum(axis=1)
        losses = (weights @ self._losses) / counts.sum(axis=1, keepdims=True)
        roc_auc, average_precision = self._ranking.scores(weights)
        return WeightedPairs(
            counts=counts,
            criterion_f1=f1_of(per_criterion),
            brier=losses[:, 0],
            log_loss=losses[:, 1],
            roc_auc=roc_auc,
            average_precision=average_precision,
        )


def ranks(scores: ArrayLike) -> Values:
    """Rank scores; equal ones share their mean rank, so ROC-AUC does not change.

    Args:
        scores: Shape (n,).

    Returns:
        1 (the lowest) to n, shape (n,).
    """
    places: Values = rankdata(scores)
    return places


def _loss_sums(labels: NDArray[np.int8], probabilities: Values, unit: NDArray[np.intp], n_units: int) -> Values:
    """Sum squared error and negative log-likelihood over each unit's pairs, shape (n_units, 2)."""
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

    def scores(self, weights: Weights) -> tuple[Values, Values]:
        """Return ROC-AUC (trapezoids) and average precision under each weighting, shape (b,) each; else NaN."""
        drawn = weights[:, self._unit]
        caught = np.cumsum(drawn, axis=1)[:, self._ends]
        hits = np.cumsum(drawn * self._positive, axis=1)[:, self._ends]
        alarms = caught - hits
        more_hits = np.diff(hits, axis=1, prepend=0)
        more_alarms = np.diff(alarms, axis=1, prepend=0)
        precision = np.divide(hits, caught, out=np.zeros_like(hits), where=caught > 0)
        return (
            ratio((more_alarms * (hits - more_hits / 2)).sum(axis=1), hits[:, -1] * alarms[:, -1]),
            ratio((more_hits * precision).sum(axis=1), hits[:, -1]),
        )
