"""The decision on each pair, from the files that a real `kedro run` leaves."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mentallam.config import DecisionConfig
from mentallam.evaluation.decision import Decision, fit_decision
from tests.integration.workspace import Workspace

FOLDS = range(5)


def decision(trained: Workspace, fold: int) -> Decision:
    saved = json.loads((trained.data / "06_models" / f"fold_{fold}" / "mentallam.json").read_text())
    return Decision.from_dict(saved["decision"])


def output(trained: Workspace, name: str) -> pd.DataFrame:
    return pd.read_parquet(trained.data / "07_model_output" / "folds" / f"{name}.parquet")


@pytest.fixture(scope="module")
def oof(trained: Workspace) -> pd.DataFrame:
    return pd.read_parquet(trained.data / "07_model_output" / "oof_predictions.parquet")


@pytest.mark.parametrize("fold", FOLDS)
def test_the_checkpoints_decision_is_the_one_of_its_dev_pairs(trained: Workspace, fold: int) -> None:
    dev = output(trained, f"fold_{fold}_dev_predictions")
    split = json.loads((trained.data / "05_model_input" / "folds" / f"fold_{fold}.json").read_text())
    assert set(dev["post_id"]) == set(split["dev"])
    assert not dev.duplicated(["post_id", "criterion_id"]).any()
    assert decision(trained, fold) == fit_decision(dev, DecisionConfig())


@pytest.mark.parametrize("fold", FOLDS)
def test_held_out_pairs_are_decided_by_the_checkpoint(trained: Workspace, oof: pd.DataFrame, fold: int) -> None:
    held_out = oof[oof["fold"] == fold]
    again = decision(trained, fold).decide(held_out[["criterion_id", "logit"]])
    np.testing.assert_allclose(again["probability"], held_out["probability"], rtol=1e-12)
    assert again["threshold"].tolist() == held_out["threshold"].tolist()
    assert again["prediction"].tolist() == held_out["prediction"].tolist()


def test_a_post_has_one_length_and_it_is_not_zero(oof: pd.DataFrame) -> None:
    assert (oof.groupby("post_id")["post_tokens"].nunique() == 1).all()
    assert oof["post_tokens"].min() > 0


@pytest.mark.parametrize("fold", FOLDS)
def test_the_history_has_the_loss_of_every_step(trained: Workspace, fold: int) -> None:
    history = output(trained, f"fold_{fold}_history")
    assert history.columns.tolist() == ["fold", "step", "metric", "value"]
    assert set(history["fold"]) == {fold}
    steps = json.loads((trained.data / "07_model_output" / "folds" / f"fold_{fold}_result.json").read_text())["steps"]
    assert history.loc[history["metric"] == "loss", "step"].tolist() == list(range(1, steps + 1))
    assert "dev_f1" in set(history["metric"])


def test_reporting_alone_gives_the_same_report_and_needs_no_model(trained: Workspace, tmp_path: Path) -> None:
    before = json.loads((trained.data / "08_reporting" / "cv_summary.json").read_text())
    checkpoints = [trained.data / "06_models" / f"fold_{fold}" for fold in FOLDS]
    for folder in checkpoints:
        folder.rename(tmp_path / folder.name)
    try:
        trained.run("reporting")
    finally:
        for folder in checkpoints:
            (tmp_path / folder.name).rename(folder)
    assert json.loads((trained.data / "08_reporting" / "cv_summary.json").read_text()) == before


def test_a_given_threshold_replaces_every_other(trained: Workspace, tmp_path: Path) -> None:
    posts = tmp_path / "posts.csv"
    posts.write_text("post_id,text\np1,I lie awake until four every night.\n", encoding="utf-8")
    rows = {}
    for word in ("", "inference.threshold=0", "inference.threshold=1"):
        trained.run("inference", input=str(posts), overrides=word)
        lines = (trained.data / "07_model_output" / "predictions.jsonl").read_text().splitlines()
        rows[word] = [json.loads(line) for line in lines]
    assert {(row["threshold"], row["label"]) for row in rows["inference.threshold=0"]} == {(0.0, "yes")}
    assert {(row["threshold"], row["label"]) for row in rows["inference.threshold=1"]} == {(1.0, "no")}
    for changed in ("inference.threshold=0", "inference.threshold=1"):
        assert [row["probability"] for row in rows[changed]] == [row["probability"] for row in rows[""]]
