"""Net benefit of reading what a model marks, against reading all pairs or none: decision curve analysis.

Vickers and Elkin 2006, Decision curve analysis: a novel method for evaluating prediction models, Med Decis Making
26:565. At a threshold probability p, a missed match is worth (1 - p) / p false alarms. The net benefit is the share of
true positives, minus the share of false positives times p / (1 - p). Its unit is matches found per pair.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mentallam.evaluation.arrays import checked_pairs
from mentallam.evaluation.counts import FN, FP, TP, Values, Weights, confusion_sums, weighted_counts
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, clusters_of, interval
from mentallam.evaluation.thresholds import predict_labels

THRESHOLDS: NDArray[np.float64] = np.arange(1, 51) / 100
"""From 99 false alarms for a missed match to one; screening, where a miss is worse, never lies above."""


def net_benefit(true_positive: Values, false_positive: Values, thresholds: Values) -> Values:
    """Return the net benefit.

    Args:
        true_positive: Share of all pairs that are marked and match, shape (..., m).
        false_positive: Share of all pairs that are marked and don't match, shape (..., m).
        thresholds: Above 0 and below 1, shape (m,).
    """
    return true_positive - false_positive * thresholds / (1 - thresholds)


def decision_curve(oof: pd.DataFrame, options: UncertaintyOptions) -> list[dict[str, Any]]:
    """Compute the net benefit of a model over threshold probabilities, with intervals by the cluster bootstrap.

    Args:
        oof: Columns cluster (or group), label, probability.
        options: Number of resamples, confidence and seed.

    Returns:
        A row per threshold of `THRESHOLDS`: threshold, and the intervals of `model` (read the pairs whose probability
        reaches the threshold), `read_all` (Vickers and Elkin's "treat all") and `gain` (model minus read_all). Reading
        none ("treat none") has a net benefit of 0.

    Raises:
        MentallamError: No pair, a value out of range, or fewer than two clusters.
    """
    labels, probabilities = checked_pairs(oof["label"], oof["probability"])
    cluster, n_clusters = clusters_of(oof)
    marked = (predict_labels(probabilities, threshold) for threshold in THRESHOLDS)
    one_part = np.zeros_like(cluster)
    sums = np.concatenate(
        [confusion_sums(labels, predicted, one_part, cluster, n_clusters) for predicted in marked], axis=1
    )

    def statistic(weights: Weights) -> Values:
        counts = weighted_counts(weights, sums)
        shares = counts / counts.sum(axis=2, keepdims=True)
        base_rate = shares[:, :1, TP] + shares[:, :1, FN]
        model = net_benefit(shares[..., TP], shares[..., FP], THRESHOLDS)
        read_all = net_benefit(base_rate, 1 - base_rate, THRESHOLDS)
        return np.stack([model, read_all, model - read_all], axis=2).reshape(len(weights), -1)

    estimate, draws = bootstrap(statistic, n_clusters, len(labels), options)
    found = [interval(value, draws[:, place], options.confidence) for place, value in enumerate(estimate)]
    return [
        {"threshold": float(threshold), "model": model, "read_all": read_all, "gain": gain}
        for threshold, model, read_all, gain in zip(THRESHOLDS, found[::3], found[1::3], found[2::3], strict=True)
    ]


def useful_thresholds(curve: list[dict[str, Any]]) -> list[float]:
    """Return the thresholds at which the intervals exclude that reading all, or none, is at least as good.

    Args:
        curve: As `decision_curve` returns it.
    """
    return [row["threshold"] for row in curve if min(row["model"]["low"], row["gain"]["low"]) > 0]
