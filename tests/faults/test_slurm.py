"""scripts/slurm_cv.sh under a stand-in for SLURM: a preempted study goes on, and its end is the job's end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from mentallam.tracking import PARENT_RUN_TAG
from tests.faults import slurm
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="the stand-in for SLURM needs Linux")

# Stands for `kedro run`: it notes each start, works until it is told to end, and obeys signals as the project does.
FAKE = """\
#!/bin/bash
trap 'exit 138' USR1
trap 'exit 143' TERM
echo "$OMP_NUM_THREADS $*" >> starts.txt
until [[ -f code ]]; do sleep 0.02; done
exit "$(cat code)"
"""
SCRIPT = str(PROJECT / "scripts" / "slurm_cv.sh")


class Cluster:
    """A project's folder, and the stand-in's commands.

    Args:
        folder: A new folder for the stand-in's files.
        project: The working directory of jobs.
    """

    def __init__(self, folder: Path, project: Path) -> None:
        self.spool, self.project = folder / "spool", project
        self.spool.mkdir(parents=True)
        commands = slurm.install(folder / "bin")
        path = f"{commands}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, "SLURM_STAND_IN": str(self.spool)}

        self.jobs: list[subprocess.Popen[str]] = []

    def sbatch(self, *arguments: str) -> "subprocess.Popen[str]":
        job = subprocess.Popen(
            ["sbatch", *arguments], cwd=self.project, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.jobs.append(job)
        return job

    def close(self) -> None:
        """End what a failed test has left behind."""
        for job in self.jobs:
            if job.poll() is None:
                job.terminate()
                job.wait()

    def happens(self, event: str) -> None:
        """Let the time limit come near, or the running task be preempted or cancelled."""
        (self.spool / event).touch()

    def ends(self) -> list[tuple[str, int]]:
        """Return the task and the exit code of each end of a batch shell."""
        lines = (self.spool / "history").read_text(encoding="ascii").splitlines()
        return [(task, int(code)) for _, task, _, code in (line.split() for line in lines)]


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    while not condition():
        assert process.poll() is None
        time.sleep(0.02)


def has_begun_folds(log: Path, number: int) -> bool:
    return text_of(log).count("Running node: train_and_score") == number


def text_of(log: Path) -> str:
    return log.read_text(encoding="utf-8") if log.exists() else ""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Make a project whose `kedro run` is the fake one."""
    commands = tmp_path / "project" / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "kedro").write_text(FAKE, encoding="ascii")
    (commands / "kedro").chmod(0o755)
    with closing(Cluster(tmp_path / "slurm", tmp_path / "project")) as cluster:
        yield cluster


def starts(cluster: Cluster) -> list[str]:
    log = cluster.project / "starts.txt"
    return log.read_text(encoding="ascii").splitlines() if log.exists() else []


def wait_for_starts(cluster: Cluster, number: int, job: "subprocess.Popen[str]") -> None:
    wait_until(lambda: len(starts(cluster)) == number, job)


def end_with(cluster: Cluster, code: int) -> None:
    (cluster.project / "code.new").write_text(str(code), encoding="ascii")
    (cluster.project / "code.new").rename(cluster.project / "code")


def test_a_study_that_is_preempted_three_times_finishes(cluster: Cluster) -> None:
    job = cluster.sbatch(SCRIPT, "--env", "test")
    wait_for_starts(cluster, 1, job)
    for number, event in enumerate(("limit", "preempt", "limit"), start=2):
        cluster.happens(event)
        wait_for_starts(cluster, number, job)
    end_with(cluster, 0)
    assert job.wait(60) == 0
    assert starts(cluster) == ["1 run --env test"] * 4
    assert [code for _, code in cluster.ends()] == [138, -signal.SIGKILL, 138, 0]


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_study_that_ends_by_itself_ends_the_job_with_its_code(cluster: Cluster, code: int) -> None:
    end_with(cluster, code)
    assert cluster.sbatch(SCRIPT).wait(60) == 0
    assert cluster.ends() == [("-", code)]


def test_a_cancelled_job_ends_at_once_and_stays_cancelled(cluster: Cluster) -> None:
    job = cluster.sbatch(SCRIPT)
    wait_for_starts(cluster, 1, job)
    cluster.happens("cancel")
    assert job.wait(60) == 0
    assert cluster.ends() == [("-", 143)]


def test_a_study_that_never_comes_further_is_not_started_for_ever(cluster: Cluster) -> None:
    cluster.environment["SLURM_RESTART_COUNT"] = "100"
    job = cluster.sbatch(SCRIPT)
    wait_for_starts(cluster, 1, job)
    cluster.happens("limit")
    assert job.wait(60) == 0
    assert cluster.ends() == [("-", 138)]


def test_an_array_trains_a_fold_in_each_task_and_a_preempted_one_goes_on(cluster: Cluster) -> None:
    job = cluster.sbatch("--parsable", "--array=0-2", SCRIPT, "--env", "test")
    wait_for_starts(cluster, 1, job)
    cluster.happens("limit")
    wait_for_starts(cluster, 2, job)
    end_with(cluster, 0)
    assert job.communicate(timeout=60)[0] == "1000\n"
    assert starts(cluster) == [
        f"1 run --env test --pipelines cv_training --namespaces fold_{fold}" for fold in (0, 0, 1, 2)
    ]
    assert cluster.ends() == [("0", 138), ("0", 0), ("1", 0), ("2", 0)]


@pytest.mark.slow
def test_the_project_finishes_after_three_preemptions(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "study")
    workspace.folder.mkdir()
    with closing(Cluster(tmp_path / "slurm", PROJECT)) as cluster:
        commands = f"{cluster.environment['PATH']}{os.pathsep}{Path(sys.executable).parent}"
        folds = {"MENTALLAM_CV_FOLDS": "3"}
        cluster.environment = {**cluster.environment, **workspace.environment, **folds, "PATH": commands}
        job = cluster.sbatch(SCRIPT, "--env", "test", "--params", f"data_dir={workspace.data}")
        log = workspace.data / "run.log"
        # All starts write to one log. The first is ended in fold 0, the second in fold 1, the third in fold 2.
        for begun, event in ((1, "limit"), (3, "preempt"), (6, "limit")):
            wait_until(partial(has_begun_folds, log, begun), job)
            cluster.happens(event)
        assert job.wait(1200) == 0
        ends = [code for _, code in cluster.ends()]
        assert ends == [138, -signal.SIGKILL, 138, 0], text_of(log)[-5000:]
    client = workspace.client()
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = sorted(str(run.info.run_name) for run in runs if PARENT_RUN_TAG in run.data.tags)
    assert (len(runs), names) == (4, ["fold_0", "fold_1", "fold_2"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert (workspace.data / "08_reporting" / "report.html").exists()
