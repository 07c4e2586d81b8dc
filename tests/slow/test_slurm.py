"""Folds as jobs of a real SLURM cluster of two nodes: what one process gives, whatever happens to a job or a node."""

import json
import re
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


class Held:
    """The process of a job that is in a fold, behind a training state, and halted there."""

    def __init__(self, fold: str, process: psutil.Process) -> None:
        self.fold, self.process, self.job = fold, process, process.environ()["SLURM_JOB_ID"]
        process.suspend()

    def let_go(self) -> None:
        with suppress(psutil.NoSuchProcess):
            self.process.resume()


def held_job(workspace: Workspace, run: "subprocess.Popen[str]", *others: str) -> Held:
    """Wait until a job other than some trains, and halt it, since a fold is too short to be found in time otherwise."""
    found: list[Held] = []

    def look() -> bool:
        for fold in folds_with_a_state(workspace):
            with suppress(psutil.Error, ValueError, KeyError):  # it has just ended, or is about to write its id
                held = Held(fold, owner(workspace, fold))
                if held.job not in others:
                    found.append(held)
                    return True
                held.let_go()
        return False

    wait_until(look, run, "a job that trains")
    return found[0]


def owner(workspace: Workspace, fold: str) -> psutil.Process:
    """Return the process that trains a fold."""
    lock = workspace.data / ".locks" / f"study_{fold}.lock"
    return psutil.Process(json.loads(lock.read_text(encoding="utf-8"))["pid"])


def test_a_job_of_this_machine_that_is_killed_goes_on(workspace: Workspace, expected: dict[str, object]) -> None:
    """submitit's local executor needs no SLURM."""
    pytest.importorskip("submitit", reason="the extra `slurm` is not installed")
    run = begin(workspace, LONG, "slurm", "slurm.cluster=local", **TWO)
    wait_until(lambda: folds_with_a_state(workspace), run, "a training state")
    owner(workspace, min(folds_with_a_state(workspace))).kill()
    output = finished(run, workspace, expected)
    assert output.count("its process is gone; it is placed again") == 1
    assert went_on(workspace)


def test_a_fold_goes_on_whatever_ends_its_job(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    ended: list[str] = []
    for command in ("scancel --signal=USR1", "scancel", "scancel --signal=KILL"):
        held = held_job(workspace, run, *ended)
        ended.append(held.job)
        assert cluster.refuses("scontrol", "requeue", held.job)  # SLURM would train the fold a second time
        cluster.ask(*command.split(), held.job)
        held.let_go()
    output = finished(run, workspace, expected)
    assert "2 folds as SLURM jobs" in output
    # SLURM sends SIGTERM ahead of the SIGKILL that was asked for.
    assert len(re.findall(r": stopped on .+; it is placed again, and goes on from its last state", output)) == 3
    assert went_on(workspace)


def test_a_fold_whose_node_is_killed_goes_on_with_the_other(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    held = held_job(workspace, run)
    node = cluster.node_of(held.job)
    cluster.kill_node(node)
    try:
        output = finished(run, workspace, expected)
    finally:
        cluster.start_node(node)
    assert f"{held.fold}: its process is gone; it is placed again" in output
    assert went_on(workspace)


def test_a_run_that_is_stopped_or_killed_goes_on_and_trains_no_fold_twice(
    cluster: SlurmCluster, workspace: Workspace, expected: dict[str, object]
) -> None:
    run = start(workspace, cluster)
    held = held_job(workspace, run)
    held.let_go()
    run.send_signal(signal.SIGTERM)
    output = run.communicate(timeout=300)[0]
    assert run.returncode == 143, output
    assert not cluster.ask("squeue", "--noheader").split()
    run = start(workspace, cluster)
    held = held_job(workspace, run, held.job)
    run.kill()
    run.communicate()
    output = finished(start(workspace, cluster), workspace, expected)
    cancelled = re.findall(r"jobs of an earlier run are cancelled \((.+)\)", output)
    assert held.job in ", ".join(cancelled).split(", ")  # the other one may have ended meanwhile
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
    held = held_job(workspace, job)
    cluster.ask("scancel", "--batch", "--signal=USR1", held.job)
    held.let_go()
    assert job.wait(900) == 0, log.read_text(encoding="utf-8")[-3000:]
    finished(job, workspace, expected)
    assert went_on(workspace)
