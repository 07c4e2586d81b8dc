"""The folds of a cross-validation as one model: how their mean is calibrated, and how two of them score unseen posts.

A fold's log-odds are its calibrated scores, slope x logit + intercept. The ensemble takes their mean. A mean of
calibrated scores is underconfident: the errors that the folds don't share cancel, so the mean deserves more confidence
than each of them has. How much more depends on the share that cancels, and that share can be seen. A post in the dev
split of fold k is held out by another fold j, and neither of the two was trained on it. Such posts give the correlation
of two folds' log-odds on posts that both have not seen, and the scores of an ensemble of two.

No post is unseen by more than two folds, so an ensemble of all folds can't be scored by a cross-validation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from mentallam.evaluation.arrays import has_one_label
from mentallam.evaluation.calibration import Calibration, fit_calibration
from mentallam.evaluation.decision import Decision
from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.thresholds import predict_labels

_PAIR = ["post_id", "criterion_id"]
_METRICS = ("f1", "average_precision", "brier", "log_loss", "ece")


def calibrate_ensemble(
    method: str, held_out: Sequence[pd.DataFrame], dev: Sequence[pd.DataFrame], results: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Calibrate the mean of all folds, and score the calibrated means of two folds on posts unseen by both.

    Args:
        method: `decision.calibration`; with `none` the mean stays as it is.
        held_out: The predictions of each fold's held-out pairs: post_id, criterion_id, group, label, logit.
        dev: The predictions of each fold's dev pairs.
        results: The results of the folds, with `cv_run_id` and `decision`; in the order of the tables.

    Returns:
        JSON-serialisable: `cv_run_id`, `n_folds`, `slope` and `intercept` of the mean log-odds, `correlation` (None
        where no pair is unseen by two folds), and `two_folds`: what `score_two_folds` returns, or None.
    """
    decisions = [Decision.from_dict(result["decision"]) for result in results]
    alone = pd.concat(
        [
            table.assign(
                fold=fold,
                log_odds=decision.calibration.log_odds(table["logit"]),
                threshold=decision.thresholds.of(table["criterion_id"].tolist()),
            )
            for fold, (table, decision) in enumerate(zip(held_out, decisions, strict=True))
        ],
        ignore_index=True,
    )
    both = unseen_by_two(method, alone, dev, decisions)
    correlation = within_label_correlation(both) if len(both) else None
    calibration = fit_mean(method, alone, correlation, len(results))
    return {
        "cv_run_id": results[0]["cv_run_id"],
        "n_folds": len(results),
        **asdict(calibration),
        "correlation": correlation,
        "two_folds": score_two_folds(method, alone, both) if len(both) else None,
    }


def unseen_by_two(
    method: str, alone: pd.DataFrame, dev: Sequence[pd.DataFrame], decisions: Sequence[Decision]
) -> pd.DataFrame:
    """Return the pairs that two folds scored and neither was trained on.

    The calibration of the fold that has the post in its dev split was fitted with its label. It is fitted again on the
    dev posts that the other fold does not hold out; where these have one label, their pairs are left out.

    Args:
        method: How the folds are calibrated.
        alone: Held-out pairs: post_id, criterion_id, group, label, fold, log_odds, threshold.
        dev: Dev predictions of each fold.
        decisions: The folds' decisions.

    Returns:
        The columns of `alone`, and log_odds_other and threshold_other of the fold that has the post in its dev split.
    """
    found = []
    for table, decision in zip(dev, decisions, strict=True):
        both = alone.merge(table[[*_PAIR, "logit"]], on=_PAIR, suffixes=("", "_other"), validate="one_to_one")
        for _, rows in both.groupby("fold"):
            others = both.drop(rows.index)
            if others.empty or has_one_label(others["label"]):
                continue
            calibration = fit_calibration(method, others["label"], others["logit_other"], "dev pairs of other folds")
            found.append(
                rows.assign(
                    log_odds_other=calibration.log_odds(rows["logit_other"]),
                    threshold_other=decision.thresholds.of(rows["criterion_id"].tolist()),
                )
            )
    return pd.concat(found, ignore_index=True) if found else alone.iloc[:0]


