"""From a logit to a decision: calibration and thresholds, both fitted on the pairs of a dev split."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mentallam.config import DecisionConfig
from mentallam.evaluation.arrays import Labels, has_one_label
from mentallam.evaluation.calibration import Calibration, fit_calibration
from mentallam.evaluation.thresholds import NO_POSITIVES_THRESHOLD, ThresholdRule, best_threshold, predict_labels

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Thresholds:
    """The probability from which a pair counts as matched.

    Attributes:
        common: For every criterion that is not in `by_criterion`.
        by_criterion: Criterion id to threshold.
    """

    common: float
    by_criterion: Mapping[str, float] = field(default_factory=dict)

    def of(self, criterion_ids: Sequence[str]) -> NDArray[np.float64]:
        """Return the threshold of each pair, (n,), by its criterion."""
        return np.array([self.by_criterion.get(criterion, self.common) for criterion in criterion_ids], np.float64)

    def predict(self, pairs: pd.DataFrame) -> Labels:
        """Predict pairs with columns criterion_id and probability: int8, (n,)."""
        return predict_labels(pairs["probability"], self.of(pairs["criterion_id"].tolist()))


@dataclass(frozen=True)
class Decision:
    """Calibration and thresholds of one fold; a part of its checkpoint."""

    calibration: Calibration
    thresholds: Thresholds

    def decide(self, pairs: pd.DataFrame) -> pd.DataFrame:
        """Add probability (calibrated), threshold and prediction to pairs with columns criterion_id and logit."""
        probability = self.calibration.probabilities(pairs["logit"])
        threshold = self.thresholds.of(pairs["criterion_id"].tolist())
        return pairs.assign(
            probability=probability, threshold=threshold, prediction=predict_labels(probability, threshold)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for saving."""
        return {
            **asdict(self.calibration),
            "threshold": self.thresholds.common,
            "by_criterion": dict(self.thresholds.by_criterion),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "Decision":
        """Restore a decision from what `to_dict` returned."""
        return cls(Calibration.from_dict(saved), Thresholds(saved["threshold"], saved["by_criterion"]))


def fit_decision(dev: pd.DataFrame, options: DecisionConfig, name: str = "the dev pairs") -> Decision:
    """Fit calibration, then thresholds on the calibrated probabilities, both on the same dev pairs.

    Where all dev pairs have the same label, nothing is fitted: the probability is the logit's sigmoid, the threshold
    is 0.5 for all criteria, and a warning is logged.

    Args:
        dev: Columns criterion_id, label, logit; the pairs of a dev split.
        options: Method of calibration, and how thresholds are chosen.
        name: The name of these pairs in warnings.

    Raises:
        MentallamError: No pair, or a label that is not 0 or 1.
    """
    if has_one_label(dev["label"]):
        logger.warning(
            "%s are all %s (%d), so nothing is fitted: probabilities are not calibrated, and the threshold is %s",
            name,
            "matched" if dev["label"].iloc[0] else "unmatched",
            len(dev),
            NO_POSITIVES_THRESHOLD,
        )
        return Decision(Calibration(), Thresholds(NO_POSITIVES_THRESHOLD))
    calibration = fit_calibration(options.calibration, dev["label"], dev["logit"], name)
    probabilities = calibration.probabilities(dev["logit"])
    return Decision(calibration, choose_thresholds(dev["criterion_id"], dev["label"], probabilities, options))


def choose_thresholds(
    criterion_ids: ArrayLike, labels: ArrayLike, probabilities: ArrayLike, options: DecisionConfig
) -> Thresholds:
    """Choose the best threshold of all pairs and, with scope per_criterion, one per criterion, shrunk towards it.

    The best threshold of a criterion depends on its n+ matched pairs; with few of them it is mostly noise. It gets
    the weight n+ / (n+ + k) and the common threshold k / (n+ + k), with k = `options.prior_strength`: the posterior
    mean under a normal prior around the common threshold that is worth k matched pairs (empirical Bayes with k given,
    not estimated; Efron and Morris 1975).

    Args:
        criterion_ids: Shape (n,).
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        options: scope, prior_strength and the rule that thresholds are chosen by.
    """
    rule = threshold_rule(options)
    common = best_threshold(labels, probabilities, rule).threshold
    if options.scope == "global":
        return Thresholds(common)
    table = pd.DataFrame({"criterion_id": criterion_ids, "label": labels, "probability": probabilities})
    by_criterion = {}
    for criterion_id, rows in table.groupby("criterion_id"):
        positives = int(rows["label"].sum())
        if positives:
            weight = positives / (positives + options.prior_strength)
            best = best_threshold(rows["label"], rows["probability"], rule).threshold
            by_criterion[str(criterion_id)] = weight * best + (1 - weight) * common
    return Thresholds(common, by_criterion)


def threshold_rule(options: DecisionConfig) -> ThresholdRule:
    """Return the rule by which the options choose a threshold."""
    return ThresholdRule(options.beta, options.min_recall, options.smoothing)


def describe(options: DecisionConfig) -> str:
    """Put the options into words, for reports."""
    calibration = {"none": "not calibrated", "temperature": "scaled by a temperature", "platt": "Platt-scaled"}
    scope = "one threshold for all criteria"
    if options.scope == "per_criterion":
        scope = (
            "a threshold per criterion, shrunk towards the common one as if that rested on "
            f"{options.prior_strength:g} matched pairs"
        )
    return f"probabilities {calibration[options.calibration]}; {scope}, by {threshold_rule(options).describe()}"
