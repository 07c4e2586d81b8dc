"""The table of metrics, and metrics of pairs (micro), per criterion and over folds."""

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeAlias

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
    roc_auc_score,
)

from mentallam.config import DecisionConfig
from mentallam.errors import MentallamError
from mentallam.evaluation.arrays import Labels, Probabilities, checked_labels, checked_pairs
from mentallam.evaluation.calibration import expected_calibration_error
from mentallam.evaluation.counts import (
    Values,
    WeightedPairs,
    accuracy_of,
    balanced_accuracy_of,
    f1_of,
    macro_f1_of,
    matthews_of,
    precision_of,
    reads_per_match_of,
    recall_of,
)
from mentallam.evaluation.decision import choose_thresholds
from mentallam.evaluation.resampling import number

PairMetrics: TypeAlias = dict[str, Any]
"""Metric name to a float, or to None where the pairs lack a label that the metric needs."""


def _reads_per_match(labels: Labels, predictions: Labels) -> float:
    hits = int((labels & predictions).sum())
    return int(predictions.sum()) / hits if hits else math.nan


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: Key in files and in MLflow.
        label: How pages call it.
        range: From the lowest value to the highest.
        definition: What it is, with its source; follows "is the" in a sentence.
        plain: From checked labels, probabilities and predictions, shape (n,) each, to the value, NaN where it is not
            defined; None for a metric that is not one of a single set of pairs.
        weighted: From the pairs under b weightings to the value under each, shape (b,); None for a metric without
            intervals.
        less_is_better: Whether a lower value is better.
        needs_positive: Whether the metric is undefined where no pair is positive.
        needs_both_labels: Whether the metric is undefined where all pairs have the same label.
    """

    name: str
    label: str
    range: str
    definition: str
    plain: Callable[[Labels, Probabilities, Labels], float] | None = None
    weighted: Callable[[WeightedPairs], Values] | None = None
    less_is_better: bool = False
    needs_positive: bool = False
    needs_both_labels: bool = False


METRICS = (
    Metric(
        "f1",
        "F1",
        "0 to 1",
        "harmonic mean of precision and recall (van Rijsbergen 1979)",
        plain=lambda labels, _, predictions: f1_score(labels, predictions, zero_division=0),
        weighted=lambda pairs: f1_of(pairs.counts),
        needs_positive=True,
    ),
    Metric(
        "precision",
        "precision",
        "0 to 1",
        "share of positive pairs among those predicted positive; 0 if none is predicted",
        plain=lambda labels, _, predictions: precision_score(labels, predictions, zero_division=0),
        weighted=lambda pairs: precision_of(pairs.counts),
        needs_positive=True,
    ),
    Metric(
        "recall",
        "recall",
        "0 to 1",
        "share of the positive pairs that are predicted positive",
        plain=lambda labels, _, predictions: recall_score(labels, predictions, zero_division=0),
        weighted=lambda pairs: recall_of(pairs.counts),
        needs_positive=True,
    ),
    Metric(
        "number_needed_to_read",
        "number needed to read",
        "1 and above",
        "number of pairs predicted positive per positive pair among them, 1 / precision; not defined without one "
        "(Bachmann et al. 2002, JAMIA 9:653)",
        plain=lambda labels, _, predictions: _reads_per_match(labels, predictions),
        weighted=lambda pairs: reads_per_match_of(pairs.counts),
        less_is_better=True,
    ),
    Metric(
        "macro_f1",
        "macro F1",
        "0 to 1",
        "mean F1 over the criteria with a positive pair",
        weighted=lambda pairs: macro_f1_of(pairs.criterion_f1),
    ),
    Metric(
        "accuracy",
        "accuracy",
        "0 to 1",
        "share of the pairs that are predicted as labelled",
        plain=lambda labels, _, predictions: accuracy_score(labels, predictions),
        weighted=lambda pairs: accuracy_of(pairs.counts),
    ),
    Metric(
        "balanced_accuracy",
        "balanced accuracy",
        "0 to 1",
        "mean of the shares of positive and of negative pairs that are predicted as labelled (Brodersen et al. 2010)",
        plain=lambda labels, _, predictions: balanced_accuracy_score(labels, predictions),
        weighted=lambda pairs: balanced_accuracy_of(pairs.counts),
        needs_both_labels=True,
    ),
    Metric(
        "mcc",
        "Matthews correlation",
        "-1 to 1",
        "correlation between label and prediction (Matthews 1975)",
        plain=lambda labels, _, predictions: matthews_corrcoef(labels, predictions),
        weighted=lambda pairs: matthews_of(pairs.counts),
        needs_both_labels=True,
    ),
    Metric(
        "roc_auc",
        "ROC-AUC",
        "0 to 1",
        "probability that a positive pair scores above a negative one; a tie counts half (Hanley and McNeil 1982)",
        plain=lambda labels, probabilities, _: roc_auc_score(labels, probabilities),
        weighted=attrgetter("roc_auc"),
        needs_both_labels=True,
    ),
    Metric(
        "average_precision",
        "average precision",
        "0 to 1",
        "mean precision over the steps of the precision-recall curve, weighted by their gain in recall "
        "(scikit-learn's definition, without interpolation)",
        plain=lambda labels, probabilities, _: average_precision_score(labels, probabilities),
        weighted=attrgetter("average_precision"),
        needs_both_labels=True,
    ),
    Metric(
        "brier",
        "Brier score",
        "0 to 1",
        "mean squared difference between probability and label (Brier 1950)",
        plain=lambda labels, probabilities, _: brier_score_loss(labels, probabilities),
        weighted=attrgetter("brier"),
        less_is_better=True,
    ),
    Metric(
        "log_loss",
        "log loss",
        "0 and above, in nats",
        "mean negative log-likelihood of the labels (Good 1952)",
        plain=lambda labels, probabilities, _: log_loss(labels, probabilities, labels=[0, 1]),
        weighted=attrgetter("log_loss"),
        less_is_better=True,
    ),
    Metric(
        "ece",
        "expected calibration error",
        "0 to 1",
        "mean distance between probability and share of positive pairs over ten bins of equally many pairs "
        "(Nixon et al. 2019, arXiv 1904.01685)",
        plain=lambda labels, probabilities, _: expected_calibration_error(labels, probabilities),
        less_is_better=True,
    ),
)
"""Every metric, in the order in which pages show them; a metric that is added here is in all of them."""

METRICS_BY_NAME = {metric.name: metric for metric in METRICS}
"""Name to metric."""


def pair_metrics(labels: ArrayLike, probabilities: ArrayLike, predictions: ArrayLike) -> PairMetrics:
    """Compute the metrics of one set of pairs; each pair counts once.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: Of label 1, from 0 to 1, shape (n,).
        predictions: 0 or 1, shape (n,).

    Returns:
        Name to value of each of `METRICS` that has a plain form.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    predictions = checked_labels(predictions)
    has_positive, has_negative = bool(labels.any()), not labels.all()
    values = {}
    for metric in METRICS:
        if metric.plain is None:
            continue
        is_defined = has_positive or not (metric.needs_positive or metric.needs_both_labels)
        is_defined = is_defined and (has_negative or not metric.needs_both_labels)
        values[metric.name] = number(metric.plain(labels, probabilities, predictions)) if is_defined else None
    # Saved summaries have precision and recall before F1, which pages show first.
    return {name: values[name] for name in dict.fromkeys(("precision", "recall", *values))}


