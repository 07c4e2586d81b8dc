"""Folds whose data come from an address and go back to it: what a shared data folder gives."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.placed_folds import (
    FOLDS,
    LONG,
    SELECTED,
    SEVERAL,
    begin,
    busiest_worker,
    results,
    runs_of,
    wait_until,
)
from tests.integration.workspace import Workspace
from tests.servers import mlflow_server


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with mlflow_server(tmp_path, f"sqlite:///{tmp_path}/mlflow.db") as address:
        yield Workspace(tmp_path, address)


@pytest.mark.slow
def test_a_fold_goes_on_from_the_state_at_the_address(workspace: Workspace, tmp_path: Path) -> None:
    alone = Workspace(tmp_path / "one")
    alone.folder.mkdir()
    done = alone.kedro(*SELECTED, f"--params={LONG}", **SEVERAL)
    assert done.returncode == 0, done.stdout + done.stderr
    bucket = tmp_path / "bucket"
    threads = f"threads={os.environ['OMP_NUM_THREADS']}"
    run = begin(workspace, LONG, "process", "workers=1", threads, f"storage=file://{bucket}")
    wait_until(lambda: list(bucket.glob("*/fold_*/attempt/step_*/manifest.json")), run, "a training state")
    busiest_worker(run).kill()
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 0, output
    assert output.count("it is placed again") == 1
    assert ": goes on from step " in output
    assert results(workspace) == results(alone)
    found = runs_of(workspace)
    assert len(found) == 1 + len(FOLDS)
    assert {each.info.status for each in found} == {"FINISHED"}
    assert not list(bucket.rglob("*.*"))  # posts are private
