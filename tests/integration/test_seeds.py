"""Several seeds and configurations, their folds in one queue, and a table of the configurations."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.workspace import Workspace
from tests.samples import PROJECT

FOLDS = {"MENTALLAM_CV_FOLDS": "2"}


def command(folder: Path, *more: str) -> list[str]:
    options = "cluster.backend=process,cluster.workers=2,cluster.threads=1"
    seeds = [sys.executable, "-m", "mentallam", "seeds", "1", "2", "--env", "test", "--to", str(folder)]
    grid = ("--grid", "adapter.r=4", "--grid", "adapter.r=8")
    return [*seeds, "--overrides", "training.max_epochs=1", "--params", options, *grid, *more]


@pytest.mark.slow
def test_the_folds_of_all_runs_are_trained_from_one_queue_also_after_a_kill(empty: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    environment = {**empty.environment, **FOLDS}
    run = subprocess.Popen(
        command(folder), cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 400
    results = "*/seed_*/07_model_output/folds/fold_*_result.json"
    while not list(folder.glob(results)):
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(list(folder.glob("*/seed_*/06_models/cv_run.json"))) == 4  # every run is opened before any is trained
    os.killpg(run.pid, signal.SIGKILL)  # the command, the queue and its workers
    run.communicate(timeout=60)
    done = subprocess.run(command(folder), cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=900)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "one queue: 8 folds in 2 processes" in output
    titles = [f"adapter.r={r} seed {seed} fold_{fold}" for r in (4, 8) for seed in (1, 2) for fold in (0, 1)]
    assert all(f"{title}: done" in output for title in titles)
    grid = json.loads((folder / "grid" / "grid.json").read_text())
    first, second = grid["configurations"]
    assert (first["difference"], grid["seeds"]) == (None, ["1", "2"])
    difference = second["difference"]["f1"]
    assert difference["mean"] == pytest.approx(second["f1"]["mean"] - first["f1"]["mean"])
    assert difference["low"] <= difference["mean"] <= difference["high"]
    assert (folder / "grid" / "grid.html").is_file()
    client = empty.client()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert [each.data.tags["mentallam.study"] for each in parents] == [grid["study"]] * 4
    assert len(runs) == 4 * (1 + 2)
    assert {each.info.status for each in runs} == {"FINISHED"}
