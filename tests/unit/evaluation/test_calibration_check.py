import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from mentallam.evaluation.calibration import expected_calibration_error
from mentallam.evaluation.calibration_check import check_calibration, recalibrate, simulated_errors
from mentallam.evaluation.resampling import UncertaintyOptions

OPTIONS = UncertaintyOptions(resamples=200, confidence=0.95, seed=0)


def table(slope: float, intercept: float, n_posts: int = 400, seed: int = 0) -> pd.DataFrame:
    """Return pairs of which label 1 has the log-odds slope * logit(probability) + intercept."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-2.5, 1.5, size=n_posts * 9)
    labels = (rng.random(len(logits)) < expit(slope * logits + intercept)).astype(np.int8)
    group = np.repeat(np.arange(n_posts), 9).astype(str)
    return pd.DataFrame({"group": group, "label": labels, "probability": expit(logits)})


def fitted_by_scikit_learn(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> float:
    regression = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    return float(regression.fit(logit(probabilities)[:, None], labels, sample_weight=weights).coef_[0, 0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 3), st.floats(-1, 1))
def test_slopes_are_scikit_learns_and_the_intercept_meets_the_observed_rate(
    seed: int, slope: float, intercept: float
) -> None:
    pairs = table(slope, intercept, n_posts=30, seed=seed)
    labels, probabilities = pairs["label"].to_numpy(), pairs["probability"].to_numpy()
    weights = np.random.default_rng(seed).integers(0, 3, size=(4, len(pairs))).astype(float)
    slopes, intercepts = recalibrate(labels, probabilities, weights)
    for row, found, shift in zip(weights, slopes, intercepts, strict=True):
        if np.isnan(found):
            scores, positive = logit(probabilities[row > 0]), labels[row > 0] == 1
            assert not positive.any() or scores[positive].min() >= scores[~positive].max()
            continue
        assert found == pytest.approx(fitted_by_scikit_learn(labels, probabilities, row), abs=1e-3)
        assert row @ expit(logit(probabilities) + shift) == pytest.approx(row @ labels)


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.5, -1.0), (1.6, 2.5)])
def test_the_intervals_hold_the_true_slope(slope: float, intercept: float) -> None:
    found = check_calibration(table(slope, intercept), OPTIONS)
    assert found["slope"]["low"] < slope < found["slope"]["high"]
    assert found["slope"]["high"] - found["slope"]["low"] < 0.5 * slope
    is_calibrated = (slope, intercept) == (1.0, 0.0)
    for name, ideal in (("intercept", 0), ("observed_to_expected", 1)):
        assert (found[name]["low"] < ideal < found[name]["high"]) == is_calibrated
    assert (found["ece"] < found["ece_if_calibrated"]["p95"]) == is_calibrated


def test_observed_and_expected_matches_are_counted(oof: pd.DataFrame) -> None:
    found = check_calibration(oof, OPTIONS)
    assert (found["observed"], found["expected"]) == (oof["label"].sum(), pytest.approx(oof["probability"].sum()))
    assert found["observed_to_expected"]["estimate"] == pytest.approx(found["observed"] / found["expected"])
    assert found["ece"] == expected_calibration_error(oof["label"], oof["probability"])


def test_simulated_errors_are_those_of_labels_drawn_from_the_probabilities() -> None:
    """The same distribution as the error of labels that are drawn one study at a time."""
    probabilities = table(1, 0, n_posts=60)["probability"].to_numpy()
    rng = np.random.default_rng(1)
    drawn = [
        expected_calibration_error(rng.random(len(probabilities)) < probabilities, probabilities) for _ in range(200)
    ]
    found = simulated_errors(probabilities, OPTIONS)
    assert found.shape == (200,)
    assert found.mean() == pytest.approx(np.mean(drawn), rel=0.1)
    assert np.quantile(found, 0.95) == pytest.approx(np.quantile(drawn, 0.95), rel=0.15)


def test_a_perfect_model_shows_less_error_on_more_pairs() -> None:
    few, many = (simulated_errors(table(1, 0, n_posts=n)["probability"], OPTIONS).mean() for n in (12, 240))
    assert few > 3 * many


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [1, 1, 1, 1]])
def test_one_label_has_neither_slope_nor_intercept(labels: list[int]) -> None:
    pairs = pd.DataFrame({"group": list("abcd"), "label": labels, "probability": [0.1, 0.2, 0.7, 0.9]})
    found = check_calibration(pairs, OPTIONS)
    assert found["slope"]["estimate"] is None and found["intercept"]["estimate"] is None
    assert found["observed"] == sum(labels)


@pytest.mark.filterwarnings("error")
def test_labels_that_are_told_apart_have_no_finite_slope_and_certain_probabilities_no_infinite_logit() -> None:
    labels = np.array([0, 0, 1, 1])
    slope, intercept = recalibrate(labels, np.array([0.0, 0.2, 0.7, 1.0]), np.ones((1, 4)))
    assert np.isnan(slope[0]) and np.isfinite(intercept[0])
    overlapping = np.array([0.0, 0.7, 0.2, 1.0])
    slope, intercept = recalibrate(labels, overlapping, np.ones((1, 4)))
    assert np.isfinite([slope[0], intercept[0]]).all()


def test_equal_probabilities_have_no_slope() -> None:
    slope, intercept = recalibrate(np.array([0, 1, 0]), np.full(3, 0.2), np.ones((1, 3)))
    assert np.isnan(slope[0])
    assert intercept[0] == pytest.approx(logit(1 / 3) - logit(0.2))
