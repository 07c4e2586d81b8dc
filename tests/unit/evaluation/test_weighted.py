import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics as sk

from mentallam.errors import MentallamError
from mentallam.evaluation.metrics import criterion_metrics, pair_metrics
from mentallam.evaluation.weighted import METRICS, WeightedMetrics, confusion_sums, f1_of, ranks, weighted_counts

CRITERIA = ("A.1", "A.2", "A.3")


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """A table, the group of each row, and how often each group is drawn."""
    n_groups = draw(st.integers(2, 6))
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, n_groups - 1),
                st.sampled_from(CRITERIA),
                st.integers(0, 1),
                st.sampled_from([0.0, 0.2, 0.2000001, 0.5, 0.9, 1.0]) | st.floats(0, 1),
                st.integers(0, 1),
            ),
            min_size=3,
            max_size=40,
        )
    )
    frame = pd.DataFrame(rows, columns=["group", "criterion_id", "label", "probability", "prediction"])
    times = np.array(draw(st.lists(st.integers(0, 3), min_size=n_groups, max_size=n_groups)))
    if not times[frame["group"]].any():
        times[frame["group"][0]] = 1
    return frame, frame["group"].to_numpy(), times


def scikit_learns(rows: pd.DataFrame, has_positives: set[str]) -> dict[str, float]:
    """Every metric by scikit-learn on rows that are really there; NaN by the rule of `WeightedMetrics`."""
    label, probability, prediction = rows["label"], rows["probability"], rows["prediction"]
    f1 = {
        name: sk.f1_score(own["label"], own["prediction"], zero_division=0) if own["label"].any() else np.nan
        for name in CRITERIA
        for own in [rows[rows["criterion_id"] == name]]
    }
    positive, both = bool(label.any()), label.nunique() == 2

    def if_defined(condition: bool, metric: float) -> float:
        return float(metric) if condition else np.nan

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "f1": if_defined(positive, sk.f1_score(label, prediction, zero_division=0)),
            "precision": if_defined(positive, sk.precision_score(label, prediction, zero_division=0)),
            "recall": if_defined(positive, sk.recall_score(label, prediction, zero_division=0)),
            "macro_f1": float(np.mean([f1[name] if name in has_positives else 0 for name in f1])),
            "accuracy": sk.accuracy_score(label, prediction),
            "balanced_accuracy": if_defined(both, sk.balanced_accuracy_score(label, prediction)),
            "mcc": if_defined(both, sk.matthews_corrcoef(label, prediction)),
            "roc_auc": sk.roc_auc_score(label, probability) if both else np.nan,
            "average_precision": if_defined(both, sk.average_precision_score(label, probability)),
            "brier": float(np.mean((probability - label) ** 2)),
            "log_loss": sk.log_loss(label, probability, labels=[0, 1]),
            **f1,
        }


