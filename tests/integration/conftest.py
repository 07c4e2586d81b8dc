import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient

from mentallam.cli import run
from tests.integration.workspace import Workspace
from tests.leaks import SECRETS
from tests.samples import PROJECT


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Run `kedro run --env test` once for all tests that only read its results."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    done = workspace.kedro(forked=False, **SECRETS)
    (workspace.folder / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create an empty tracking database once, since MLflow takes seconds for its tables."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def untouched(tmp_path: Path) -> Workspace:
    """Return a workspace without any file."""
    return Workspace(tmp_path)


@pytest.fixture
def empty(untouched: Workspace, empty_store: Path) -> Workspace:
    """Return a workspace with an empty tracking database only."""
    shutil.copy(empty_store, untouched.folder)
    return untouched


@pytest.fixture
def kedro_run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run `kedro run` in this process and return its last sentence, or nothing if it succeeds."""
    bootstrap_project(PROJECT)

    def start(workspace: Workspace, *arguments: str, params: str = "", env: str = "test") -> str:
        for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
            monkeypatch.setenv(name, workspace.environment[name])
        given = f"data_dir={workspace.data}" + (f",{params}" if params else "")
        result = CliRunner().invoke(run, [*(["--env", env] if env else []), *arguments, "--params", given])
        if result.exit_code == 0:
            return ""
        assert result.exit_code == 1, (result.output, result.exception)
        assert isinstance(result.exception, SystemExit), result.exception  # no traceback
        return result.stderr.strip().splitlines()[-1]

    return start


@pytest.fixture(autouse=True)
def _restore_tracking() -> Callable[[], None]:  # type: ignore[misc]
    uri = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(uri)
