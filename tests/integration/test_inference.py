"""Inference with the model that the shared run trained."""

import json
import logging
from pathlib import Path

import pandas as pd
import pytest

from mentallam.errors import MentallamError, RejectedRowsError
from mentallam.serving.output_fields import fields_with
from tests.integration.workspace import Workspace

FIELDS = {field.name for field in fields_with(explain=False)}
SECRET = "Marzipan lighthouse"


def predictions(workspace: Workspace) -> list[dict]:
    path = workspace.data / "07_model_output" / "predictions.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "content", "pairs"),
    [
        ("posts.csv", f'post_id,text\na,"{SECRET}, with a comma"\nb,Nothing much.\n', 18),
        ("posts.jsonl", json.dumps({"text": SECRET, "criterion_id": "A.4"}) + "\n" + json.dumps({"text": "x"}), 10),
        ("posts.txt", f"{SECRET}\n\nA second post.\n", 18),
    ],
)
def test_each_kind_of_file(
    trained: Workspace, tmp_path: Path, name: str, content: str, pairs: int, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    trained.run("inference", input=str(path))
    rows = predictions(trained)
    assert len(rows) == pairs
    assert all(row.keys() == FIELDS for row in rows)
    assert all(row["label"] == ("yes" if row["probability"] >= row["threshold"] else "no") for row in rows)
    assert SECRET not in "".join(capfd.readouterr()) + json.dumps(rows)


def test_default_is_the_champion_and_model_chooses_another(trained: Workspace, tmp_path: Path) -> None:
    outcome = json.loads((trained.data / "07_model_output" / "cv_outcome.json").read_text())
    path = tmp_path / "post.txt"
    path.write_text("I am awake at night.")
    other = next(fold["run_id"] for fold in outcome["folds"] if fold["run_id"] != outcome["best_run_id"])
    for given, expected in (
        ({}, outcome["cv_run_id"]),
        ({"model": "latest"}, outcome["cv_run_id"]),
        ({"model": "best_fold"}, outcome["best_run_id"]),
        ({"model": other}, other),
        ({"model": str(trained.data / "06_models" / "fold_1")}, outcome["folds"][1]["run_id"]),
        ({"model": "ensemble"}, outcome["cv_run_id"]),
    ):
        trained.run("inference", input=str(path), **given)
        assert {row["run_id"] for row in predictions(trained)} == {expected}
    summary = json.loads((trained.data / "07_model_output" / "prediction_summary.json").read_text())
    assert summary["model"]["folds"] == [fold["fold"] for fold in outcome["folds"]]


def test_the_summary_compares_with_the_training_posts(trained: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text(json.dumps({"text": SECRET}) + "\n{bad\n" + json.dumps({"text": "x " * 3000}) + "\n")
    with pytest.raises(RejectedRowsError, match=r"1 of 3 rows could not be answered: see .*rejects\.jsonl"):
        trained.run("inference", input=str(path), output=str(tmp_path / "out"), output_format="parquet")
    text = (tmp_path / "out" / "prediction_summary.json").read_text()
    summary = json.loads(text)
    assert SECRET not in text
    assert summary["counts"] == {
        **summary["counts"],
        **{"rows": 3, "rejected_rows": 1, "posts": 2, "truncated_posts": 1, "pairs": 18},
    }
    assert "never a diagnosis" in summary["notice"]
    assert all(0 < row["positive_rate_in_training"] < 1 for row in summary["criteria"].values())
    assert [json.loads(line)["row"] for line in (tmp_path / "out" / "rejects.jsonl").open()] == [2]
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert len(table) == 18 and set(table) == FIELDS


def test_criteria_of_the_users_own(trained: Workspace, tmp_path: Path) -> None:
    (tmp_path / "posts.txt").write_text("I am awake at night.\n")
    (tmp_path / "mine.csv").write_text("criterion_id,criterion\nS.1,The author feels alone.\n")
    trained.run("inference", input=str(tmp_path / "posts.txt"), criteria=str(tmp_path / "mine.csv"))
    (row,) = predictions(trained)
    assert (row["criterion_id"], row["wording"]) == ("S.1", "untrained wording, uncalibrated")


def test_predict_free_text(trained: Workspace) -> None:
    text = "text with, commas: and 'quotes' # and @ more"
    done = trained.forked("mentallam", "predict", "--env", "test", "--json", text)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)["answers"]
    assert [row["criterion_id"] for row in rows] == [f"A.{number}" for number in range(1, 10)]

    one = trained.forked("mentallam", "predict", "--env", "test", "--criterion", "A.4", text)
    assert one.returncode == 0
    assert "A.4" in one.stdout
    assert "A.5" not in one.stdout
    assert "never a diagnosis" in one.stdout


def test_a_file_that_is_there_is_kept_until_it_may_be_replaced(
    trained: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    posts, output = tmp_path / "posts.txt", tmp_path / "june.csv"
    posts.write_text("I am awake at night.\n")
    with caplog.at_level(logging.INFO):
        trained.run("inference", input=str(posts), output=str(output), overwrite=False)
    assert {path.name for path in tmp_path.glob("june*")} == {"june.csv", "june_summary.json", "june_metrics.prom"}
    assert "1 posts, 9 pairs" in caplog.text and f"{output}" in caplog.text and "never a diagnosis" in caplog.text
    before = output.read_bytes()
    posts.write_text("I am never awake at night.\nNor by day.\n")
    with pytest.raises(MentallamError, match=r"june\.csv exists: .* replace it with overwrite=true"):
        trained.run("inference", input=str(posts), output=str(output), overwrite=False)
    assert output.read_bytes() == before
    trained.run("inference", input=str(posts), output=str(output), overwrite=True)
    assert len(pd.read_csv(output)) == 18
    with pytest.raises(MentallamError, match="CSV has no place for the sentences of explain=true"):
        trained.run("inference", input=str(posts), output=str(output), explain=True)
