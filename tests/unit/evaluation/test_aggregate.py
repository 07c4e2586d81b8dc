import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from mentallam.config import DecisionConfig
from mentallam.errors import MentallamError
from mentallam.evaluation.aggregate import (
    aggregate_folds,
    best_fold,
    fold_metrics,
    outcome_of_folds,
    protocol_metrics,
    summarise,
    threshold_summary,
)
from mentallam.evaluation.decision import describe
from mentallam.evaluation.metrics import table_metrics
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.thresholds import GRID, best_threshold, predict_labels
from tests.unit.predictions import DECISION

Folds = list[pd.DataFrame]
Summarised = Callable[[Folds], dict[str, Any]]


def best_f1_on_the_grid(frame: pd.DataFrame) -> float:
    """Return the best of scikit-learn's F1 values of the predictions at every grid point."""
    predictions = frame["probability"].to_numpy()[:, None] >= GRID
    truth = np.repeat(frame["label"].to_numpy()[:, None], len(GRID), axis=1)
    return float(np.max(sk.f1_score(truth, predictions, average=None, zero_division=0)))


def test_fold_figures_equal_a_direct_computation(folds: Folds, summary: dict[str, Any]) -> None:
    f1 = [sk.f1_score(frame["label"], frame["prediction"]) for frame in folds]
    roc_auc = [sk.roc_auc_score(frame["label"], frame["probability"]) for frame in folds]
    same_fold = [best_f1_on_the_grid(frame) for frame in folds]
    assert [fold["f1"] for fold in summary["folds"]] == f1
    assert summary["metrics"]["f1"] == {
        "mean": pytest.approx(np.mean(f1)),
        "std": pytest.approx(np.std(f1, ddof=1)),
        "n": 5,
    }
    assert summary["metrics"]["roc_auc"]["mean"] == pytest.approx(np.mean(roc_auc))
    assert summary["metrics"]["f1_same_fold"]["mean"] == pytest.approx(np.mean(same_fold))
    assert summary["selection_optimism"] == pytest.approx(np.mean(same_fold) - np.mean(f1))
    assert summary["selection_optimism"] > 0


def test_pooled_figures_take_each_pair_at_its_own_threshold(oof: pd.DataFrame, summary: dict[str, Any]) -> None:
    prediction = oof["probability"] >= oof["threshold"]
    assert summary["pooled"]["f1"] == sk.f1_score(oof["label"], prediction)
    assert summary["pooled"]["average_precision"] == sk.average_precision_score(oof["label"], oof["probability"])
    assert summary["baselines"]["all_negative"]["accuracy"] == pytest.approx(1 - oof["label"].mean())


def test_the_summary_has_the_promised_keys(summary: dict[str, Any]) -> None:
    promised = {"cv_run_id", "n_folds", "n_posts", "n_pairs", "n_positive", "metrics", "pooled", "baselines"}
    promised |= {"per_criterion", "folds", "best_fold", "selection_optimism", "synthetic", "data_hash"}
    assert promised <= set(summary)
    assert {"f1", "precision", "recall", "accuracy", "roc_auc", "f1_same_fold"} <= set(summary["metrics"])
    fold_keys = {
        "fold",
        "run_id",
        "threshold",
        "f1",
        "precision",
        "recall",
        "accuracy",
        "roc_auc",
        "f1_same_fold",
    }
    assert fold_keys | {"dev_f1", "best_epoch", "epochs", "seconds", "checkpoint"} <= set(summary["folds"][0])
    assert (summary["n_folds"], summary["n_posts"], summary["n_pairs"]) == (5, 60, 540)


def test_the_summary_survives_json_unrounded(summary: dict[str, Any]) -> None:
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_training_and_reporting_agree_on_the_means(cv_outcome: dict[str, Any], summary: dict[str, Any]) -> None:
    assert aggregate_folds(cv_outcome["folds"]) == summary["metrics"]


def rounded(summary: dict[str, Any]) -> Any:
    """Round to 9 digits, since the last digit of a sum depends on the order of its terms."""
    return json.loads(json.dumps(summary), parse_float=lambda digits: round(float(digits), 9))


def test_rows_in_another_order_give_the_same_summary(
    folds: Folds, summary: dict[str, Any], summarised: Summarised
) -> None:
    assert rounded(summarised([frame.sample(frac=1, random_state=0) for frame in folds])) == rounded(summarised(folds))


def test_a_fold_without_positives_is_left_out_of_the_means_of_f1_and_roc_auc(
    folds: Folds, summarised: Summarised, caplog: pytest.LogCaptureFixture
) -> None:
    folds[1]["label"] = np.int8(0)
    summary = summarised(folds)
    assert not caplog.records
    defined = [sk.roc_auc_score(folds[k]["label"], folds[k]["probability"]) for k in (0, 2, 3, 4)]
    assert summary["folds"][1]["roc_auc"] is None and summary["folds"][1]["f1_same_fold"] is None
    f1 = [sk.f1_score(folds[k]["label"], folds[k]["prediction"]) for k in (0, 2, 3, 4)]
    for mean in (summary["metrics"]["f1"], summary["protocols"]["dev_split"]["mean"]["f1"]):
        assert (mean["mean"], mean["n"]) == (pytest.approx(np.mean(f1)), 4)
    assert summary["folds"][1]["f1"] is summary["folds"][1]["recall"] is summary["folds"][1]["precision"] is None
    assert summary["folds"][1]["accuracy"] is not None
    assert summary["metrics"]["roc_auc"] == {
        "mean": pytest.approx(np.mean(defined)),
        "std": pytest.approx(np.std(defined, ddof=1)),
        "n": 4,
    }
    json.dumps(summary, allow_nan=False)


