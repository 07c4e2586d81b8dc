"""Calibration: from logits to probabilities, and the distance between probabilities and observed shares."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit

from mentallam.evaluation.arrays import Probabilities, checked_labels, checked_pairs

logger = logging.getLogger(__name__)

_WHY_NO_SLOPE = {
    "platt": "are ranked no better than by chance",
    # Well-ranked logits may be shifted so far that a negative slope fits better than any temperature.
    "temperature": "fit no temperature (decision.calibration=platt can also shift them)",
}


@dataclass(frozen=True)
class Calibration:
    """p = sigmoid(slope * logit + intercept); the slope is above 0, so the order of pairs is kept."""

    slope: float = 1.0
    intercept: float = 0.0

    def log_odds(self, logits: ArrayLike) -> NDArray[np.float64]:
        """Return the calibrated log-odds of label 1, (n,) float64, for logits, (n,)."""
        return np.asarray(self.slope * np.asarray(logits, np.float64) + self.intercept)

    def probabilities(self, logits: ArrayLike) -> Probabilities:
        """Return calibrated probabilities of label 1, (n,) float64, for logits, (n,)."""
        calibrated: Probabilities = expit(self.log_odds(logits))
        return calibrated

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Calibration":
        """Restore a calibration from slope and intercept among plain values.

        Raises:
            KeyError, TypeError, ValueError: They are missing, or are no numbers.
        """
        return cls(float(saved["slope"]), float(saved["intercept"]))


def fit_calibration(method: str, labels: ArrayLike, logits: ArrayLike, name: str = "the dev pairs") -> Calibration:
    """Fit a calibration by maximum likelihood.

    `temperature` is a slope alone (Guo et al. 2017, arXiv 1706.04599), `platt` slope and intercept, with Platt's
    targets (Platt 1999, "Probabilistic outputs for support vector machines"): (n+ + 1) / (n+ + 2) for a matched
    pair and 1 / (n- + 2) for an unmatched one, which keep the fit finite where the logits separate the labels.

    Args:
        method: none, temperature or platt.
        labels: 0 or 1, shape (n,).
        logits: Shape (n,).
        name: The name of these pairs in warnings.

    Returns:
        The calibration; the identity for `none` and, with a warning, where all labels are the same. Where the fit
        would reverse the order of the pairs, the slope stays 1, with a warning, and `platt` only shifts the mean.

    Raises:
        MentallamError: No pair, or a label that is not 0 or 1.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import; only a fit needs it

    positive, scores = checked_labels(labels) == 1, np.asarray(logits, np.float64)
    if method == "none":
        return Calibration()
    if not positive.any() or positive.all():
        logger.warning("%s have the same label, so probabilities are not calibrated", name)
        return Calibration()
    target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    # A target t between the labels is a matched pair of weight t and an unmatched one of weight 1 - t.
    # Logits are divided by their spread: the solver stops at a small gradient, which small logits have from the start.
    centre = scores.mean() if method == "platt" else 0.0
    spread = max(float(np.sqrt(np.mean((scores - centre) ** 2))), 1e-6)
    standardised = (scores - centre) / spread
    fitted = LogisticRegression(C=np.inf, fit_intercept=method == "platt").fit(
        np.concatenate([standardised, standardised])[:, None],
        np.repeat([1, 0], len(target)),
        sample_weight=np.concatenate([target, 1 - target]),
    )
    slope = float(fitted.coef_[0, 0]) / spread
    if slope <= 0:
        logger.warning("%s %s; the slope stays 1", name, _WHY_NO_SLOPE[method])
        return Calibration(1.0, _shift_to_rate(scores, float(target.mean())) if method == "platt" else 0.0)
    return Calibration(slope, float(np.ravel(fitted.intercept_)[0]) - slope * float(centre))


def _shift_to_rate(scores: NDArray[np.float64], rate: float) -> float:
    """Find the intercept at which the mean probability is the rate."""
    reach = float(np.abs(scores).max()) + 40.0  # a mean probability of about 0 or 1
    return float(brentq(lambda intercept: expit(scores + intercept).mean() - rate, -reach, reach))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Compare mean probability and observed share of positive pairs in bins of equally many pairs.

    With one positive pair in ten, nearly all pairs would fall into the first of ten bins of equal width.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        bins: Number of bins; fewer where pairs have equal probabilities, which always share a bin.

    Returns:
        Columns n, probability (mean), observed (share of label 1), in ascending order of probability.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    table = pd.DataFrame({"label": labels, "probability": probabilities})
    grouped = table.groupby(equal_bins(probabilities, bins))
    return pd.DataFrame(
        {"n": grouped.size(), "probability": grouped["probability"].mean(), "observed": grouped["label"].mean()}
    ).reset_index(drop=True)


def equal_bins(probabilities: Probabilities, bins: int = 10) -> NDArray[np.intp]:
    """Return the bin of each pair, 0, 1, ..., of `reliability`, shape (n,).

    Args:
        probabilities: From 0 to 1, shape (n,).
        bins: As in `reliability`.
    """
    bin_of_pair = pd.qcut(probabilities, min(bins, len(probabilities)), duplicates="drop", labels=False)
    # Where all probabilities are equal, pandas makes no bin.
    return np.nan_to_num(np.asarray(bin_of_pair, np.float64)).astype(np.intp)


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Average the distance between probability and observed share over the bins of `reliability`, weighted by pairs.

    Bins hold equally many pairs (Nixon et al. 2019, arXiv 1904.01685). Even a perfect model has an error above 0; it
    grows as the pairs per bin become fewer.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        bins: As in `reliability`.
    """
    table = reliability(labels, probabilities, bins)
    return float(np.average((table["probability"] - table["observed"]).abs(), weights=table["n"]))
