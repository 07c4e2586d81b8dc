import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss

from mentallam.evaluation.calibration import (
    Calibration,
    expected_calibration_error,
    fit_calibration,
    reliability,
)


def drawn(slope: float, intercept: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Return labels that follow sigmoid(slope * logit + intercept), and the logits."""
    random = np.random.default_rng(0)
    logits = random.normal(scale=2, size=n)
    labels = random.random(n) < Calibration(slope, intercept).probabilities(logits)
    return labels.astype(int), logits


def test_platt_finds_slope_and_intercept() -> None:
    fitted = fit_calibration("platt", *drawn(0.5, -1.5))
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.5, abs=0.03), pytest.approx(-1.5, abs=0.06))


def test_a_temperature_has_no_intercept() -> None:
    fitted = fit_calibration("temperature", *drawn(0.5, 0.0))
    assert (fitted.slope, fitted.intercept) == (pytest.approx(0.5, abs=0.03), 0.0)


def test_platt_scaling_is_the_best_on_platts_targets() -> None:
    labels, logits = drawn(1.7, 0.4, n=60)
    positives = labels.sum()
    targets = np.where(labels, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))

    def loss(slope: float, intercept: float) -> float:
        p = Calibration(slope, intercept).probabilities(logits)
        return float(-np.mean(targets * np.log(p) + (1 - targets) * np.log(1 - p)))

    fitted = fit_calibration("platt", labels, logits)
    best = loss(fitted.slope, fitted.intercept)
    for step in (-0.01, 0.01):
        assert best < loss(fitted.slope + step, fitted.intercept)
        assert best < loss(fitted.slope, fitted.intercept + step)


def test_none_leaves_probabilities_alone() -> None:
    assert fit_calibration("none", *drawn(0.5, -1.5)) == Calibration()


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_one_label_only_leaves_probabilities_alone(
    labels: list[int], method: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert fit_calibration(method, labels, [-1.0, 0.0, 2.0]) == Calibration()
    assert "same label" in caplog.text


@pytest.mark.parametrize(
    ("method", "why"), [("platt", "ranked no better than by chance"), ("temperature", "fit no temperature")]
)
def test_a_reversed_order_keeps_its_slope(method: str, why: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fitted = fit_calibration(method, [1, 1, 0, 0, 0], [-2.0, -1.0, 1.0, 2.0, 2.0])
    assert why in caplog.text
    assert fitted.slope == 1.0
    if method == "platt":
        assert fitted.probabilities([-2.0, -1.0, 1.0, 2.0, 2.0]).mean() == pytest.approx((2 * 0.75 + 3 * 0.2) / 5)
    else:
        assert fitted.intercept == 0.0


def test_shifted_logits_of_a_good_ranking_are_not_reported_as_chance(caplog: pytest.LogCaptureFixture) -> None:
    labels, logits = [0, 0, 0, 1], [5.0, 6.0, 7.0, 9.0]
    with caplog.at_level(logging.WARNING):
        assert fit_calibration("temperature", labels, logits) == Calibration()
    assert "chance" not in caplog.text
    assert fit_calibration("platt", labels, logits).slope > 0


@pytest.mark.parametrize("method", ["temperature", "platt"])
@pytest.mark.parametrize("scale", [1e-4, 1e-2, 100.0])
def test_the_unit_of_the_logits_does_not_matter(method: str, scale: float) -> None:
    labels, logits = drawn(1.0, -0.5)
    fitted, scaled = fit_calibration(method, labels, logits), fit_calibration(method, labels, scale * logits)
    assert scaled.slope * scale == pytest.approx(fitted.slope, rel=1e-3)
    assert scaled.intercept == pytest.approx(fitted.intercept, rel=1e-3)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_labels_without_an_error_have_a_finite_slope(method: str) -> None:
    fitted = fit_calibration(method, [0, 0, 0, 1, 1], [-3.0, -2.0, -1.0, 1.0, 2.0])
    assert 0 < fitted.slope < 10
    assert fitted.probabilities([-3.0])[0] > 0.02


@given(
    st.lists(st.tuples(st.booleans(), st.floats(-20, 20)), min_size=2, max_size=60),
    st.sampled_from(["none", "temperature", "platt"]),
)
def test_calibration_keeps_the_order_of_pairs(pairs: list[tuple[bool, float]], method: str) -> None:
    labels, logits = (np.array(column) for column in zip(*pairs, strict=True))
    fitted = fit_calibration(method, labels.astype(int), logits)
    probabilities = fitted.probabilities(np.sort(logits))
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert (np.diff(probabilities) >= 0).all()


def test_calibration_lowers_the_error_on_other_pairs() -> None:
    labels, logits = drawn(0.4, -1.0)
    fitted = fit_calibration("platt", labels[:2000], logits[:2000])
    raw, calibrated = Calibration().probabilities(logits[2000:]), fitted.probabilities(logits[2000:])
    assert expected_calibration_error(labels[2000:], calibrated) < 0.25 * expected_calibration_error(labels[2000:], raw)
    assert log_loss(labels[2000:], calibrated) < log_loss(labels[2000:], raw)


def test_bins_hold_equally_many_pairs_and_are_scikit_learns() -> None:
    labels, logits = drawn(1.0, -2.0, n=1000)
    probabilities = Calibration().probabilities(logits)
    table = reliability(labels, probabilities)
    observed, mean = calibration_curve(labels, probabilities, n_bins=10, strategy="quantile")
    assert table["n"].tolist() == [100] * 10
    np.testing.assert_allclose(table["observed"], observed)
    np.testing.assert_allclose(table["probability"], mean)


def test_equal_probabilities_share_a_bin() -> None:
    table = reliability([0, 1, 1, 0, 1, 0], [0.2, 0.2, 0.2, 0.2, 0.9, 0.9])
    assert table["n"].sum() == 6
    assert expected_calibration_error([0, 1], [0.5, 0.5]) == 0.0


@pytest.mark.parametrize(("options", "bins"), [({}, 10), ({"bins": 4}, 4)])
def test_the_error_is_the_mean_distance_of_equally_large_bins(options: dict[str, int], bins: int) -> None:
    labels, logits = drawn(0.5, 0.5, n=200)
    order = np.argsort(logits)
    parts = np.split(order, bins)
    probabilities = Calibration().probabilities(logits)
    expected = np.mean([abs(probabilities[part].mean() - labels[part].mean()) for part in parts])
    assert expected_calibration_error(labels, probabilities, **options) == pytest.approx(expected)


def test_a_bin_is_weighted_by_its_pairs() -> None:
    """Four pairs of 0.2, of which one is matched, and an unmatched one of 0.9."""
    assert expected_calibration_error([1, 0, 0, 0, 0], [0.2] * 4 + [0.9]) == pytest.approx((4 * 0.05 + 0.9) / 5)


def test_the_error_of_one_bin_by_hand() -> None:
    assert expected_calibration_error([1, 0, 0, 0], [0.4] * 4, bins=1) == pytest.approx(0.15)


@pytest.mark.parametrize("shift", [-30.0, 1000.0])
def test_the_intercept_removes_a_constant_in_all_logits(shift: float) -> None:
    labels, logits = drawn(0.7, -0.5, n=500)
    fitted, shifted = fit_calibration("platt", labels, logits), fit_calibration("platt", labels, logits + shift)
    assert shifted.slope == pytest.approx(fitted.slope, rel=1e-9)
    assert shifted.probabilities(logits + shift) == pytest.approx(fitted.probabilities(logits), abs=1e-9)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_float32_logits_are_calibrated_as_float64(method: str) -> None:
    labels, logits = drawn(0.7, -0.5, n=100)
    single = logits.astype(np.float32)
    assert fit_calibration(method, labels, single) == fit_calibration(method, labels, single.astype(np.float64))
    probabilities = Calibration(0.7, 0.1).probabilities(single)
    assert probabilities.dtype == np.float64
    assert probabilities.tolist() == Calibration(0.7, 0.1).probabilities(single.astype(np.float64)).tolist()


@pytest.mark.parametrize("size", [1.0, 40.0])
def test_the_shift_of_a_reversed_order_is_found_for_logits_of_any_size(size: float) -> None:
    logits = size * np.array([-2.0, -1.0, 1.0, 2.0, 2.0]) / 2
    fitted = fit_calibration("platt", [1, 1, 0, 0, 0], logits)
    assert fitted.probabilities(logits).mean() == pytest.approx((2 * 0.75 + 3 * 0.2) / 5)


@pytest.mark.parametrize("method", ["temperature", "platt"])
def test_equal_logits_rank_no_better_than_chance(method: str, caplog: pytest.LogCaptureFixture) -> None:
    """The fitted slope is 0, which would make all pairs of any other dev split equal as well."""
    with caplog.at_level(logging.WARNING):
        assert fit_calibration(method, [0, 1, 0], [2.0, 2.0, 2.0]).slope == 1.0
    assert "the slope stays 1" in caplog.text
