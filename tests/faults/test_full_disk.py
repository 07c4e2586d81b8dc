"""A run on a disk that is full: one sentence, nothing lost, and the same command goes on after space is made."""

from pathlib import Path

import pytest

from mentallam.console import LOG_FILE
from tests.integration.workspace import Workspace
from tests.unit.disks import full, small_disk

pytestmark = pytest.mark.slow


def results(workspace: Workspace) -> dict[str, bytes]:
    """Return the content of each file but the log and the locks."""
    return {
        str(path.relative_to(workspace.data)): path.read_bytes()
        for path in sorted(workspace.data.rglob("*"))
        if path.is_file() and path.name != LOG_FILE and path.parent.name != ".locks"
    }


def test_data_processing_on_a_full_disk_goes_on_after_space_is_made(tmp_path: Path) -> None:
    """The disk is full at the start, then filled again under whole results; both times nothing is lost."""
    with small_disk(tmp_path / "disk", 32_768) as disk:
        workspace = Workspace(disk)
        command = ("--pipeline", "data_processing")
        with full(disk):
            failed = workspace.kedro(*command)
        assert failed.returncode == 1
        assert "can't be written (No space left on device): check space and rights" in failed.stderr + failed.stdout
        assert "Traceback" not in failed.stderr
        assert "Logging error" not in failed.stderr
        assert results(workspace) == {}

        assert workspace.kedro(*command).returncode == 0
        before = results(workspace)
        with full(disk):
            assert workspace.kedro(*command).returncode == 1
        assert results(workspace) == before
        assert workspace.kedro(*command).returncode == 0
        assert results(workspace).keys() == before.keys()
