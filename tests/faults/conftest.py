"""Slow: each test runs whole pipelines."""

from pathlib import Path

import pytest

from tests.integration.conftest import _restore_tracking  # noqa: F401  # a fixture
from tests.integration.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")