@settings(max_examples=150)
@given(tables())
def test_weights_give_what_scikit_learn_gives_on_the_rows_drawn(
    drawn: tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    frame, group, times = drawn
    missing = [name for name in CRITERIA if name not in set(frame["criterion_id"])]
    rows = pd.concat([frame[group == number] for number, n in enumerate(times) for _ in range(n)])
    metrics = WeightedMetrics(frame, group, len(times))
    # Twice the same weights and once others: rows of a batch don't meet.
    values = metrics(np.stack([times, np.ones_like(times), times]).astype(float))
    expected = scikit_learns(rows, set(frame.loc[frame["label"] == 1, "criterion_id"]))
    expected["macro_f1"] *= len(CRITERIA) / (len(CRITERIA) - len(missing))
    names = [*METRICS, *metrics.criteria]
    for row in (values[0], values[2]):
        np.testing.assert_allclose(row, [expected[name] for name in names], atol=1e-12, err_msg=str(names))


def test_weights_of_one_give_the_figures_of_the_report(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    metrics = WeightedMetrics(oof, np.arange(len(oof)), len(oof))
    values = dict(zip([*METRICS, *metrics.criteria], metrics(np.ones((1, len(oof))))[0], strict=True))
    for name, value in pair_metrics(oof["label"], oof["probability"], oof["prediction"]).items():
        if name in METRICS:
            assert values[name] == pytest.approx(value, abs=1e-12), name
    rows = criterion_metrics(oof, criteria)
    assert {row["criterion_id"]: values[row["criterion_id"]] for row in rows} == pytest.approx(
        {row["criterion_id"]: row["f1"] for row in rows}
    )
    assert values["macro_f1"] == pytest.approx(np.mean([row["f1"] for row in rows]))


def test_ranks_leave_the_order_of_the_pairs_as_it_is(oof: pd.DataFrame) -> None:
    weights = np.random.default_rng(0).integers(0, 3, size=(5, len(oof))).astype(float)
    by_probability = WeightedMetrics(oof, np.arange(len(oof)), len(oof))(weights)
    rank = ranks(oof["probability"])
    assert rank.tolist() == rankdata(oof["probability"]).tolist()
    np.testing.assert_allclose(WeightedMetrics(oof, np.arange(len(oof)), len(oof), rank)(weights), by_probability)
    turned = WeightedMetrics(oof, np.arange(len(oof)), len(oof), -rank)(weights)
    place = METRICS.index("roc_auc")
    np.testing.assert_allclose(turned[:, place], 1 - by_probability[:, place])


def test_counts_are_kept_apart_by_part() -> None:
    sums = confusion_sums([0, 0, 1, 1, 1], [0, 1, 0, 1, 1], part=[0, 0, 0, 0, 1], unit=[0, 0, 1, 1, 1], n_units=3)
    assert sums.tolist() == [
        [[1, 1, 0, 0], [0, 0, 0, 0]],
        [[0, 0, 1, 1], [0, 0, 0, 1]],
        [[0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    counts = weighted_counts(np.array([[1.0, 2, 5], [3, 0, 0]]), sums)
    assert counts.tolist() == [[[1, 1, 2, 2], [0, 0, 0, 2]], [[3, 3, 0, 0], [0, 0, 0, 0]]]
    np.testing.assert_allclose(f1_of(counts), [[4 / 7, 1], [np.nan, np.nan]])


@pytest.mark.filterwarnings("error")
def test_what_is_not_defined_is_no_warning() -> None:
    """Weights of groups without a positive pair, without a negative one, and the first without the last two pairs."""
    pairs = pd.DataFrame({"label": [0, 1, 1], "probability": [0.2, 0.9, 0.4], "prediction": [0, 1, 0]})
    metrics = WeightedMetrics(pairs.assign(criterion_id=["A.1", "A.1", "A.2"]), [0, 1, 2], 3)
    values = metrics(np.array([[1.0, 0, 0], [0, 1, 1], [1, 1, 0]]))
    found = {name: values[:, place].tolist() for place, name in enumerate([*METRICS, *metrics.criteria])}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert found["f1"] == [nan, pytest.approx(2 / 3), 1.0]
    assert found["precision"] == [nan, 1.0, 1.0]
    assert found["recall"] == [nan, 0.5, 1.0]
    assert found["accuracy"] == [1.0, 0.5, 1.0]
    for name in ("balanced_accuracy", "mcc", "roc_auc", "average_precision"):
        assert found[name] == [nan, nan, 1.0], name
    assert found["macro_f1"] == [nan, 0.5, nan]
    assert (found["A.1"], found["A.2"]) == ([nan, 1.0, 1.0], [nan, 0.0, nan])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_counts_do_not_depend_on_the_types_of_what_is_counted(dtype: type) -> None:
    labels, predictions, part = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1])
    unit = np.array([0, 99, 99, 50])  # times the parts too large for eight bits
    expected = confusion_sums(labels, predictions, part, unit, 100)
    small = unit.astype(np.float32 if dtype is np.float32 else np.int8)
    found = confusion_sums(labels.astype(dtype), predictions.astype(dtype), part.astype(dtype), small, 100)
    assert found.dtype == np.float64 and np.array_equal(found, expected)
    pairs = pd.DataFrame({"label": labels.astype(dtype), "prediction": predictions.astype(dtype), "criterion_id": part})
    pairs["probability"] = [0.3, 0.9, 0.4, 0.1]
    rank = np.array([1, 3, 2, 0])
    metrics = WeightedMetrics(pairs, small, 100, rank.astype(np.uint8))
    assert metrics.criteria == ["0", "1"]  # names, also where a file's ids look like numbers
    weights = np.ones((1, 100))
    np.testing.assert_array_equal(metrics(weights), WeightedMetrics(pairs, unit, 100, rank)(weights))


def test_a_broken_table_is_an_error(oof: pd.DataFrame) -> None:
    oof.loc[3, "probability"] = np.nan
    with pytest.raises(MentallamError, match="not a number from 0 to 1"):
        WeightedMetrics(oof, np.arange(len(oof)), len(oof))