def same_fold_f1(pairs: pd.DataFrame, options: DecisionConfig) -> float | None:
    """Compute F1 at thresholds chosen on the same pairs by the configured rule; optimistic, for comparison only.

    None without a positive pair.

    Args:
        pairs: Columns criterion_id, label, probability; one row per pair of a held-out fold.
        options: How thresholds are chosen.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    if not pairs["label"].any():
        return None
    thresholds = choose_thresholds(pairs["criterion_id"], pairs["label"], pairs["probability"], options)
    return float(f1_score(pairs["label"], thresholds.predict(pairs), zero_division=0))


def held_out_metrics(pairs: pd.DataFrame, options: DecisionConfig) -> PairMetrics:
    """Compute all metrics of one held-out fold: `pair_metrics` and `f1_same_fold`.

    Args:
        pairs: Columns criterion_id, label, probability, prediction; one row per pair of the fold.
        options: How the fold's thresholds were chosen, which `f1_same_fold` repeats on these pairs.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    return {
        **table_metrics(pairs),
        "f1_same_fold": same_fold_f1(pairs, options),
    }


def table_metrics(pairs: pd.DataFrame) -> PairMetrics:
    """Compute `pair_metrics` of a table.

    Args:
        pairs: Columns label, probability, prediction.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    return pair_metrics(pairs["label"], pairs["probability"], pairs["prediction"])


def criterion_metrics(pairs: pd.DataFrame, criteria: pd.DataFrame) -> list[dict[str, Any]]:
    """Compute the metrics of each criterion separately.

    Args:
        pairs: Columns criterion_id, label, probability, prediction; one row per pair.
        criteria: Columns criterion_id, symptom, criterion; gives names and order.

    Returns:
        One row per criterion that has pairs, in the order of `criteria`: criterion_id, symptom, n, n_positive
        and the metrics of `pair_metrics`.

    Raises:
        MentallamError: A criterion that `criteria` does not list, or a value out of range.
    """
    by_criterion = {str(criterion_id): rows for criterion_id, rows in pairs.groupby("criterion_id")}
    if unknown := sorted(by_criterion.keys() - set(criteria["criterion_id"])):
        raise MentallamError(
            f"predictions exist for the criterion {unknown[0]!r}, which the criteria do not list: "
            "the criteria changed after the training; run cv_training again"
        )
    return [
        {
            "criterion_id": criterion_id,
            "symptom": symptom,
            "n": len(rows),
            "n_positive": int(rows["label"].sum()),
            **table_metrics(rows),
        }
        for criterion_id, symptom in zip(criteria["criterion_id"], criteria["symptom"], strict=True)
        if (rows := by_criterion.get(criterion_id)) is not None
    ]


def criterion_name(row: dict[str, Any]) -> str:
    """Return the name of a criterion in tables and figures: its id, and its short name where that differs.

    Args:
        row: criterion_id and symptom.
    """
    return " ".join(dict.fromkeys([row["criterion_id"], row["symptom"]]))


def macro_f1(criterion_rows: Iterable[dict[str, Any]]) -> dict[str, float | int | None]:
    """Average F1 over the criteria that have a positive pair, as `counts.macro_f1_of` does for resamples.

    Args:
        criterion_rows: As `criterion_metrics` returns them.
    """
    return mean_and_std(row["f1"] if row["n_positive"] else None for row in criterion_rows)


def mean_and_std(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Compute mean and sample standard deviation (n - 1) of the values that are defined.

    Args:
        values: One per fold; None where the metric is not defined.

    Returns:
        mean (None without a value), std (None below two values), n (values counted).
    """
    defined = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(defined) if defined else None,
        "std": statistics.stdev(defined) if len(defined) > 1 else None,
        "n": len(defined),
    }
