"""Folds as jobs of a real SLURM cluster of two nodes: what one process gives, whatever happens to a job or a node."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.integration.placed_folds import LONG, TWO, alone, begin, finished, folds_with_a_state, wait_until, went_on
from tests.integration.workspace import Workspace
from tests.samples import PROJECT
from tests.slurm_cluster import SlurmCluster, slurm_cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    with slurm_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return alone(tmp_path_factory.mktemp("one"), **TWO)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def start(workspace: Workspace, cluster: SlurmCluster) -> "subprocess.Popen[str]":
    return begin(workspace, LONG, "slurm", **cluster.environment, **TWO)


def training_job(workspace: Workspace, run: "subprocess.Popen[str]", other_than: str = "") -> tuple[str, str]:
    """Wait until a job is in a fold, behind a training state; return fold and job."""
    found = set[tuple[str, str]]()

    def look() -> bool:
        found.clear()
        for fold in folds_with_a_state(workspace):
            with suppress(psutil.Error, ValueError):  # it has just ended, or is about to write its id
                owner = json.loads((workspace.data / ".locks" / f"study_{fold}.lock").read_text())
                found.add((fold, psutil.Process(owner["pid"]).environ().get("SLURM_JOB_ID", other_than)))
        found.difference_update([each for each in found if each[1] == other_than])
        return bool(found)

    wait_until(look, run, "a job that trains")
    return min(found)


def test_a_fold_goes_on_whatever_ends_its_job(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    job = ""
    for command in ("scancel --signal=USR1", "scancel", "scancel --signal=KILL"):
        _, job = training_job(workspace, run, other_than=job)
        assert cluster.refuses("scontrol", "requeue", job)  # SLURM would train the fold a second time
        cluster.ask(*command.split(), job)
    output = finished(run, workspace, expected)
    assert "2 folds as SLURM jobs" in output
    assert output.count("; it is placed again, and goes on from its last state") == 3
    assert output.count("its process is gone; it is placed again") == 1
    assert went_on(workspace)


def test_a_fold_whose_node_is_killed_goes_on_with_the_other(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    fold, job = training_job(workspace, run)
    node = cluster.node_of(job)
    cluster.kill_node(node)
    try:
        output = finished(run, workspace, expected)
    finally:
        cluster.start_node(node)
    assert f"{fold}: its process is gone; it is placed again" in output
    assert went_on(workspace)


def test_a_run_that_is_stopped_or_killed_goes_on_and_trains_no_fold_twice(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    _, job = training_job(workspace, run)
    run.send_signal(signal.SIGTERM)
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 143, output
    assert not cluster.ask("squeue", "--noheader").split()
    run = start(workspace, cluster)
    training_job(workspace, run, other_than=job)
    run.kill()
    run.communicate()
    left = cluster.ask("squeue", "--noheader", "--format=%i").split()
    assert left
    output = finished(start(workspace, cluster), workspace, expected)
    assert f"jobs of an earlier run are cancelled ({', '.join(sorted(left))})" in output
    assert went_on(workspace)


def test_the_script_submits_itself_again_before_its_time_is_up(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    """SLURM sends the signal of the script's `#SBATCH --signal` early here, and keeps the job's number."""
    log = workspace.folder / "job.txt"
    command = ["sbatch", "--parsable", "--wait", "--gres=none", "--cpus-per-task=1", "--mem=0", f"--output={log}"]
    selected = ("--env", "test", "--pipelines", "cv_training", "--params", f"data_dir={workspace.data},{LONG}")
    job = subprocess.Popen(
        [*command, "scripts/slurm_cv.sh", *selected],
        cwd=PROJECT,
        env={**workspace.environment, **cluster.environment, **TWO},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    fold, number = training_job(workspace, job)
    cluster.ask("scancel", "--batch", "--signal=USR1", number)
    assert job.wait(900) == 0, log.read_text(encoding="utf-8")[-3000:]
    finished(job, workspace, expected)
    assert went_on(workspace), fold
