import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from mentallam.errors import MentallamError
from mentallam.evaluation.thresholds import (
    GRID,
    ThresholdChoice,
    ThresholdRule,
    best_threshold,
    predict_labels,
    sweep,
)

# Probabilities on, next to and between grid points, many of them equal.
probabilities = st.one_of(
    st.sampled_from(GRID.tolist()),
    st.sampled_from(np.nextafter(GRID[1:-1], 1).tolist()),
    st.floats(0, 1),
    st.floats(0, 1, width=32),
)
pairs = st.lists(st.tuples(st.integers(0, 1), probabilities), min_size=1, max_size=40)


def brute_force(labels: NDArray[np.int64], scores: NDArray[np.float64], beta: float = 1.0) -> NDArray[np.float64]:
    """Compute precision, recall and F-beta by scikit-learn at every grid point, shape (3, 101)."""
    predictions = scores[:, None] >= GRID[None, :]
    truth = np.repeat(labels[:, None], len(GRID), axis=1)
    return np.array(precision_recall_fscore_support(truth, predictions, average=None, beta=beta, zero_division=0)[:3])


@given(pairs)
def test_the_sweep_equals_brute_force_at_every_grid_point(pairs: list[tuple[int, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    curve = sweep(labels, scores)
    assert curve["threshold"].tolist() == GRID.tolist()
    np.testing.assert_allclose(curve[["precision", "recall", "f1"]].to_numpy().T, brute_force(labels, scores))


@given(pairs.filter(lambda pairs: any(label for label, _ in pairs)))
def test_no_grid_point_beats_the_chosen_one(pairs: list[tuple[int, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = best_threshold(labels, scores)
    f1 = brute_force(labels, scores)[2]
    assert chosen.threshold in GRID
    assert chosen.f1 == pytest.approx(f1.max())
    assert f1[round(chosen.threshold * 100)] == pytest.approx(f1.max())


@given(pairs.filter(lambda pairs: any(label for label, _ in pairs)), st.sampled_from([0.5, 1.0, 2.0]))
def test_no_grid_point_has_a_higher_f_beta(pairs: list[tuple[int, float]], beta: float) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = best_threshold(labels, scores, ThresholdRule(beta=beta)).threshold
    values = brute_force(labels, scores, beta)[2]
    assert values[round(chosen * 100)] == pytest.approx(values.max())


@given(pairs.filter(lambda pairs: any(label for label, _ in pairs)), st.sampled_from([0.3, 0.8, 1.0]))
def test_no_grid_point_of_enough_recall_has_a_higher_precision(
    pairs: list[tuple[int, float]], min_recall: float
) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = best_threshold(labels, scores, ThresholdRule(min_recall=min_recall)).threshold
    precision, recall, _ = brute_force(labels, scores)
    assert recall[round(chosen * 100)] >= min_recall
    assert precision[round(chosen * 100)] == pytest.approx(precision[recall >= min_recall].max())


@given(pairs.filter(lambda pairs: any(label for label, _ in pairs)), st.sampled_from([1, 5]))
def test_no_grid_point_has_a_higher_smoothed_f1(pairs: list[tuple[int, float]], steps: int) -> None:
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = best_threshold(labels, scores, ThresholdRule(smoothing=steps)).threshold
    padded = np.pad(brute_force(labels, scores)[2], steps, mode="edge")
    smoothed = np.convolve(padded, np.full(2 * steps + 1, 1 / (2 * steps + 1)), mode="valid")
    assert smoothed[round(chosen * 100)] == pytest.approx(smoothed.max())


def test_smoothing_averages_over_both_sides() -> None:
    """F1 is 1 at 0.50, 0.947 below and 0.941 above, so that a lower threshold has the better neighbours."""
    scores = np.repeat([0.49, 0.505, 0.515], [1, 1, 8])
    labels = np.repeat([0, 1, 1], [1, 1, 8])
    assert best_threshold(labels, scores).threshold == 0.5
    curve = sweep(labels, scores)["f1"].to_numpy()
    for steps in (1, 2):
        window = [curve[max(place - steps, 0) : place + steps + 1].mean() for place in range(2, 99)]
        assert (
            best_threshold(labels, scores, ThresholdRule(smoothing=steps)).threshold == GRID[2 + int(np.argmax(window))]
        )


def test_smoothing_avoids_an_isolated_peak() -> None:
    labels = [0] * 10 + [1, 0, 1, 1, 1]
    scores = [0.1] * 10 + [0.2, 0.5, 0.51, 0.9, 0.9]
    isolated = best_threshold(labels, scores).threshold
    assert best_threshold(labels, scores, ThresholdRule(smoothing=10)).threshold != isolated


def test_the_threshold_itself_counts_as_matched() -> None:
    assert predict_labels([0.36, 0.37, 0.38], 0.37).tolist() == [0, 1, 1]
    assert predict_labels([0.3, 0.3], [0.2, 0.4]).tolist() == [1, 0]
    assert predict_labels(GRID, GRID).all()
    assert predict_labels([0.3], 0.2).dtype == np.int8


def test_float32_probabilities_are_compared_as_float64() -> None:
    just_above = np.float32(0.37)
    assert float(just_above) > 0.37 and float(np.float32(0.41)) < 0.41
    assert predict_labels(np.array([just_above]), 0.37).tolist() == [1]
    assert predict_labels(np.array([0.41], dtype=np.float32), 0.41).tolist() == [0]
    assert sweep([1], np.array([0.41], dtype=np.float32))["recall"].to_numpy()[[40, 41]].tolist() == [1, 0]


def test_the_threshold_is_the_middle_of_the_gap() -> None:
    # Every threshold from 0.21 to 0.80 separates the two labels.
    assert best_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == ThresholdChoice(0.5, 1.0)


def test_one_false_alarm_among_many_pairs_is_not_a_tie() -> None:
    """F1 is 1 from 0.31 to 0.90, and four millionths less below that."""
    labels, scores = np.ones(120_001, int), np.full(120_001, 0.9)
    labels[0], scores[0] = 0, 0.3
    assert best_threshold(labels, scores).threshold == 0.6


def test_of_several_gaps_the_longest_is_taken() -> None:
    # F1 is 2/3 from 0.00 to 0.30 (two hits, two false alarms) and from 0.41 to 0.95 (one hit, one miss).
    assert best_threshold([1, 0, 0, 1], [0.95, 0.4, 0.35, 0.3]).threshold == 0.68


def test_of_equally_long_gaps_the_lowest_is_taken() -> None:
    # The same tie with both runs five long: 0.00 to 0.04 and 0.91 to 0.95.
    assert best_threshold([1, 0, 0, 1], [0.95, 0.9, 0.85, 0.045]).threshold == 0.02


def test_constant_probabilities_have_a_threshold() -> None:
    assert best_threshold([0, 1, 0, 0], [0.5] * 4) == ThresholdChoice(0.25, 0.4)


def test_only_positive_pairs() -> None:
    assert best_threshold([1, 1], [0.6, 0.8]).f1 == 1.0


def test_without_a_positive_pair_it_is_the_default(caplog: pytest.LogCaptureFixture) -> None:
    assert best_threshold([0, 0], [0.2, 0.9]) == ThresholdChoice(0.5, 0.0)
    # It is called for every fold, epoch and protocol; the caller that decides by it warns once.
    assert caplog.records == []
    assert not sweep([0, 0], [0.2, 0.9])[["precision", "recall", "f1"]].to_numpy().any()


def test_no_pair_is_an_error() -> None:
    with pytest.raises(MentallamError, match="no pair"):
        best_threshold([], [])


def test_another_grid_can_be_swept() -> None:
    assert sweep([0, 1], [0.2, 0.9], np.array([0.95, 0.5]))["recall"].tolist() == [0.0, 1.0]
