"""The project's own database while another process holds its lock: SQLite gives up after seconds, the policy later."""

import sqlite3
from pathlib import Path

import mlflow
import pytest

from mentallam import retries
from mentallam.config import RetriesConfig
from mentallam.tracking_client import retrying_client


@pytest.mark.slow
def test_a_locked_database_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    retries.configure(RetriesConfig(base_ms=1, max_attempts=3))
    lock = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)
    messages: list[str] = []

    def release(message: str) -> None:
        messages.append(message)
        lock.execute("COMMIT")

    try:
        client = retrying_client()
        run_id = client.create_run(client.create_experiment("study")).info.run_id
        monkeypatch.setattr(retries, "note_retry", release)
        lock.execute("BEGIN EXCLUSIVE")
        client.set_tag(run_id, "fold", "1")
        assert client.get_run(run_id).data.tags["fold"] == "1"
        assert len(messages) == 1 and "database is locked, attempt 1 of 3" in messages[0]
    finally:
        lock.close()
        retries.configure(RetriesConfig())
        mlflow.set_tracking_uri(before)
