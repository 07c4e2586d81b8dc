"""A cross-validation of a few folds that an engine places, and what it is judged by."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import psutil
from mlflow.entities import Run

from tests.integration.workspace import Workspace
from tests.samples import PROJECT

FOLDS = range(3)  # one more than workers
SELECTED = ("--pipelines", "cv_training")
SEVERAL = {"MENTALLAM_CV_FOLDS": str(len(FOLDS))}
TWO = {"MENTALLAM_CV_FOLDS": "2"}
# A fold of some seconds, which saves a training state after each step.
LONG = "overrides=training.max_epochs=2 training.save_minutes=1e-9"


def alone(folder: Path, **variables: str) -> dict[str, object]:
    """Return what one process gives that nothing happens to."""
    workspace = Workspace(folder)
    done = workspace.kedro(*SELECTED, f"--params={LONG}", **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return results(workspace)


def finished(run: "subprocess.Popen[str]", workspace: Workspace, expected: dict[str, object]) -> str:
    """Wait for the end of a run, compare what it gives, and return its output."""
    output = run.communicate(timeout=900)[0]
    assert run.returncode == 0, output
    assert results(workspace) == expected
    found = runs_of(workspace)
    assert len(found) == 1 + len(expected) // 3  # nothing twice
    assert {each.info.status for each in found} == {"FINISHED"}
    return output


def begin(
    workspace: Workspace, overrides: str, backend: str, *options: str, **variables: str
) -> "subprocess.Popen[str]":
    """Start a cross-validation whose folds an engine places.

    Args:
        workspace: Where it works.
        overrides: The parameter `overrides`.
        backend: The engine.
        *options: Options of cluster.yml, such as `workers=2`.
        **variables: Environment variables.
    """
    placed = [f"cluster.{option}" for option in (f"backend={backend}", *options)]
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
            ",".join([f"data_dir={workspace.data}", overrides, *placed]),
        ],
        cwd=PROJECT,
        env={**workspace.environment, **SEVERAL, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until(holds: Callable[[], object], run: "subprocess.Popen[str]", what: str) -> None:
    """Wait for something that must come before the run ends.

    Args:
        holds: Whether it has come.
        run: The run.
        what: Its name, for the failure.
    """
    deadline = time.monotonic() + 300
    while not holds():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def busiest_worker(run: "subprocess.Popen[str]") -> psutil.Process:
    """Return the worker of the backend `process` that has computed most."""
    workers = [each for each in psutil.Process(run.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    return max(workers, key=lambda each: sum(each.cpu_times()[:2]))


def folds_with_a_state(workspace: Workspace) -> set[str]:
    """Return the folds that have saved a training state and are not finished."""
    states = workspace.data.glob("06_models/fold_*_attempt/step_*")
    return {path.parent.name.removesuffix("_attempt") for path in states}


def went_on(workspace: Workspace) -> bool:
    """Return whether a fold has gone on from a training state after its first step."""
    return ": goes on from step " in (workspace.data / "run.log").read_text(encoding="utf-8")


def results(workspace: Workspace) -> dict[str, object]:
    """Return what a cross-validation is judged by: adapters, predictions and metrics of each fold."""
    content: dict[str, object] = {}
    runs = {run.data.tags["mlflow.runName"]: run for run in runs_of(workspace)}
    for path in sorted(workspace.data.glob("07_model_output/folds/fold_?_predictions.parquet")):
        fold = path.name.removesuffix("_predictions.parquet")
        content[f"adapter of {fold}"] = (workspace.data / "06_models" / fold / "adapter_model.safetensors").read_bytes()
        content[f"predictions of {fold}"] = pd.read_parquet(path).to_dict("list")
        measured = runs[fold].data.metrics
        content[f"metrics of {fold}"] = {name: measured[name] for name in ("f1", "roc_auc")}
    assert content
    return content


def runs_of(workspace: Workspace) -> list[Run]:
    client = workspace.client()
    return list(client.search_runs([each.experiment_id for each in client.search_experiments()]))
