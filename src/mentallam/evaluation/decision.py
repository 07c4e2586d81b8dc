"""From a logit to a decision: calibration and thresholds, all of it fitted on one table of pairs, the dev split's."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mentallam.config import DecisionConfig
from mentallam.evaluation.arrays import Probabilities, has_one_label
from mentallam.evaluation.calibration import Calibration, fit_calibration
from mentallam.evaluation.thresholds import NO_POSITIVES_THRESHOLD, ThresholdRule, best_threshold, predict_labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """The probability from which a pair counts as matched.

    Attributes:
        common: For every criterion that has none of its own.
        by_criterion: Criterion id to its own.
    """

    common: float
    by_criterion: Mapping[str, float] = field(default_factory=dict)

    def of(self, criterion_ids: Sequence[str]) -> NDArray[np.float64]:
        """The threshold of each pair, (n,), by its criterion."""
        return np.array([self.by_criterion.get(criterion, self.common) for criterion in criterion_ids], np.float64)


@dataclass(frozen=True)
class Decision:
    """Calibration and thresholds of one fold; a part of its checkpoint."""

    calibration: Calibration
    thresholds: Thresholds

    def decide(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Adds probability (calibrated), threshold and prediction to pairs with columns criterion_id and logit."""
        probability = self.calibration.probabilities(pairs["logit"])
        threshold = self.thresholds.of(pairs["criterion_id"].tolist())
        return pairs.assign(
            probability=probability, threshold=threshold, prediction=predict_labels(probability, threshold)
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for saving."""
        return {
            **asdict(self.calibration),
            "threshold": self.thresholds.common,
            "by_criterion": dict(self.thresholds.by_criterion),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Decision":
        """What `to_dict` made."""
        return cls(
            Calibration(saved["slope"], saved["intercept"]), Thresholds(saved["threshold"], saved["by_criterion"])
        )


def fit_decision(dev: pd.DataFrame, options: DecisionConfig) -> Decision:
    """Fit calibration, then thresholds on the calibrated probabilities, both on the same dev pairs.

    Where all dev pairs have the same label there is nothing to fit: probabilities are the logits' sigmoid, the
    threshold is 0.5 for all criteria, and a warning is logged.

    Args:
        dev: Columns criterion_id, label, logit; the pairs of a dev split.
        options: How.

    Raises:
        MentallamError: No pair, or a label that is not 0 or 1.
    """
    if has_one_label(dev["label"]):
        logger.warning(
            "All %d dev pairs are %s, so nothing is fitted: probabilities stay as they are, and the threshold is %s",
            len(dev),
            "matched" if dev["label"].iloc[0] else "unmatched",
            NO_POSITIVES_THRESHOLD,
        )
        return Decision(Calibration(), Thresholds(NO_POSITIVES_THRESHOLD))
    calibration = fit_calibration(options.calibration, dev["label"], dev["logit"])
    probabilities = calibration.probabilities(dev["logit"])
    return Decision(calibration, choose_thresholds(dev["criterion_id"], dev["label"], probabilities, options))


def choose_thresholds(
    criterion_ids: ArrayLike, labels: ArrayLike, probabilities: Probabilities, options: DecisionConfig
) -> Thresholds:
    """The best threshold of all pairs and, if the options say so, one per criterion, drawn towards it.

    A criterion's own best threshold t hangs on its n+ matched pairs; where these are few it is mostly noise. So it
    counts as n+ / (n+ + k) and the common threshold as k / (n+ + k), with k = `options.prior_strength`: the mean of a
    normal prior around the common threshold that is worth k matched pairs (empirical Bayes with k given, not estimated;
    Efron and Morris 1975).

    Args:
        criterion_ids: Shape (n,).
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        options: scope, prior_strength and what makes a threshold good.
    """
    rule = threshold_rule(options)
    common = best_threshold(labels, probabilities, rule).threshold
    if options.scope == "global":
        return Thresholds(common)
    table = pd.DataFrame({"criterion_id": criterion_ids, "label": labels, "probability": probabilities})
    by_criterion = {}
    for criterion_id, own in table.groupby("criterion_id"):
        positives = int(own["label"].sum())
        if positives:
            weight = positives / (positives + options.prior_strength)
            best = best_threshold(own["label"], own["probability"], rule).threshold
            by_criterion[str(criterion_id)] = weight * best + (1 - weight) * common
    return Thresholds(common, by_criterion)


def threshold_rule(options: DecisionConfig) -> ThresholdRule:
    """The rule that the options describe."""
    return ThresholdRule(options.beta, options.min_recall, options.smoothing)


def describe(options: DecisionConfig) -> str:
    """The options in words, for reports."""
    calibration = {"none": "not calibrated", "temperature": "scaled by a temperature", "platt": "Platt-scaled"}
    scope = "one threshold for all criteria"
    if options.scope == "per_criterion":
        scope = (
            "a threshold per criterion, drawn to the common one as if that rested on "
            f"{options.prior_strength:g} matched pairs"
        )
    return f"probabilities {calibration[options.calibration]}; {scope}, by {threshold_rule(options).describe()}"
