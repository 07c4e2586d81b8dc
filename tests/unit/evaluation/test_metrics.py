from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import expected_calibration_error
from mentallam.evaluation.metrics import (
    METRICS,
    criterion_metrics,
    criterion_name,
    held_out_metrics,
    macro_f1,
    mean_and_std,
    pair_metrics,
    same_fold_f1,
)
from mentallam.evaluation.thresholds import best_threshold, predict_labels
from tests.unit.predictions import DECISION

pairs = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


def test_pair_metrics_are_scikit_learns(oof: pd.DataFrame) -> None:
    label, probability, prediction = oof["label"], oof["probability"], oof["prediction"]
    result = dict(pair_metrics(label, probability, prediction))
    assert result.pop("ece") == expected_calibration_error(label, probability)
    assert result.pop("number_needed_to_read") == pytest.approx(1 / sk.precision_score(label, prediction))
    assert result == {
        "precision": sk.precision_score(label, prediction),
        "recall": sk.recall_score(label, prediction),
        "f1": sk.f1_score(label, prediction),
        "accuracy": sk.accuracy_score(label, prediction),
        "balanced_accuracy": sk.balanced_accuracy_score(label, prediction),
        "mcc": sk.matthews_corrcoef(label, prediction),
        "roc_auc": sk.roc_auc_score(label, probability),
        "average_precision": sk.average_precision_score(label, probability),
        "brier": sk.brier_score_loss(label, probability),
        "log_loss": sk.log_loss(label, probability),
    }


def test_metrics_of_an_example_counted_by_hand() -> None:
    # One hit, one miss, one false alarm, two correct rejections; two of the six pairs of scores are in the wrong order.
    result = pair_metrics([1, 1, 0, 0, 0], [0.9, 0.3, 0.8, 0.35, 0.1], [1, 0, 1, 0, 0])
    assert result["precision"] == result["recall"] == result["f1"] == 0.5
    assert result["accuracy"] == 0.6
    assert result["roc_auc"] == pytest.approx(4 / 6)


def test_each_metric_has_one_name_and_one_label() -> None:
    for values in ([metric.name for metric in METRICS], [metric.label for metric in METRICS]):
        assert len(set(values)) == len(values)


