"""A learning curve takes the folds, trains at each size under one run, and leaves the cross-validation alone."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace

SIZES = {"learning_curve": {"sizes": "40;100", "folds": 1}}


def test_a_curve_is_trained_once_and_ends_where_the_cross_validation_is(trained: Workspace) -> None:
    cv_run = trained.data / "06_models" / "cv_run.json"
    before = cv_run.read_bytes()
    trained.run("learning_curve", **SIZES)
    curve = json.loads((trained.data / "08_reporting" / "learning_curve" / "learning_curve.json").read_text())
    assert [row["size"] for row in curve["curves"]["model"]] == [40, 100]
    assert curve["sizes"][0]["posts"] < curve["sizes"][1]["posts"]
    predictions = pd.read_parquet(trained.data / "07_model_output" / "learning_curve_predictions.parquet")
    whole = predictions[(predictions["model"] == "model") & (predictions["size"] == 100)]
    fold = pd.read_parquet(trained.data / "07_model_output" / "folds" / "fold_0_predictions.parquet")
    pd.testing.assert_frame_equal(whole[fold.columns].reset_index(drop=True), fold)
    assert cv_run.read_bytes() == before

    parent = json.loads((trained.data / "06_models" / "learning_curve_run.json").read_text())
    client = trained.client()
    under = f"tags.`mlflow.parentRunId` = '{parent['run_id']}'"
    children = client.search_runs([parent["experiment_id"]], under)
    assert {run.info.run_name for run in children} == {"fold_0_size_40", "fold_0_size_100"}
    assert {run.info.status for run in children} == {"FINISHED"}
    assert "learning_curve/learning_curve.json" in {
        item.path for item in client.list_artifacts(parent["run_id"], "learning_curve")
    }

    trained.run("learning_curve", **SIZES)  # goes on, and finds everything done
    assert len(client.search_runs([parent["experiment_id"]], under)) == 2


def test_what_the_curve_cannot_do_is_one_sentence(trained: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="leave it out"):
        trained.run("learning_curve", overrides="training.sample_fraction=0.5", **SIZES)
    with pytest.raises(
        MentallamError, match="does not exist yet: run `kedro run --pipeline data_processing --env test`"
    ):
        trained.run("learning_curve", data_dir=str(tmp_path))
