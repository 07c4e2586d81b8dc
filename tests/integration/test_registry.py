"""The champion that the shared run registered, loaded by name in another process, as a user of MLflow does."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion

from mentallam.errors import MentallamError
from mentallam.tracking_client import TOKEN_TAG
from tests.integration.workspace import Workspace

NAME = "mentallam-tiny"
PREDICT = """
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model("models:/mentallam-tiny@champion")
posts = pandas.read_csv(sys.argv[1], dtype=object)
model.predict(posts).to_json(sys.argv[2], orient="records", lines=True, double_precision=15)
"""


@pytest.fixture(scope="module")
def outcome(trained: Workspace) -> dict:
    return json.loads((trained.data / "07_model_output" / "cv_outcome.json").read_text())


def champion(workspace: Workspace) -> ModelVersion:
    return workspace.client().get_model_version_by_alias(NAME, "champion")


def test_the_champion_in_a_new_process_answers_as_inference_does(trained: Workspace, tmp_path: Path) -> None:
    posts, answer = tmp_path / "posts.csv", tmp_path / "answer.jsonl"
    posts.write_text(
        'post_id,text,criterion_id\na,"I am awake at night, every night.",\nb,Ask me@example.com why I am tired.,A.6\n'
    )
    done = trained.python("-c", PREDICT, str(posts), str(answer))
    assert done.returncode == 0, done.stderr[-3000:]
    trained.run("inference", input=str(posts), model="champion")
    inferred = pd.read_json(trained.data / "07_model_output" / "predictions.jsonl", lines=True)
    loaded = pd.read_json(answer, lines=True)
    assert len(loaded) == 10
    # Inference saves ten digits.
    pd.testing.assert_frame_equal(loaded, inferred.drop(columns="run_id"), rtol=0, atol=1e-10)


def test_the_version_says_what_it_is(trained: Workspace, outcome: dict) -> None:
    summary = json.loads((trained.data / "08_reporting" / "cv_summary.json").read_text())
    version = champion(trained)
    best = summary["folds"][summary["best_fold"]]
    assert {name: tag for name, tag in version.tags.items() if name != TOKEN_TAG} == {
        "cv_run_id": outcome["cv_run_id"],
        "data_hash": summary["data_hash"],
        "synthetic": "True",
        "f1": str(summary["pooled"]["f1"]),
        "dev_f1": str(best["dev_f1"]),
        "use": "ensemble",
    }
    assert best["dev_f1"] == max(fold["dev_f1"] for fold in summary["folds"])
    card = (trained.data / "08_reporting" / "model_card.md").read_text()
    assert card.startswith(version.description.partition("\n\n(shortened;")[0])
    assert "SYNTHETIC" in version.description


def test_reporting_twice_registers_once_and_another_use_takes_a_reason(
    trained: Workspace, outcome: dict, caplog: pytest.LogCaptureFixture
) -> None:
    before = champion(trained)
    last = {"node_names": ["reporting.register_model"]}  # what comes before it is the same each time
    trained.run("reporting", selected=last)
    assert f"this run's model is the champion already: {NAME} version {before.version}" in caplog.text
    trained.run("reporting", selected=last, registry={"use": "refit"})
    assert "nothing is registered: no model was trained on all posts" in caplog.text
    trained.run("refit")
    trained.run("reporting", selected=last, registry={"use": "refit"})
    assert f"{NAME} version {before.version} stays champion: it is the same cross-validation" in caplog.text
    assert len(trained.client().search_model_versions(f"name = '{NAME}'")) == 1

    trained.run("reporting", registry={"use": "refit", "reason": "faster"}, cv_run_id=outcome["cv_run_id"])
    version = champion(trained)
    assert (version.tags["use"], version.tags["reason"]) == ("refit", "faster")
    assert "trained on all posts" in version.description
    posts = trained.folder / "posts.csv"
    posts.write_text("post_id,text,criterion_id\na,I am tired.,A.6\n")
    trained.run("inference", input=str(posts), model="champion")
    (answer,) = pd.read_json(trained.data / "07_model_output" / "predictions.jsonl", lines=True).to_dict("records")
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    expected = model.predict(pd.DataFrame({"post_id": ["a"], "text": ["I am tired."], "criterion_id": ["A.6"]}))
    assert answer["probability"] == pytest.approx(expected["probability"].iloc[0], abs=1e-9)
    refit = json.loads((trained.data / "06_models" / "refit_result.json").read_text())
    assert answer["run_id"] == refit["run_id"] != outcome["cv_run_id"]
    trained.run("refit")
    assert "the refit is finished: it is kept" in caplog.text
    trained.run("reporting", selected=last, registry={"reason": "back"})
    assert champion(trained).version == before.version


def test_without_a_registry_nothing_is_registered(empty: Workspace, tmp_path: Path) -> None:
    posts = tmp_path / "posts.txt"
    posts.write_text("I am tired.\n")
    with pytest.raises(MentallamError, match="there is no champion yet of the registered model 'mentallam-tiny'"):
        empty.run("inference", input=str(posts), model="champion")