def test_the_documentation_lists_the_metrics_as_the_table_does() -> None:
    page = (Path(__file__).parents[3] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [
        f"| {metric.label} | `{metric.name}` | {metric.range} | {'lower' if metric.less_is_better else 'higher'} "
        f"| {metric.definition} |"
        for metric in METRICS
    ]
    assert "\n".join(rows) in page


def test_saved_metrics_keep_their_order(oof: pd.DataFrame) -> None:
    names = list(held_out_metrics(oof, DECISION))
    assert names[:3] == ["precision", "recall", "f1"]
    of_table = [metric.name for metric in METRICS if metric.plain is not None]
    assert names[3:] == [name for name in of_table if name not in names[:3]] + ["f1_same_fold"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("label", [0, 1])
def test_metrics_are_none_where_a_label_that_they_need_is_missing(label: int) -> None:
    result = pair_metrics([label] * 3, [0.1, 0.5, 0.9], [0, 1, 1])
    undefined = {name for name, value in result.items() if value is None}
    needs_positive = {metric.name for metric in METRICS if metric.needs_positive}
    assert needs_positive == {"f1", "precision", "recall"}
    assert undefined - {"number_needed_to_read"} == {metric.name for metric in METRICS if metric.needs_both_labels} | (
        set() if label else needs_positive
    )
    assert {"balanced_accuracy", "mcc", "roc_auc", "average_precision"} <= undefined
    assert result["f1"] == (0.8 if label else None)


@pytest.mark.filterwarnings("error")
def test_without_a_positive_prediction_the_metrics_are_zero_without_a_warning() -> None:
    result = pair_metrics([1, 0], [0.1, 0.1], [0, 0])
    assert result["precision"] == result["recall"] == result["f1"] == 0.0


@settings(max_examples=40)
@given(pairs, st.integers(0, 100))
def test_the_same_fold_f1_is_never_below_the_f1_of_any_grid_threshold(
    pairs: list[tuple[int, float]], percent: int
) -> None:
    frame = pd.DataFrame([(1, 0.5), *pairs], columns=["label", "probability"]).assign(criterion_id="A.1")
    frame["prediction"] = predict_labels(frame["probability"], percent / 100)
    result = held_out_metrics(frame, DECISION)
    assert result["f1_same_fold"] >= result["f1"]
    assert result["f1_same_fold"] == same_fold_f1(frame, DECISION)


def test_the_same_fold_f1_is_reached_by_its_threshold(oof: pd.DataFrame) -> None:
    chosen = best_threshold(oof["label"], oof["probability"]).threshold
    f1 = sk.f1_score(oof["label"], oof["probability"] >= chosen)
    assert same_fold_f1(oof, DECISION) == pytest.approx(f1)


@pytest.mark.parametrize(("predictions", "expected"), [([1, 1, 1, 0], 3.0), ([1, 0, 0, 0], 1.0), ([0, 1, 1, 0], None)])
def test_the_number_needed_to_read_is_what_is_read_per_match(predictions: list[int], expected: float | None) -> None:
    """The third reads two pairs and finds nothing, so no number is enough."""
    assert pair_metrics([1, 0, 0, 0], [0.5] * 4, predictions)["number_needed_to_read"] == expected


def test_criteria_are_scored_one_by_one_in_the_order_of_their_table(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    reversed_criteria = criteria[::-1]
    rows = criterion_metrics(oof.sample(frac=1, random_state=0), reversed_criteria)
    assert [row["criterion_id"] for row in rows] == reversed_criteria["criterion_id"].tolist()
    assert [row["symptom"] for row in rows] == reversed_criteria["symptom"].tolist()
    for row in rows:
        pairs = oof[oof["criterion_id"] == row["criterion_id"]]
        assert (row["n"], row["n_positive"]) == (len(pairs), pairs["label"].sum())
        assert row["f1"] == sk.f1_score(pairs["label"], pairs["prediction"], zero_division=0)
        assert row["roc_auc"] == sk.roc_auc_score(pairs["label"], pairs["probability"])


def test_a_criterion_without_positive_pairs_keeps_its_row(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    oof.loc[oof["criterion_id"] == "A.5", "label"] = 0
    row = criterion_metrics(oof, criteria)[4]
    assert (row["criterion_id"], row["n_positive"], row["f1"], row["roc_auc"]) == ("A.5", 0, None, None)


def test_a_criterion_that_is_not_listed_is_an_error(oof: pd.DataFrame, criteria: pd.DataFrame) -> None:
    with pytest.raises(MentallamError, match=r"'A\.1'"):
        criterion_metrics(oof, criteria[1:])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10))
def test_the_spread_is_the_sample_standard_deviation(values: list[float]) -> None:
    spread = mean_and_std([*values, None])
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert spread["n"] == len(values)


def test_the_spread_of_too_few_values_is_none() -> None:
    assert mean_and_std([0.5, None]) == {"mean": 0.5, "std": None, "n": 1}
    assert mean_and_std([None]) == {"mean": None, "std": None, "n": 0}


def test_macro_f1_leaves_out_criteria_without_a_positive_pair() -> None:
    rows = [{"f1": 0.5, "n_positive": 3}, {"f1": 0.0, "n_positive": 0}, {"f1": 0.7, "n_positive": 9}]
    assert macro_f1(rows) == {"mean": pytest.approx(0.6), "std": pytest.approx(0.1414, abs=1e-4), "n": 2}


def test_a_criterion_is_called_by_its_id_and_by_its_name_if_that_says_more() -> None:
    assert criterion_name({"criterion_id": "A.1", "symptom": "DEPRESSED_MOOD"}) == "A.1 DEPRESSED_MOOD"
    assert criterion_name({"criterion_id": "A.1", "symptom": "A.1"}) == "A.1"
