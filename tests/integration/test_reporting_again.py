"""A second report of an older cross-validation, from the tracking alone, with an empty data folder."""

import json
from pathlib import Path

import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace
from tests.samples import PROJECT


@pytest.fixture(scope="module")
def cv_run_id(trained: Workspace) -> str:
    return str(json.loads((trained.data / "06_models" / "cv_run.json").read_text())["run_id"])


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """Return the parameters of a project without corpus or results."""
    return {"data_dir": str(tmp_path / "data"), "raw_dir": str(tmp_path / "raw")}


def test_the_report_is_the_same_and_lies_in_a_separate_folder(
    trained: Workspace, cv_run_id: str, elsewhere: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="mentallam"):
        trained.run("reporting", **elsewhere, cv_run_id=cv_run_id)
    first, again = trained.data / "08_reporting", Path(elsewhere["data_dir"]) / "08_reporting" / cv_run_id
    for name in ("cv_summary.json", "thresholds.json", "report.md"):
        assert (again / name).read_text() == (first / name).read_text()
    assert {path.name for path in again.iterdir()} < {path.name for path in first.iterdir()}
    table = "07_model_output/{}/oof_predictions.parquet"
    written, before = Path(elsewhere["data_dir"], table.format(cv_run_id)), trained.data / table.format(".")
    pd.testing.assert_frame_equal(pd.read_parquet(written), pd.read_parquet(before))
    assert [path.name for path in again.parent.iterdir()] == [cv_run_id]
    assert str(again / "report.html") in caplog.text and str(again / "model_card.md") in caplog.text


def test_everything_that_reporting_writes_keeps_runs_apart(trained: Workspace) -> None:
    bootstrap_project(PROJECT)
    params = {"data_dir": "/data", "cv_run_id": "feed"}
    with KedroSession.create(PROJECT, env="test", runtime_params=params) as session:
        catalog = session.load_context().catalog  # type: ignore[attr-defined]
    for name in pipelines["reporting"].all_outputs():
        place = catalog[name]._describe()
        assert "/feed/" in str(place.get("filepath") or place["folder"]), name


def test_what_a_run_keeps_holds_no_text(trained: Workspace, cv_run_id: str) -> None:
    folder = Path(trained.client().download_artifacts(cv_run_id, "report_inputs"))
    kept = {path.stem for path in folder.iterdir()}
    assert kept == {name for name in pipelines["reporting"].inputs() if not name.startswith("params:")}
    posts = pd.read_parquet(trained.data / "02_intermediate" / "posts.parquet")["text"]
    snippets = [text[:25] for text in posts]
    for path in folder.iterdir():
        content = pd.read_parquet(path).to_csv() if path.suffix == ".parquet" else path.read_text()
        assert not [snippet for snippet in snippets if snippet in content], path


def test_wrong_runs_and_wrong_uses_are_one_sentence(
    trained: Workspace, cv_run_id: str, elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = json.loads((trained.data / "06_models" / "fold_1_run.json").read_text())["run_id"]
    with pytest.raises(MentallamError, match="cv_run_id=feed is no run in this tracking database; its runs are"):
        trained.run("reporting", **elsewhere, cv_run_id="feed")
    with pytest.raises(MentallamError, match=f"is a fold's run; name its cross-validation's: cv_run_id={cv_run_id}"):
        trained.run("reporting", **elsewhere, cv_run_id=child)
    for pipeline in ("cv_training", "inference", "__default__"):
        with pytest.raises(MentallamError, match="use it with `--pipeline reporting`"):
            trained.run(pipeline, **elsewhere, cv_run_id=cv_run_id)
    assert [path.name for path in Path(elsewhere["data_dir"]).iterdir()] == [".locks"]
