"""A user's tracking server: it holds runs and artifacts, and a reader needs no file of this machine."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.artifacts import list_artifacts

from tests.integration.workspace import Workspace
from tests.samples import PROJECT
from tests.tracking_server import tracking_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with tracking_server(tmp_path / "server") as address:
        yield address


def test_artifacts_lie_on_the_server(empty: Workspace, server: str) -> None:
    environment = {**empty.environment, "MLFLOW_TRACKING_URI": server}
    del environment["MENTALLAM_ARTIFACTS"]
    opening = ["-m", "kedro", "run", "--env", "test", "--to-nodes", "open_cv_run", "--params", f"data_dir={empty.data}"]
    done = subprocess.run([sys.executable, *opening], env=environment, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run_id = json.loads((empty.data / "06_models" / "cv_run.json").read_text())["run_id"]
    names = {artifact.path for artifact in list_artifacts(run_id=run_id, tracking_uri=server)}
    assert "data_manifest.json" in names
    assert list((empty.folder / "server" / "kept").rglob("data_manifest.json"))
