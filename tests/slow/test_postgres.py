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
        if not name.startswith("system/")
    }


def files(workspace: Workspace, run: Run, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the run's artifacts, by its path."""
    uri = workspace.environment["MLFLOW_TRACKING_URI"]
    download_artifacts(run_id=run.info.run_id, artifact_path="", dst_path=str(folder), tracking_uri=uri)
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def different(one: dict[str, object], other: dict[str, object]) -> dict[str, tuple[object, object]]:
    return {name: (one.get(name), other.get(name)) for name in one | other if one.get(name) != other.get(name)}


@pytest.mark.parametrize("name", ["parent", *FOLDS])
def test_the_server_keeps_the_same_records(on_disk: Workspace, on_server: Workspace, tmp_path: Path, name: str) -> None:
    here, there = runs(on_disk)[name], runs(on_server)[name]
    assert here.info.status == there.info.status == "FINISHED"
    print(different(here.data.tags, there.data.tags))
    print(different(here.data.params, there.data.params))
    a, b = points(on_disk.client(), here), points(on_server.client(), there)
    print(different(a, b))
    kept, uploaded = files(on_disk, here, tmp_path / "disk"), files(on_server, there, tmp_path / "server")
    print(len(kept), len(a), list(different(kept, uploaded)))
    assert 0


def test_the_pages_of_runs_answer(on_server: Workspace) -> None:
    address, client = on_server.environment["MLFLOW_TRACKING_URI"], on_server.client()
    parent = runs(on_server)["parent"].info
    with urlopen(address, timeout=60) as page:
        assert page.status == 200
    card = client.list_artifacts(parent.run_id, "reporting")
    assert "reporting/model_card.md" in {file.path for file in card}
    with urlopen(f"{address}/get-artifact?run_uuid={parent.run_id}&path=reporting/model_card.md", timeout=60) as page:
        assert page.read().startswith(b"---")


def test_the_champion_predicts_from_the_server_alone(on_server: Workspace, tmp_path: Path) -> None:
    champions = [model for model in on_server.client().search_registered_models() if "champion" in model.aliases]
    assert [model.name for model in champions] == ["mentallam-tiny"]
    posts = tmp_path / "posts.csv"
    posts.write_text("post_id,text\na,I am awake every night.\n", encoding="utf-8")
    done = on_server.kedro("--pipeline", "inference", f"--params=input={posts}", "--params=checkpoint_run=champion")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    predictions = (on_server.data / "07_model_output" / "predictions.jsonl").read_text(encoding="utf-8")
    assert len(predictions.splitlines()) == 9
