"""A user's tracking server: it holds runs and artifacts, and a reader needs no file of this machine."""

import json
from pathlib import Path

import pytest
from mlflow.artifacts import list_artifacts

from tests.integration.workspace import Workspace
from tests.servers import mlflow_server


@pytest.mark.slow  # `make test-postgres` runs it, too
def test_artifacts_lie_on_the_server(tmp_path: Path) -> None:
    with mlflow_server(tmp_path, f"sqlite:///{tmp_path}/server.db") as server:
        workspace = Workspace(tmp_path, server)
        done = workspace.kedro("--to-nodes", "open_cv_run")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        run_id = json.loads((workspace.data / "06_models" / "cv_run.json").read_text())["run_id"]
        names = {artifact.path for artifact in list_artifacts(run_id=run_id, tracking_uri=server)}
    assert "data_manifest.json" in names
    assert list((tmp_path / "kept").rglob("data_manifest.json"))
