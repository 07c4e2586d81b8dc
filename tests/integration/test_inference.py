"""Inference with the model that the shared run trained."""

import json
from pathlib import Path

import pytest

from mentallam.serving.output_fields import OUTPUT_FIELDS
from tests.integration.workspace import Workspace

FIELDS = {field.name for field in OUTPUT_FIELDS}
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


def test_default_is_the_best_fold_and_checkpoint_run_chooses_another(trained: Workspace, tmp_path: Path) -> None:
    outcome = json.loads((trained.data / "07_model_output" / "cv_outcome.json").read_text())
    path = tmp_path / "post.txt"
    path.write_text("I am awake at night.")
    trained.run("inference", input=str(path))
    assert {row["run_id"] for row in predictions(trained)} == {outcome["best_run_id"]}

    other = next(fold["run_id"] for fold in outcome["folds"] if fold["run_id"] != outcome["best_run_id"])
    trained.run("inference", input=str(path), checkpoint_run=other)
    assert {row["run_id"] for row in predictions(trained)} == {other}


def test_predict_free_text(trained: Workspace) -> None:
    text = "text with, commas: and 'quotes' # and @ more"
    done = trained.command("-m", "mentallam", "predict", "--env", "test", "--json", text)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = json.loads(done.stdout)
    assert [row["criterion_id"] for row in rows] == [f"A.{number}" for number in range(1, 10)]

    one = trained.command("-m", "mentallam", "predict", "--env", "test", "--criterion", "A.4", text)
    assert one.returncode == 0
    assert "A.4" in one.stdout
    assert "A.5" not in one.stdout
    assert "never a diagnosis" in one.stdout
