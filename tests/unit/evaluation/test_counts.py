import numpy as np
import pytest

from mentallam.evaluation.counts import confusion_sums, f1_of, weighted_counts


def test_parts_are_counted_separately() -> None:
    sums = confusion_sums([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], part=[0, 0, 0, 0, 1], unit=[0, 0, 1, 1, 1], n_units=3)
    assert sums.tolist() == [
        [[1, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 1, 1], [0, 0, 0, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    counts = weighted_counts(np.array([[1.0, 2, 5], [3, 0, 0]]), sums)
    assert counts.tolist() == [[[1, 1, 2, 2], [0, 0, 0, 2]], [[3, 3, 0, 0], [0, 0, 0, 0]]]
    np.testing.assert_allclose(f1_of(counts), [[4 / 7, 1], [np.nan, np.nan]])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_counts_do_not_depend_on_the_types_of_what_is_counted(dtype: type) -> None:
    labels, predictions, part = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1])
    unit = np.array([0, 99, 99, 50])  # the place of a unit's part exceeds eight bits
    expected = confusion_sums(labels, predictions, part, unit, 100)
    small = unit.astype(np.float32 if dtype is np.float32 else np.int8)
    found = confusion_sums(labels.astype(dtype), predictions.astype(dtype), part.astype(dtype), small, 100)
    assert found.dtype == np.float64 and np.array_equal(found, expected)
