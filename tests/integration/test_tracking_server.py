"""A user's tracking server: it holds runs and artifacts, and a reader needs no file of this machine."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow.artifacts import list_artifacts

from tests.integration.workspace import Workspace
from tests.samples import PROJECT


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Start MLflow's server on a free port, with a separate database and artifacts, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "server"
    folder.mkdir()
    address = f"http://127.0.0.1:{port}"
    command = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "mlflow", "server", *command], stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert process.poll() is None, (folder / "log.txt").read_text()
            try:
                urlopen(f"{address}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server did not start: {(folder / 'log.txt').read_text()}")
        yield address
    finally:
        process.terminate()
        process.wait()


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
