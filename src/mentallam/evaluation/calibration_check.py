"""Checks of calibration on held-out pairs: what chance alone would show, slope, intercept, observed and expected.

Slope and intercept are those of logistic recalibration (Cox 1958; Van Calster et al. 2019, Calibration: the Achilles
heel of predictive analytics). A slope below 1 means probabilities that are too extreme; an intercept above 0, matches
that are more frequent than the probabilities say.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from mentallam.evaluation.arrays import Labels, Probabilities, checked_pairs
from mentallam.evaluation.calibration import equal_bins, expected_calibration_error
from mentallam.evaluation.counts import Values, Weights, ratio
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, clusters_of, interval

_LIMIT = 40.0
"""Bound of logits: beyond it a probability is 0 or 1 in double precision."""

_STEPS, _LONGEST_STEP = 100, 2.0
"""Of Newton's method."""


def check_calibration(oof: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """Check the calibration of all out-of-fold pairs together.

    Args:
        oof: Columns cluster (or group), label, probability.
        options: Number of resamples and simulations, confidence and seed.

    Returns:
        `ece` (the expected calibration error) and `ece_if_calibrated` (mean and p95, of `simulated_errors`);
        `slope`, `intercept` and `observed_to_expected`, each with its interval by the cluster bootstrap; `observed`
        (matched pairs) and `expected` (the sum of the probabilities).

    Raises:
        MentallamError: No pair, a value out of range, or fewer than two clusters.
    """
    labels, probabilities = checked_pairs(oof["label"], oof["probability"])
    cluster, n_clusters = clusters_of(oof)
    errors = simulated_errors(probabilities, options)
    estimate, draws = bootstrap(_Recalibration(labels, probabilities, cluster), n_clusters, len(labels), options)
    return {
        "ece": expected_calibration_error(labels, probabilities),
        "ece_if_calibrated": {"mean": float(errors.mean()), "p95": float(np.quantile(errors, 0.95))},
        **{
            name: interval(estimate[place], draws[:, place], options.confidence)
            for place, name in enumerate(("slope", "intercept", "observed_to_expected"))
        },
        "observed": int(labels.sum()),
        "expected": float(probabilities.sum()),
    }


def simulated_errors(probabilities: ArrayLike, options: UncertaintyOptions) -> Values:
    """Simulate the calibration error that perfectly calibrated probabilities show by chance alone.

    Each simulation draws every label from its probability, independently, and computes the error. (Bröcker and Smith
    2007, Increasing the reliability of reliability diagrams, do the same for each bin.)

    Args:
        probabilities: From 0 to 1, shape (n,).
        options: Number of simulations (`resamples`) and seed.

    Returns:
        The errors, shape (resamples,).
    """
    scores = np.asarray(probabilities, np.float64)
    bins = equal_bins(scores)
    order = np.argsort(bins, kind="stable")
    scores, starts = scores[order], np.flatnonzero(np.diff(bins[order], prepend=-1))
    rng = np.random.default_rng(options.seed)
    expected = np.add.reduceat(scores, starts)
    errors = np.empty(options.resamples)
    for number in range(options.resamples):
        observed = np.add.reduceat((rng.random(len(scores)) < scores).astype(np.float64), starts)
        errors[number] = np.abs(observed - expected).sum() / len(scores)
    return errors


class _Recalibration:
    """Slope, intercept and ratio of observed to expected matches of the pairs, under weights of their groups."""

    def __init__(self, labels: Labels, probabilities: Probabilities, group: NDArray[np.intp]) -> None:
        self._labels, self._probabilities, self._group = labels, probabilities, group

    def __call__(self, weights: Weights) -> Values:
        """Return slope, intercept and ratio under each weighting of shape (b, n_groups), as (b, 3)."""
        drawn = weights[:, self._group]
        slope, intercept = recalibrate(self._labels, self._probabilities, drawn)
        return np.column_stack([slope, intercept, ratio(drawn @ self._labels, drawn @ self._probabilities)])


def recalibrate(labels: Labels, probabilities: Probabilities, weights: Weights) -> tuple[Values, Values]:
    """Fit slope and intercept of logistic recalibration by maximum likelihood, without a penalty.

    Newton's method runs for all weightings at once; scikit-learn's regression, one by one, takes several times as
    long (docs/adr/0039). A test holds both equal.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        weights: How often each pair counts, not negative, shape (b, n).

    Returns:
        The slope of a logistic regression of label on logit, which has an intercept of its own, shape (b,); and the
        intercept where the slope is 1, which is calibration in the large, shape (b,). NaN where no finite value is the
        best: the intercept without both labels, the slope also where some logit separates the labels.
    """
    positive = labels == 1
    with np.errstate(divide="ignore"):
        logits = np.clip(logit(probabilities), -_LIMIT, _LIMIT)
    matched, unmatched = weights[:, positive], weights[:, ~positive]
    has_both = matched.any(axis=1) & unmatched.any(axis=1)
    slope, intercept = np.full((2, len(weights)), np.nan)
    intercept[has_both] = _newton(np.ones((1, len(logits))), logits, labels, weights[has_both])[:, 0]
    (low, high), (low_unmatched, high_unmatched) = (
        (
            np.where(drawn > 0, scores, np.inf).min(axis=1, initial=np.inf),
            np.where(drawn > 0, scores, -np.inf).max(axis=1, initial=-np.inf),
        )
        for drawn, scores in ((matched, logits[positive]), (unmatched, logits[~positive]))
    )
    overlap = has_both & (low < high_unmatched) & (low_unmatched < high)
    terms = np.stack([np.ones_like(logits), logits])
    slope[overlap] = _newton(terms, np.zeros_like(logits), labels, weights[overlap])[:, 1]
    return slope, intercept


def _newton(terms: Values, offset: Values, labels: Labels, weights: Weights) -> Values:
    """Fit logistic regressions of the labels on the terms, one per weighting.

    Args:
        terms: Shape (k, n).
        offset: Added to each logit, shape (n,).
        labels: 0 or 1, shape (n,).
        weights: Shape (b, n).

    Returns:
        Coefficients, shape (b, k); NaN where Newton's method did not converge.
    """
    found = np.zeros((len(weights), len(terms)))
    if len(weights) > 1:  # the fit to the mean of the weightings is near all of theirs, which saves steps
        found += np.nan_to_num(_newton(terms, offset, labels, weights.mean(axis=0, keepdims=True)))
    products = (terms[:, None] * terms).reshape(-1, terms.shape[1])
    for _ in range(_STEPS):
        fitted = expit(found @ terms + offset)
        gradient = (weights * (labels - fitted)) @ terms.T
        if (done := np.abs(gradient).max(axis=1, initial=0) < 1e-8 * weights.sum(axis=1)).all():
            break
        curvature = (weights * fitted * (1 - fitted) @ products.T).reshape(len(weights), len(terms), len(terms))
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(terms)), gradient[..., None])[..., 0]
        # Where the probabilities are extreme a full step can overshoot, so it is bounded.
        found += np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
    return np.where(done[:, None], found, np.nan)
