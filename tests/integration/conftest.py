import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient

from tests.conftest import PROJECT


@dataclass(frozen=True)
class Workspace:
    """A place of its own for results and runs; commands go through the shell as a user's do."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "MENTALLAM_ARTIFACTS": str(self.folder / "mlruns"),
            "COLUMNS": "300",  # Kedro's log folds lines at the terminal's width
        }

    def kedro(self, *arguments: str, env: str = "test", **variables: str) -> subprocess.CompletedProcess[str]:
        params = [a.removeprefix("--params=") for a in arguments if a.startswith("--params=")]
        rest = [a for a in arguments if not a.startswith("--params=")]
        params.append(f"data_dir={self.data}")
        return self.command("-m", "kedro", "run", "--env", env, *rest, "--params", ",".join(params), **variables)

    def run(self, pipeline: str, env: str = "test", **params: object) -> None:
        """The same in this process: many times faster, for what needs no look at the terminal."""
        bootstrap_project(PROJECT)
        with pytest.MonkeyPatch.context() as patch:
            for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
                patch.setenv(name, self.environment[name])
            runtime_params = {"data_dir": str(self.data), **params}
            with KedroSession.create(PROJECT, env=env, runtime_params=runtime_params) as session:
                session.run(pipeline_names=[pipeline])  # type: ignore[attr-defined]

    def command(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=PROJECT,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            timeout=600,
        )

    def client(self) -> MlflowClient:
        return MlflowClient(self.environment["MLFLOW_TRACKING_URI"])


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """One whole `kedro run` on the test profile, shared by the tests that only read its results."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    done = workspace.kedro()
    (workspace.folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workspace


@pytest.fixture
def empty(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture(autouse=True)
def _restore_tracking() -> Callable[[], None]:  # type: ignore[misc]
    uri = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(uri)
