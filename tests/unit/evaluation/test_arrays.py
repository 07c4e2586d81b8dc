import numpy as np
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.arrays import checked_labels, checked_pairs


def test_values_pass_in_fixed_types() -> None:
    labels, probabilities = checked_pairs([True, False], np.array([0.25, 1.0], dtype=np.float32))
    assert labels.dtype == np.int8 and labels.tolist() == [1, 0]
    assert probabilities.dtype == np.float64 and probabilities.tolist() == [0.25, 1.0]


def test_no_pair_is_an_error() -> None:
    with pytest.raises(MentallamError, match="no pair"):
        checked_pairs([], [])


@pytest.mark.parametrize("labels", [[0, 2], [0, 0.5], [0, -1], [0, float("nan")]])
def test_a_label_that_is_neither_0_nor_1_is_an_error(labels: list[float]) -> None:
    with pytest.raises(MentallamError, match="neither 0 nor 1"):
        checked_labels(labels)


@pytest.mark.parametrize("probability", [-0.01, 1.01, float("nan"), float("inf")])
def test_a_probability_out_of_range_is_an_error(probability: float) -> None:
    with pytest.raises(MentallamError, match="from 0 to 1"):
        checked_pairs([0, 1], [0.5, probability])


def test_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="2 labels and 1 probabilities"):
        checked_pairs([0, 1], [0.5])
