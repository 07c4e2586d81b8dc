"""The project's mlflow.db under load, under kills, and with a damaged journal."""

import json
import multiprocessing
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import mlflow
import pytest
from mlflow import MlflowClient

from mentallam.errors import MentallamError
from mentallam.tracking_store import check_store
from tests.faults.logging_fold import METRICS, PARAMS, Until, expected_artifacts, expected_tags, log_until, waits
from tests.servers import serving

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the writers are forked, so that they start at once")
# Forked from a process without threads: a lock that a thread of this process holds would stay locked in the child.
_FORKS = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else multiprocessing.get_context()
_FORKS.set_forkserver_preload(["tests.faults.logging_fold"])
_FOLDS = 5


@pytest.fixture(autouse=True)
def _restore_tracking() -> Iterator[None]:
    uri = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(uri)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a database without runs, which takes MLflow seconds to make."""
    folder = tmp_path_factory.mktemp("empty")
    MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()
    return (folder / "mlflow.db").read_bytes()


class Store:
    """A tracking database in a folder, with the runs of one study.

    Args:
        folder: The folder; `mlflow.db` may lie there.
        folds: Number of runs to open.
    """

    def __init__(self, folder: Path, folds: int) -> None:
        self.folder, self.database = folder, folder / "mlflow.db"
        self.uri = f"sqlite:///{self.database}"
        client = MlflowClient(self.uri)
        self.experiment = client.create_experiment("study", artifact_location=str(folder / "mlruns"))
        self.runs = [client.create_run(self.experiment).info.run_id for _ in range(folds)]

    def confirmed(self, run: str) -> Path:
        return self.folder / f"{run}.txt"

    def start(self, run: str, until: Until) -> multiprocessing.process.BaseProcess:
        process = _FORKS.Process(target=log_until, args=(until, self.uri, run, self.confirmed(run)))
        process.start()
        return process

    def rows(self, query: str, *values: str) -> list[tuple[str, ...]]:
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()

    def check_points(self, run: str, steps: range) -> int:
        """Check that the run has a number of steps in the range, each with all its metrics once; return the number."""
        found = len({step for (step,) in self.rows("SELECT step FROM metrics WHERE run_uuid = ?", run)})
        points = self.rows("SELECT key, step FROM metrics WHERE run_uuid = ?", run)
        assert sorted(points) == sorted((name, step) for name in METRICS for step in range(found))
        assert found in steps
        return found


def page_of_runs(store: Store, address: str) -> None:
    """Ask for what MLflow's page of runs asks for: the runs, and the history of a metric."""
    content = json.dumps({"experiment_ids": [store.experiment], "max_results": 100}).encode()
    request = Request(f"{address}/api/2.0/mlflow/runs/search", content, {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        assert len(json.load(answer)["runs"]) == len(store.runs)
    history = f"{address}/api/2.0/mlflow/metrics/get-history?run_id={store.runs[0]}&metric_key={METRICS[0]}"
    with urlopen(history, timeout=60) as answer:
        assert answer.status == 200


@contextmanager
def reading(read: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Read over and over in a thread until the body ends; yield the list of what went wrong."""
    failed: list[BaseException] = []
    over = threading.Event()

    def loop() -> None:
        while not over.wait(0.02):
            try:
                read()
            except BaseException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield failed
    finally:
        over.set()
        thread.join()


def check_load(store: Store, until: Until) -> None:
    """Let a process per run log at the same time, and count every point, parameter, tag and artifact afterwards."""
    writers = [store.start(run, until) for run in store.runs]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * len(writers)
    slowest, total = 0.0, 0
    for run in store.runs:
        confirmed = waits(store.confirmed(run))
        steps = store.check_points(run, range(len(confirmed), len(confirmed) + 1))
        slowest, total = max(slowest, *confirmed), total + steps
        params = store.rows("SELECT key, value FROM params WHERE run_uuid = ?", run)
        assert sorted(params) == sorted((f"training.{name}", str(value)) for name, value in PARAMS["training"].items())
        tags = store.rows("SELECT key, value FROM tags WHERE run_uuid = ? AND key LIKE 'mentallam.%'", run)
        assert sorted(tags) == sorted(expected_tags(steps).items())
        artifacts = {file.name: json.loads(file.read_text()) for file in store.folder.glob(f"mlruns/{run}/**/*.json")}
        assert artifacts == expected_artifacts(steps)
        assert store.rows("SELECT status FROM runs WHERE run_uuid = ?", run) == [("FINISHED",)]
    assert store.rows("PRAGMA integrity_check") == [("ok",)]
    print(f"{len(store.runs)} processes, {total} steps, nothing lost; longest wait {slowest:.1f} s")


def test_five_folds_log_at_once_while_the_runs_are_read(tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    store = Store(tmp_path, _FOLDS)
    client = MlflowClient(store.uri)
    with reading(lambda: client.search_runs([store.experiment]) and None) as failed:
        check_load(store, Until(step=12))
    assert failed == []


@pytest.mark.slow
def test_five_folds_log_for_a_minute_while_kedro_mlflow_ui_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path, _FOLDS)
    log, command = tmp_path / "ui.txt", ("kedro", "mlflow", "ui", "--env", "test")
    with (
        serving(*command, log=log, MLFLOW_TRACKING_URI=store.uri) as address,
        reading(lambda: page_of_runs(store, address)) as failed,
    ):
        check_load(store, Until(time=time.monotonic() + 60))
    assert failed == []
    assert "locked" not in log.read_text(encoding="utf-8")


def check_kills(store: Store, tries: int, seed: int) -> None:
    """Kill a writer in each try, every second time while a transaction is open, and look for what it had confirmed."""
    chance, journal, hot = random.Random(seed), Path(f"{store.database}-journal"), 0
    for number, run in enumerate(store.runs[:tries]):
        writer = store.start(run, Until())
        while not waits(store.confirmed(run)):
            assert writer.is_alive()
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.1))
        while number % 2 and not journal.exists():
            assert writer.is_alive()
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        hot += journal.exists()
        check_store(store.uri)
        steps = len(waits(store.confirmed(run)))
        store.check_points(run, range(steps, steps + 2))  # the last step may be stored and not yet confirmed
        assert store.rows("PRAGMA integrity_check") == [("ok",)]
    print(f"{tries} writers killed, {hot} of them while a transaction was open")


def test_a_killed_writer_loses_no_confirmed_point(tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    check_kills(Store(tmp_path, 2), tries=2, seed=0)


@pytest.mark.slow
def test_twenty_killed_writers_lose_no_confirmed_point(tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    check_kills(Store(tmp_path, 20), tries=20, seed=1)


def killed_while_committing(database: Path, run: str) -> None:
    """Leave a half-written transaction behind, as a process does that is killed while it writes to the database."""

    write = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 5")  # pages; the others are written before the end of the transaction
rows = [(f"metric_{number % 7}", sys.argv[2], number) for number in range(5000)]
statement = "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, 0.5, 1, ?, ?, 0)"
connection.executemany(statement, rows)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", write, str(database), run])
    assert done.returncode == -signal.SIGKILL


_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda content: content,
    "zeroed": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "cut to its header": lambda content: content[:600],
    "cut to half": lambda content: content[: len(content) // 2],
}


@pytest.mark.parametrize("damage", [*_DAMAGES, "removed"])
def test_a_damaged_journal_ends_in_one_sentence_or_in_the_last_whole_state(
    tmp_path: Path, empty_database: bytes, damage: str
) -> None:
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    store = Store(tmp_path, 1)
    MlflowClient(store.uri).log_metric(store.runs[0], "loss", 0.5)
    before = store.database.read_bytes()
    killed_while_committing(store.database, store.runs[0])
    assert store.database.read_bytes() != before
    journal = Path(f"{store.database}-journal")
    content = journal.read_bytes()
    journal.unlink()
    if damage in _DAMAGES:
        journal.write_bytes(_DAMAGES[damage](content))
    try:
        check_store(store.uri)
    except MentallamError as error:
        assert damage not in ("whole", "cut to half")
        assert re.search(r"mlflow\.db is damaged \(.*\), as after a crash .*: put a copy of it back", str(error))
        store.database.write_bytes(before)
        check_store(store.uri)
    else:
        assert damage in ("whole", "cut to half")  # the first half undoes all of this transaction
    assert store.rows("SELECT key, value FROM metrics") == [("loss", 0.5)]
    assert store.rows("PRAGMA integrity_check") == [("ok",)]


def test_after_a_crash_tables_are_compared_with_their_indexes(tmp_path: Path, empty_database: bytes) -> None:
    """One page of a transaction of an ordinary size is missing, and the journal that had it is empty."""
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    store = Store(tmp_path, 1)
    client, run = MlflowClient(store.uri), store.runs[0]
    for step in range(30):
        client.log_metric(run, "loss", 0.5, step=step)
    before = store.database.read_bytes()
    client.log_metric(run, "loss", 0.5, step=30)
    after = store.database.read_bytes()
    ((page_size,),) = store.rows("PRAGMA page_size")
    index = "index_metrics_run_uuid"
    ((root,),) = store.rows("SELECT rootpage FROM sqlite_master WHERE name = ?", index)
    place = slice((int(root) - 1) * int(page_size), int(root) * int(page_size))
    assert before[place] != after[place]
    store.database.write_bytes(after[: place.start] + before[place] + after[place.stop :])
    Path(f"{store.database}-journal").touch()
    with pytest.raises(MentallamError, match=rf"is damaged \(.* index {index}\)"):
        check_store(store.uri)
