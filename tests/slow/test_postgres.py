"""A whole study through `mlflow server` with PostgreSQL behind it: the same records as in the project's mlflow.db."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from mentallam.tracking import PARENT_RUN_TAG
from tests.integration.workspace import Workspace
from tests.servers import mlflow_server, postgres

pytestmark = pytest.mark.slow


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
    ids = [found.experiment_id for found in client.search_experiments()]
    found = client.search_runs(ids)
    parents = [run for run in found if PARENT_RUN_TAG not in run.data.tags]
    children = [run for run in found if PARENT_RUN_TAG in run.data.tags]
    assert len(parents) == 1
    assert {run.data.tags[PARENT_RUN_TAG] for run in children} == {parents[0].info.run_id}
    by_name = {"parent": parents[0], **{str(run.info.run_name): run for run in children}}
    assert len(by_name) == len(found)
    return by_name


def points(client: MlflowClient, run: Run) -> dict[str, list[tuple[int, float]]]:
    return {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def files(workspace: Workspace, run: Run, folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the run's artifacts, by its path."""
    download_artifacts(
        run_id=run.info.run_id,
        artifact_path="",
        dst_path=str(folder),
        tracking_uri=workspace.environment["MLFLOW_TRACKING_URI"],
    )
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_compare(on_disk, on_server, tmp_path):
    a, b = runs(on_disk), runs(on_server)
    print(sorted(a), sorted(b))
    for name in a:
        x, y = a[name], b[name]
        print(name, x.info.status, y.info.status)
        print(
            "params",
            {
                k: (x.data.params.get(k), y.data.params.get(k))
                for k in x.data.params | y.data.params
                if x.data.params.get(k) != y.data.params.get(k)
            },
        )
        print(
            "tags",
            {
                k: (x.data.tags.get(k), y.data.tags.get(k))
                for k in x.data.tags | y.data.tags
                if x.data.tags.get(k) != y.data.tags.get(k)
            },
        )
        p, q = points(on_disk.client(), x), points(on_server.client(), y)
        print(
            "metrics",
            len(p),
            len(q),
            sum(map(len, p.values())),
            {k: (p.get(k), q.get(k)) for k in p | q if p.get(k) != q.get(k) and not k.startswith("system")},
        )
        f, g = files(on_disk, x, tmp_path / name / "a"), files(on_server, y, tmp_path / name / "b")
        print("files", len(f), len(g), [k for k in f | g if f.get(k) != g.get(k)])
