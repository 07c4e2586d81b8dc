"""A comparison of two tracked runs, from the tracking alone."""

import json
from pathlib import Path

import mlflow
import pytest

from mentallam import tracking
from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace


@pytest.fixture(scope="module")
def runs(trained: Workspace) -> tuple[str, str]:
    """Return the ids of the shared cross-validation and of a copy with the same results."""
    cv_run = json.loads((trained.data / "06_models" / "cv_run.json").read_text())
    mlflow.set_tracking_uri(trained.environment["MLFLOW_TRACKING_URI"])
    kept = tracking.find_report_inputs(cv_run["run_id"])
    inputs = {name: tracking.load_report_input(cv_run["run_id"], path) for name, path in kept.items()}
    twin = trained.client().create_run(trained.client().create_experiment("twins", str(trained.folder / "twins")))
    tracking.keep_report_inputs(twin.info.run_id, inputs)
    return cv_run["run_id"], twin.info.run_id


def test_two_runs_that_agree_do_not_differ(
    trained: Workspace, runs: tuple[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = runs
    before = len(trained.client().search_runs(["0", "1", "2"]))
    trained.run("compare", data_dir=str(tmp_path), raw_dir=str(tmp_path / "none"), first=first, second=second)
    folder = tmp_path / "08_reporting"
    compared = json.loads((folder / "comparison.json").read_text())
    assert (compared["n_pairs"], compared["runs"]["second"]["cv_run_id"]) == (540, second)
    assert compared["first"] == compared["second"]
    assert all(row["estimate"] in (0, None) for row in compared["difference"].values())
    assert "SYNTHETIC" in (folder / "comparison.md").read_text()
    assert len(trained.client().search_runs(["0", "1", "2"])) == before


def test_wrong_runs_are_one_sentence(trained: Workspace, runs: tuple[str, str], tmp_path: Path) -> None:
    first, _ = runs
    wrong = {
        'compare needs two runs: --params "first=RUN_ID,second=RUN_ID"': {"first": first},
        "second=feed is no run in this tracking database": {"first": first, "second": "feed"},
        "first and second are the same run": {"first": first, "second": first},
    }
    for words, params in wrong.items():
        with pytest.raises(MentallamError) as error:
            trained.run("compare", data_dir=str(tmp_path), **params)
        assert words in error.value.message
    assert not (tmp_path / "08_reporting").exists()
