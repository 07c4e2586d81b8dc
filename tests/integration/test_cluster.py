"""Folds in processes of their own, placed by the project's runner, end in what one process gives."""

import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from tests.integration.placed_folds import FOLDS, SELECTED, SEVERAL, begin, busiest_worker, results, runs_of, wait_until
from tests.integration.workspace import Workspace

SHORT = "overrides=training.max_epochs=1"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return what one process gives."""
    workspace = Workspace(tmp_path_factory.mktemp("one"))
    done = workspace.kedro(*SELECTED, f"--params={SHORT}", **SEVERAL)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace


def start(workspace: Workspace) -> "subprocess.Popen[str]":
    """Start a cross-validation whose folds two workers train, each with as many threads as one process would have."""
    return begin(workspace, SHORT, "process", "workers=2", f"threads={os.environ['OMP_NUM_THREADS']}")


def worker_in_a_fold(workspace: Workspace, run: "subprocess.Popen[str]") -> psutil.Process:
    """Wait until a worker trains; return it."""
    wait_until(lambda: list(workspace.data.glob("06_models/fold_*_attempt/record.json")), run, "a fold that has begun")
    return busiest_worker(run)


def test_two_workers_one_of_them_killed_give_what_one_process_gives(alone: Workspace, empty: Workspace) -> None:
    run = start(empty)
    worker_in_a_fold(empty, run).kill()
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output
    assert output.count("it is placed again") == 1
    assert all(output.count(f"fold_{fold}: done on ") == 1 for fold in FOLDS)
    assert "cross-validation: done after" in output
    assert results(empty) == results(alone)
    found = runs_of(empty)
    assert len(found) == 1 + len(FOLDS)  # nothing twice
    assert {each.info.status for each in found} == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_takes_its_workers_along_and_goes_on(
    alone: Workspace, empty: Workspace, number: int, code: int
) -> None:
    run = start(empty)
    worker_in_a_fold(empty, run)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(number)
    output = run.communicate(timeout=300)[0]
    assert run.returncode == code, output
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert number == signal.SIGKILL or "run the same command again to go on" in output
    if number != signal.SIGKILL:
        assert {each.info.status for each in runs_of(empty)} <= {"KILLED", "FINISHED"}
    again = start(empty)
    output = again.communicate(timeout=600)[0]
    assert again.returncode == 0, output
    assert results(empty) == results(alone)
    assert {each.info.status for each in runs_of(empty)} == {"FINISHED"}
    assert len(runs_of(empty)) == 1 + len(FOLDS)


@pytest.mark.slow
def test_two_ranks_in_a_worker_give_what_one_process_gives(empty: Workspace, tmp_path: Path) -> None:
    """Two folds, so that a worker starts its ranks twice; the same bits with ranks of the run's own process."""
    other = Workspace(tmp_path / "other")
    one = Workspace(tmp_path / "one")
    folds, threads = {"MENTALLAM_CV_FOLDS": "2"}, {"OMP_NUM_THREADS": "2"}
    pipelines = ("--pipelines", "data_processing,cv_training")
    ranks = "overrides=training.ranks=2"
    worker = "cluster.backend=process,cluster.workers=1,cluster.threads=2"
    for workspace, params, variables in (
        (one, "cluster.backend=sequential", folds),
        (empty, f"cluster.backend=sequential,{ranks}", folds | threads),
        (other, f"{worker},{ranks}", folds | threads),
    ):
        workspace.folder.mkdir(exist_ok=True)
        done = workspace.kedro(*pipelines, f"--params={params}", forked=False, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    for fold in range(2):
        adapter = Path("06_models", f"fold_{fold}", "adapter_model.safetensors")
        assert (empty.data / adapter).read_bytes() == (other.data / adapter).read_bytes()
        expected, found = (load_file(each.data / adapter) for each in (one, empty))
        assert max(float((found[name] - expected[name]).abs().max()) for name in expected) < 1e-4


@pytest.mark.slow
def test_the_first_error_of_a_fold_is_the_runs_and_names_it(empty: Workspace) -> None:
    other_folds = f"cluster.variables.MENTALLAM_CV_FOLDS={len(FOLDS) + 1}"
    done = empty.kedro(*SELECTED, f"--params=cluster.backend=process,{other_folds}", forked=False, **SEVERAL)
    output = done.stdout + done.stderr
    assert done.returncode == 1, output
    assert "Error: fold_" in output.splitlines()[-1], output
    assert {each.info.status for each in runs_of(empty)} == {"FAILED"}
    assert Path(empty.data / "06_models/cv_run.json").exists()
