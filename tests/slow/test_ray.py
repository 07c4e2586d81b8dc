"""Folds on a real Ray cluster of two nodes, with a tracking server: what one process gives, whatever is killed."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.placed_folds import LONG, TWO, alone, begin, finished, folds_with_a_state, wait_until, went_on
from tests.integration.workspace import Workspace
from tests.ray_cluster import RayCluster, ray_cluster
from tests.servers import mlflow_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return alone(tmp_path_factory.mktemp("one"), **TWO)


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that only the started run sees, not the nodes."""
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def cluster(hidden: Path) -> Iterator[RayCluster]:
    with ray_cluster(hidden) as cluster:
        yield cluster


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db") as address:
        yield address


def start(workspace: Workspace, cluster: RayCluster, *options: str) -> "subprocess.Popen[str]":
    return begin(workspace, LONG, "ray", f"address={cluster.address}", *options, **cluster.environment, **TWO)


def test_with_a_shared_folder_a_fold_goes_on_when_its_worker_or_the_run_is_killed(
    cluster: RayCluster, server: str, expected: dict[str, object], tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path, server)
    run = start(workspace, cluster)
    wait_until(lambda: folds_with_a_state(workspace), run, "a training state")
    max(cluster.tasks(), key=lambda task: sum(task.cpu_times()[:2])).kill()
    wait_until(lambda: went_on(workspace), run, "the fold to go on")
    tasks = cluster.tasks()
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(tasks, timeout=60)[1]  # Ray ends the tasks of a run that is gone
    finished(start(workspace, cluster), workspace, expected)


def test_without_a_shared_folder_a_fold_whose_node_is_killed_goes_on_with_the_other(
    cluster: RayCluster, hidden: Path, server: str, expected: dict[str, object], tmp_path: Path
) -> None:
    workspace, bucket = Workspace(hidden / "run", server), tmp_path / "bucket"
    run = start(workspace, cluster, f"storage=file://{bucket}")
    states = "*/fold_*/attempt/step_*/manifest.json"
    wait_until(lambda: list(bucket.glob(states)), run, "a training state")
    node = cluster.node_of(max(cluster.tasks(), key=lambda task: sum(task.cpu_times()[:2])))
    cluster.kill_node(node)
    try:
        output = finished(run, workspace, expected)
    finally:
        cluster.start_node(node)
    assert "its process is gone; it is placed again" in output
    assert ": goes on from step " in output
    assert not [path for path in bucket.rglob("*") if path.is_file()]
