from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from tests.integration.workspace import Workspace
from tests.leaks import SECRETS


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Run `kedro run --env test` once for all tests that only read its results."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    done = workspace.kedro(forked=False, **SECRETS)
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
