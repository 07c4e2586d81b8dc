"""Folds in processes of their own, placed by the project's runner, end in what one process gives."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from mlflow.entities import Run
from safetensors.torch import load_file

from tests.integration.workspace import Workspace
from tests.samples import PROJECT

FOLDS = range(3)  # one more than workers
SELECTED = ("--pipelines", "cv_training")
SHORT = "overrides=training.max_epochs=1"
SEVERAL = {"MENTALLAM_CV_FOLDS": str(len(FOLDS))}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return what one process gives."""
    workspace = Workspace(tmp_path_factory.mktemp("one"))
    done = workspace.kedro(*SELECTED, f"--params={SHORT}", **SEVERAL)
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace


def start(workspace: Workspace) -> "subprocess.Popen[str]":
    """Start a cross-validation whose folds two workers train, each with as many threads as one process would have."""
    options = f"cluster.backend=process,cluster.workers=2,cluster.threads={os.environ['OMP_NUM_THREADS']}"
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "kedro",
            "run",
            "--env",
            "test",
            *SELECTED,
            "--params",
            f"data_dir={workspace.data},{SHORT},{options}",
        ],
        cwd=PROJECT,
        env={**workspace.environment, **SEVERAL},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def worker_in_a_fold(workspace: Workspace, run: "subprocess.Popen[str]") -> psutil.Process:
    """Wait until a worker trains; return it."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()[0]
        if list(workspace.data.glob("06_models/fold_*_attempt/record.json")):
            workers = [each for each in psutil.Process(run.pid).children() if "spawn_main" in " ".join(each.cmdline())]
            if workers:
                return max(workers, key=lambda each: sum(each.cpu_times()[:2]))
        time.sleep(0.05)
    raise AssertionError("no fold has begun")


def results(workspace: Workspace) -> dict[str, object]:
    """Return what a cross-validation is judged by: adapters, predictions and metrics of each fold."""
    content: dict[str, object] = {}
    for fold in FOLDS:
        folder = workspace.data / "06_models" / f"fold_{fold}"
        content[f"adapter {fold}"] = (folder / "adapter_model.safetensors").read_bytes()
        table = pd.read_parquet(workspace.data / "07_model_output/folds" / f"fold_{fold}_predictions.parquet")
        content[f"predictions {fold}"] = table.to_dict("list")
    runs = {run.data.tags["mlflow.runName"]: run for run in runs_of(workspace)}
    for fold in FOLDS:
        measured = runs[f"fold_{fold}"].data.metrics
        content[f"metrics {fold}"] = {name: value for name, value in measured.items() if name in ("f1", "roc_auc")}
    return content


def runs_of(workspace: Workspace) -> list[Run]:
    client = workspace.client()
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))


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