def within_label_correlation(both: pd.DataFrame) -> float:
    """Return the correlation of two folds' log-odds among pairs of the same label, from 0 to 1.

    It is the intraclass correlation of two measurements that can change places (Fisher 1925), around the mean of each
    label: what two folds share beyond the label.

    Args:
        both: label, log_odds, log_odds_other.
    """
    scores = both[["log_odds", "log_odds_other"]].to_numpy()
    label_mean = both.groupby("label")[["log_odds", "log_odds_other"]].transform("mean").mean(axis=1).to_numpy()
    deviations = scores - label_mean[:, None]
    variance = np.square(deviations).mean()
    if not variance > 0:
        return 1.0
    return float(np.clip(deviations.prod(axis=1).mean() / variance, 0, 1))


def fit_mean(method: str, alone: pd.DataFrame, correlation: float | None, n_folds: int) -> Calibration:
    """Fit the calibration of the mean log-odds of several folds.

    First one calibration for all folds is fitted on the held-out pairs, whose labels no fold has seen. Then the result
    is stretched around the log-odds of the base rate by 1 / (r + (1 - r) / K). For scores that are normal within each
    label, with equal variances and a correlation r between folds, this is exact: the mean of K has the variance
    r + (1 - r) / K of one fold's, the same means, and the log-odds of a normal score have the slope (distance of
    the means) / variance (linear discriminant analysis; Fisher 1936).

    Args:
        method: `decision.calibration`; none fits nothing.
        alone: label and log_odds of held-out pairs.
        correlation: r; None takes 1, which stretches nothing.
        n_folds: K.
    """
    if method == "none" or has_one_label(alone["label"]):
        return Calibration()
    of_one = fit_calibration(method, alone["label"], alone["log_odds"], "the held-out pairs")
    shared = 1.0 if correlation is None else correlation
    stretch = 1 / (shared + (1 - shared) / n_folds)
    base_rate = float(logit((alone["label"].sum() + 1) / (len(alone) + 2)))
    return Calibration(stretch * of_one.slope, base_rate + stretch * (of_one.intercept - base_rate))


def score_two_folds(method: str, alone: pd.DataFrame, both: pd.DataFrame) -> dict[str, Any]:
    """Score two folds together, and each of them alone, on posts that neither was trained on.

    The pairs of each held-out fold are scored with a calibration from the other folds' pairs.

    Args:
        method: `decision.calibration`.
        alone: As in `unseen_by_two`.
        both: What `unseen_by_two` returned.

    Returns:
        `n_pairs`, `n_positive`, `n_posts`, and metrics by name of `members` (the mean of the two folds alone),
        `mean_probability` (uncalibrated) and `calibrated`.
    """
    mean = both[["log_odds", "log_odds_other"]].mean(axis=1).to_numpy()
    threshold = both[["threshold", "threshold_other"]].mean(axis=1).to_numpy()
    calibrated = np.empty(len(both))
    for fold, rows in both.groupby("fold").indices.items():
        others = both[both["fold"] != fold]
        correlation = within_label_correlation(others) if len(others) else None
        calibration = fit_mean(method, alone[alone["fold"] != fold], correlation, 2)
        calibrated[rows] = calibration.probabilities(mean[rows])
    first, second = expit(both["log_odds"].to_numpy()), expit(both["log_odds_other"].to_numpy())
    members = [
        _scores(both, first, both["threshold"].to_numpy()),
        _scores(both, second, both["threshold_other"].to_numpy()),
    ]
    return {
        "n_pairs": len(both),
        "n_positive": int(both["label"].sum()),
        "n_posts": int(both["post_id"].nunique()),
        "members": {name: _mean([scores[name] for scores in members]) for name in _METRICS},
        "mean_probability": _scores(both, (first + second) / 2, threshold),
        "calibrated": _scores(both, calibrated, threshold),
    }


def _scores(
    pairs: pd.DataFrame, probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> dict[str, float | None]:
    metrics = pair_metrics(pairs["label"], probabilities, predict_labels(probabilities, thresholds))
    return {name: metrics[name] for name in _METRICS}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None
