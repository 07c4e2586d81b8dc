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
from mentallam.evaluation.metrics import METRICS, criterion_metrics, macro_f1, table_metrics
from mentallam.evaluation.weighted import HEADLINE, WeightedMetrics, ranks

CRITERIA = ("A.1", "A.2", "A.3")
# Their plain form is 0 where their weighted form is not defined.
NEEDS_A_POSITIVE_PAIR = ("f1", "precision", "recall")


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]]:
    """Draw a table, the group of each row, and how often each group is drawn."""
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


def plain_values(rows: pd.DataFrame) -> dict[str, float]:
    """Compute every metric by its plain form on repeated rows; NaN by the rule of `WeightedMetrics`."""
    label = rows["label"].to_numpy()
    f1 = {
        name: sk.f1_score(of_criterion["label"], of_criterion["prediction"], zero_division=0)
        if of_criterion["label"].any()
        else np.nan
        for name in CRITERIA
        for of_criterion in [rows[rows["criterion_id"] == name]]
    }
    defined = [value for value in f1.values() if not np.isnan(value)]
    values = {"macro_f1": float(np.mean(defined)) if defined else np.nan, **f1}
    for metric in METRICS:
        undefined = (metric.needs_both_labels and len(set(label)) < 2) or (
            metric.name in NEEDS_A_POSITIVE_PAIR and not label.any()
        )
        if metric.plain is not None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values[metric.name] = (
                    np.nan
                    if undefined
                    else float(metric.plain(label, rows["probability"].to_numpy(), rows["prediction"].to_numpy()))
                )
    return values


@settings(max_examples=150)
@given(tables())
def test_weights_give_the_plain_values_of_the_rows_drawn(
    drawn: tuple[pd.DataFrame, NDArray[np.int64], NDArray[np.int64]],
) -> None:
    frame, group, times = drawn
    rows = pd.concat([frame[group == number] for number, n in enumerate(times) for _ in range(n)])
    metrics = WeightedMetrics(frame, group, len(times))
    # The same weights on both sides of others: the rows of a batch must not mix.
    values = metrics(np.stack([times, np.ones_like(times), times]).astype(float))
    expected = plain_values(rows)
    names = [*HEADLINE, *metrics.criteria]
    for row in (values[0], values[2]):
        np.testing.assert_allclose(row, [expected[name] for name in names], atol=1e-12, err_msg=str(names))


def test_weights_of_one_give_the_plain_value_of_every_metric(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    metrics = WeightedMetrics(oof, np.arange(len(oof)), len(oof))
    values = dict(zip([*HEADLINE, *metrics.criteria], metrics(np.ones((1, len(oof))))[0], strict=True))
    rows = criterion_metrics(oof, criteria)
    plain = {**table_metrics(oof), "macro_f1": macro_f1(rows)["mean"]}
    for metric in METRICS:
        if metric.weighted is not None:
            assert values[metric.name] == pytest.approx(plain[metric.name], abs=1e-12), metric.name
    assert {row["criterion_id"]: values[row["criterion_id"]] for row in rows} == pytest.approx(
        {row["criterion_id"]: row["f1"] for row in rows}
    )


def test_ranks_keep_the_order_of_the_pairs(oof: pd.DataFrame) -> None:
    weights = np.random.default_rng(0).integers(0, 3, size=(5, len(oof))).astype(float)
    by_probability = WeightedMetrics(oof, np.arange(len(oof)), len(oof))(weights)
    rank = ranks(oof["probability"])
    assert rank.tolist() == rankdata(oof["probability"]).tolist()
    np.testing.assert_allclose(WeightedMetrics(oof, np.arange(len(oof)), len(oof), rank)(weights), by_probability)
    reversed_ranks = WeightedMetrics(oof, np.arange(len(oof)), len(oof), -rank)(weights)
    place = HEADLINE.index("roc_auc")
    np.testing.assert_allclose(reversed_ranks[:, place], 1 - by_probability[:, place])


@pytest.mark.filterwarnings("error")
def test_an_undefined_value_raises_no_warning() -> None:
    """Three weightings: no positive pair, no negative pair, and no positive pair of the second criterion."""
    pairs = pd.DataFrame({"label": [0, 1, 1], "probability": [0.2, 0.9, 0.4], "prediction": [0, 1, 0]})
    metrics = WeightedMetrics(pairs.assign(criterion_id=["A.1", "A.1", "A.2"]), [0, 1, 2], 3)
    values = metrics(np.array([[1.0, 0, 0], [0, 1, 1], [1, 1, 0]]))
    found = {name: values[:, place].tolist() for place, name in enumerate([*HEADLINE, *metrics.criteria])}
    nan = pytest.approx(np.nan, nan_ok=True)
    assert found["f1"] == [nan, pytest.approx(2 / 3), 1.0]
    assert found["precision"] == [nan, 1.0, 1.0]
    assert found["recall"] == [nan, 0.5, 1.0]
    assert found["accuracy"] == [1.0, 0.5, 1.0]
    for name in ("balanced_accuracy", "mcc", "roc_auc", "average_precision"):
        assert found[name] == [nan, nan, 1.0], name
    assert found["macro_f1"] == [nan, 0.5, 1.0]
    assert (found["A.1"], found["A.2"]) == ([nan, 1.0, 1.0], [nan, 0.0, nan])


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_metrics_do_not_depend_on_the_types_of_their_columns(dtype: type) -> None:
    labels, predictions, part = np.array([0, 1, 1, 0]), np.array([1, 1, 0, 0]), np.array([0, 1, 1, 1])
    unit = np.array([0, 99, 99, 50])
    small = unit.astype(np.float32 if dtype is np.float32 else np.int8)
    pairs = pd.DataFrame({"label": labels.astype(dtype), "prediction": predictions.astype(dtype), "criterion_id": part})
    pairs["probability"] = [0.3, 0.9, 0.4, 0.1]
    rank = np.array([1, 3, 2, 0])
    metrics = WeightedMetrics(pairs, small, 100, rank.astype(np.uint8))
    assert metrics.criteria == ["0", "1"]  # texts, even where the ids of a file look like numbers
    weights = np.ones((1, 100))
    np.testing.assert_array_equal(metrics(weights), WeightedMetrics(pairs, unit, 100, rank)(weights))


def test_a_broken_table_is_an_error(oof: pd.DataFrame) -> None:
    oof.loc[3, "probability"] = np.nan
    with pytest.raises(MentallamError, match="not a number from 0 to 1"):
        WeightedMetrics(oof, np.arange(len(oof)), len(oof))