def test_constant_probabilities_are_chance(folds: Folds, summarised: Summarised) -> None:
    for frame in folds:
        frame["probability"] = 0.5
        frame["prediction"] = predict_labels(frame["probability"], frame["threshold"])
    summary = summarised(folds)
    assert summary["metrics"]["roc_auc"] == {"mean": 0.5, "std": 0.0, "n": 5}
    assert summary["folds"][0]["f1"] == summary["folds"][0]["f1_same_fold"]  # threshold 0.4: all positive
    assert summary["folds"][4]["f1"] == 0.0  # threshold 0.52: all negative


def test_the_best_fold_is_the_one_with_the_best_dev_f1() -> None:
    results = [{"fold": fold, "dev_f1": dev_f1} for fold, dev_f1 in ((2, 0.7), (0, 0.5), (1, 0.7))]
    assert best_fold(results) == 1


def test_a_fold_without_a_dev_f1_is_the_best_only_where_no_fold_has_one() -> None:
    results = [{"fold": 0, "dev_f1": None}, {"fold": 2, "dev_f1": 0.0}, {"fold": 1, "dev_f1": None}]
    assert best_fold(results) == 2
    assert best_fold([results[2], results[0]]) == 0


def test_held_out_scores_do_not_choose_the_best_fold(cv_outcome: dict[str, Any], summary: dict[str, Any]) -> None:
    assert summary["best_fold"] == 3 == best_fold(cv_outcome["folds"])
    assert max(summary["folds"], key=lambda fold: fold["f1"])["fold"] != 3


def test_predictions_of_another_run_are_an_error(
    oof: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
) -> None:
    cv_outcome["folds"][2]["metrics"]["f1"] += 0.01
    with pytest.raises(MentallamError, match="fold 2 have another F1"):
        summarise(oof, cv_outcome, data_statistics, criteria, DECISION)


def test_a_missing_fold_is_an_error(
    oof: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
) -> None:
    with pytest.raises(MentallamError, match=r"folds \[0, 1, 2, 3\], the training reports \[0, 1, 2, 3, 4\]"):
        summarise(oof[oof["fold"] < 4], cv_outcome, data_statistics, criteria, DECISION)


def test_finished_folds_are_summarised_alone(
    oof: pd.DataFrame, cv_outcome: dict[str, Any], data_statistics: dict[str, Any], criteria: pd.DataFrame
) -> None:
    cv_run = {"run_id": "parent", "experiment_id": "1"}
    partial = outcome_of_folds(cv_run, [cv_outcome["folds"][fold] for fold in (2, 0)], 5)
    table = oof[oof["fold"].isin([0, 2])]
    summary = summarise(table, partial, data_statistics, criteria, DECISION)
    assert (summary["n_folds"], summary["planned_folds"], summary["n_pairs"]) == (2, 5, len(table))
    assert [fold["fold"] for fold in summary["folds"]] == [0, 2]
    with pytest.raises(MentallamError, match=f"holds {len(table) - 1} pairs, the data {len(table)}"):
        summarise(table[1:], partial, data_statistics, criteria, DECISION)


def test_the_outcome_of_all_folds_is_that_of_training(cv_outcome: dict[str, Any]) -> None:
    cv_run = {"run_id": "parent", "experiment_id": "1"}
    assert outcome_of_folds(cv_run, cv_outcome["folds"][::-1], 5) == cv_outcome
    with pytest.raises(MentallamError, match=r"the result of fold 0 belongs to the run parent, not to other in cv_run"):
        outcome_of_folds({**cv_run, "run_id": "other"}, cv_outcome["folds"], 5)


def test_a_missing_pair_is_an_error(folds: Folds, summarised: Summarised) -> None:
    folds[0] = folds[0][1:]
    with pytest.raises(MentallamError, match="holds 539 pairs, the data 540"):
        summarised(folds)


def test_fold_metrics_are_keyed_by_fold(oof: pd.DataFrame) -> None:
    assert list(fold_metrics(oof, table_metrics)) == [0, 1, 2, 3, 4]


def test_the_threshold_summary_names_its_rule(oof: pd.DataFrame, summary: dict[str, Any]) -> None:
    thresholds = threshold_summary(summary, describe(DecisionConfig()))
    assert thresholds["cv_run_id"] == "parent"
    assert "inner dev split" in thresholds["chosen_by"]
    assert thresholds["folds"] == {"0": 0.4, "1": 0.43, "2": 0.46, "3": 0.49, "4": 0.52}
    assert thresholds["same_fold"] == {
        str(fold): best_threshold(pairs["label"], pairs["probability"]).threshold for fold, pairs in oof.groupby("fold")
    }
    assert thresholds["calibration"]["2"] == {"slope": 1.0, "intercept": 0.0}
    assert thresholds["by_criterion"]["2"] == {}
    assert (thresholds["mean"], thresholds["std"]) == (pytest.approx(0.46), pytest.approx(0.0474, abs=1e-4))


def test_each_protocols_figures_are_those_of_its_predictions(oof: pd.DataFrame) -> None:
    metrics = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}
    found = protocol_metrics(oof, DECISION)
    predictions = protocol_predictions(oof, DECISION)
    assert list(found) == list(predictions)
    for protocol, prediction in predictions.items():
        decided = oof.assign(prediction=prediction)
        for name, score in metrics.items():
            assert found[protocol]["pooled"][name] == score(oof["label"], prediction)
            folds = [score(pairs["label"], pairs["prediction"]) for _, pairs in decided.groupby("fold")]
            assert found[protocol]["mean"][name]["mean"] == pytest.approx(np.mean(folds))
            assert found[protocol]["mean"][name]["std"] == pytest.approx(np.std(folds, ddof=1))
