"""A whole study through `mlflow server` with PostgreSQL behind it: the same records as in the project's mlflow.db."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from mentallam.tracking import PARENT_RUN_TAG
from tests.integration.workspace import Workspace
from tests.servers import mlflow_server, postgres

pytestmark = pytest.mark.slow

FOLDS = [f"fold_{fold}" for fold in range(5)]
# Metrics of the machine, not of the model.
MEASURED = {
    *("pairs_per_second", "seconds", "train_runtime", "train_samples_per_second", "train_steps_per_second"),
    *("peak_rss_bytes", "duration_s"),
}
# These hold folders or times; plotly writes a random id into each figure's page.
VARYING = {
    *("checkpoint/README.md", "checkpoint/mentallam.json", "fold/result.json", "fold/sha256.json"),
    *("report_inputs/cv_outcome.json", "reporting/cv_summary.json", "reporting/model_card.md", "reporting/report.md"),
    "reporting/thresholds.json",
}


@pytest.fixture(scope="module")
def on_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """Run `kedro run --env test` with a server's address in MLFLOW_TRACKING_URI."""
    folder = tmp_path_factory.mktemp("server")
    with postgres() as database, mlflow_server(folder, database) as address:
        yield trained(Workspace(folder, address))


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Run `kedro run --env test` with the database and the artifacts in a folder."""
    return trained(Workspace(tmp_path_factory.mktemp("disk")))


def trained(workspace: Workspace) -> Workspace:
    done = workspace.kedro()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workspace


def runs(workspace: Workspace) -> dict[str, Run]:
    """Return the cross-validation's run as "parent" and the folds' runs by their name."""
    client = workspace.client()
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    parents = [run for run in found if PARENT_RUN_TAG not in run.data.tags]
    children = [run for run in found if PARENT_RUN_TAG in run.data.tags]
    assert len(parents) == 1
    assert {run.data.tags[PARENT_RUN_TAG] for run in children} == {parents[0].info.run_id}
    assert sorted(str(run.info.run_name) for run in children) == FOLDS
    return {"parent": parents[0], **{str(run.info.run_name): run for run in children}}


def points(client: MlflowClient, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return the steps and values of each metric, in the order of steps; those of the machine are left out."""
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
        if name not in MEASURED and not name.startswith("system/")
    }


def files(workspace: Workspace, run: Run, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the run's artifacts, by its path; a run's name stands for its id in them."""
    uri = workspace.environment["MLFLOW_TRACKING_URI"]
    download_artifacts(run_id=run.info.run_id, artifact_path="", dst_path=str(folder), tracking_uri=uri)
    found = {}
    for file in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        content = file.read_bytes()
        for name, other in runs(workspace).items():
            content = content.replace(other.info.run_id.encode(), name.encode())
        found[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@pytest.mark.parametrize("name", ["parent", *FOLDS])
def test_the_server_keeps_the_same_records(on_disk: Workspace, on_server: Workspace, tmp_path: Path, name: str) -> None:
    here, there = runs(on_disk)[name], runs(on_server)[name]
    assert here.info.status == there.info.status == "FINISHED"
    assert here.data.params == there.data.params
    assert here.data.tags.keys() == there.data.tags.keys()
    assert points(on_disk.client(), here) == points(on_server.client(), there)
    kept, uploaded = files(on_disk, here, tmp_path / "disk"), files(on_server, there, tmp_path / "server")
    assert kept.keys() == uploaded.keys()
    # The history holds the seconds that the training took.
    varying = (".html", "history.parquet", "SHA256SUMS")
    fixed = {path for path in kept if path not in VARYING and not path.endswith(varying)}
    assert len(fixed) >= (10 if name in FOLDS else 20)
    assert {path: kept[path] for path in fixed} == {path: uploaded[path] for path in fixed}


def test_the_pages_of_runs_answer(on_server: Workspace) -> None:
    address, client = on_server.environment["MLFLOW_TRACKING_URI"], on_server.client()
    parent = runs(on_server)["parent"].info
    with urlopen(address, timeout=60) as page:
        assert page.status == 200
    card = client.list_artifacts(parent.run_id, "reporting")
    assert "reporting/model_card.md" in {file.path for file in card}
    with urlopen(f"{address}/get-artifact?run_uuid={parent.run_id}&path=reporting/model_card.md", timeout=60) as page:
        assert page.read().startswith(b"# Model card")


def test_the_champion_predicts_from_the_server_alone(on_server: Workspace, tmp_path: Path) -> None:
    champions = [model for model in on_server.client().search_registered_models() if "champion" in model.aliases]
    assert [model.name for model in champions] == ["mentallam-tiny"]
    posts = tmp_path / "posts.csv"
    posts.write_text("post_id,text\na,I am awake every night.\n", encoding="utf-8")
    done = on_server.kedro("--pipeline", "inference", f"--params=input={posts}", "--params=model=champion")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    predictions = (on_server.data / "07_model_output" / "predictions.jsonl").read_text(encoding="utf-8")
    assert len(predictions.splitlines()) == 9
