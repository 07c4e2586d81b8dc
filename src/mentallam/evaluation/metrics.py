"""Metrics of the positive class over pairs (micro), per criterion, and over folds."""

import statistics
from collections.abc import Iterable
from typing import Any, TypedDict

import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    roc_auc_score,
)

from mentallam.errors import MentallamError
from mentallam.evaluation.arrays import checked_labels, checked_pairs
from mentallam.evaluation.calibration import expected_calibration_error
from mentallam.evaluation.thresholds import best_threshold


class PairMetrics(TypedDict):
    """Metrics of a set of pairs; those that can be None are so where all pairs have the same label."""

    precision: float
    recall: float
    f1: float
    accuracy: float
    balanced_accuracy: float | None
    mcc: float | None
    roc_auc: float | None
    average_precision: float | None
    brier: float
    log_loss: float
    ece: float


class FoldMetrics(PairMetrics):
    """Metrics of a held-out fold."""

    f1_same_fold: float


def pair_metrics(labels: ArrayLike, probabilities: ArrayLike, predictions: ArrayLike) -> PairMetrics:
    """The metrics of one set of pairs, each pair counting once.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: Of label 1, from 0 to 1, shape (n,).
        predictions: 0 or 1, shape (n,).

    Returns:
        precision, recall, f1 (of the positive class; 0 without a denominator), accuracy; balanced_accuracy, mcc
        (Matthews correlation), roc_auc and average_precision (None where all pairs have the same label); brier,
        log_loss (nats) and ece, of which less is better.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    predictions = checked_labels(predictions)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, average="binary", zero_division=0)
    has_both_labels = bool(labels.any() and not labels.all())
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "accuracy": float(accuracy_score(labels, predictions)),
        "balanced_accuracy": float(balanced_accuracy_score(labels, predictions)) if has_both_labels else None,
        "mcc": float(matthews_corrcoef(labels, predictions)) if has_both_labels else None,
        "roc_auc": float(roc_auc_score(labels, probabilities)) if has_both_labels else None,
        "average_precision": float(average_precision_score(labels, probabilities)) if has_both_labels else None,
        "brier": float(brier_score_loss(labels, probabilities)),
        "log_loss": float(log_loss(labels, probabilities, labels=[0, 1])),
        "ece": expected_calibration_error(labels, probabilities),
    }


def same_fold_f1(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """F1 with the threshold tuned on the very pairs it is reported on: optimistic, kept for comparison only.

    Args:
        labels: 0 or 1, shape (n,), of one held-out fold.
        probabilities: From 0 to 1, shape (n,).

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    return best_threshold(labels, probabilities).f1


def held_out_metrics(pairs: pd.DataFrame) -> FoldMetrics:
    """All metrics of one held-out fold: `pair_metrics` and `f1_same_fold`.

    Args:
        pairs: Columns label, probability, prediction; one row per pair of the fold.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    return {
        **pair_metrics(pairs["label"], pairs["probability"], pairs["prediction"]),
        "f1_same_fold": same_fold_f1(pairs["label"], pairs["probability"]),
    }


def criterion_metrics(pairs: pd.DataFrame, criteria: pd.DataFrame) -> list[dict[str, Any]]:
    """The metrics of each criterion by itself.

    Args:
        pairs: Columns criterion_id, label, probability, prediction; one row per pair.
        criteria: Columns criterion_id, symptom, criterion; gives names and order.

    Returns:
        One row per criterion that has pairs, in the order of `criteria`: criterion_id, symptom, n, n_positive
        and the metrics of `pair_metrics`.

    Raises:
        MentallamError: A criterion that `criteria` does not list, or a value out of range.
    """
    by_criterion = {str(criterion_id): own for criterion_id, own in pairs.groupby("criterion_id")}
    if unknown := sorted(by_criterion.keys() - set(criteria["criterion_id"])):
        raise MentallamError(
            f"Predictions exist for the criterion {unknown[0]!r}, which the criteria do not list: "
            "the criteria changed after the training; run cv_training again."
        )
    return [
        {
            "criterion_id": criterion_id,
            "symptom": symptom,
            "n": len(own),
            "n_positive": int(own["label"].sum()),
            **pair_metrics(own["label"], own["probability"], own["prediction"]),
        }
        for criterion_id, symptom in zip(criteria["criterion_id"], criteria["symptom"], strict=True)
        if (own := by_criterion.get(criterion_id)) is not None
    ]


def criterion_name(row: dict[str, Any]) -> str:
    """What a criterion is called in tables and figures: its id, and its short name if that says more.

    Args:
        row: criterion_id and symptom.
    """
    return " ".join(dict.fromkeys([row["criterion_id"], row["symptom"]]))


def macro_f1(criterion_rows: Iterable[dict[str, Any]]) -> dict[str, float | int | None]:
    """Mean F1 over criteria, as `mean_and_std` gives it; a criterion without a positive pair has none and is left out.

    Args:
        criterion_rows: As `criterion_metrics` returns them.
    """
    return mean_and_std(row["f1"] if row["n_positive"] else None for row in criterion_rows)


def mean_and_std(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Mean and sample standard deviation (n - 1) of the values that are defined.

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
