"""The tracking store: it is checked before it is used, and follows a project that was moved.

MLflow records the absolute address of every artifact folder. `follow_move` corrects these addresses after the project
was moved or copied, so that runs are found in the new folder and nothing is written to the old one.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from mentallam import retries, tracking_address
from mentallam.errors import MentallamError
from mentallam.tracking_address import ARTIFACT_FOLDER, DATABASE, database_address, local_path
from mentallam.tracking_client import find_refusal
from mentallam.variables import ARTIFACTS

# A server must answer once within these seconds, before the work begins; later requests use MLflow's long timeout.
_TIMEOUT = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# Somebody may wait for the answer, and a mistyped address never gives one.
_FIRST_ATTEMPTS = 3

# Tables and columns of MLflow's database that hold addresses of artifacts.
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def announce(uri: str) -> None:
    """Tell MLflow to use a store, without connecting to it."""
    tracking_address.note_announcement(uri)
    mlflow.set_tracking_uri(uri)


def check_store(uri: str) -> None:
    """Check that the store answers within seconds, and that a database in a file is whole.

    Raises:
        MentallamError: It does not, or it is damaged; the message gives the reason.
    """
    shown = without_password(uri)
    try:
        if uri.startswith("sqlite:"):  # MLflow itself tries for minutes
            _check_database(make_url(uri).database or "")
        with _short_timeout():
            retries.call(
                "the first request to the tracking store",
                lambda: MlflowClient(uri).search_experiments(max_results=1),
                _FIRST_ATTEMPTS,
            )
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise find_refusal("the first request", error) or MentallamError(
            f"the tracking store {shown} can't be used ({_reason(error)}): make it available, or name another in "
            f"MLFLOW_TRACKING_URI"
        ) from None


def _check_database(path: str) -> None:
    # A journal is left by a crash in the middle of a transaction, or belongs to a process that is writing. The long
    # check, 3 s for a million points, also compares tables with their indexes; the short one takes a tenth of that.
    check = "integrity_check" if Path(f"{path}-journal").exists() else "quick_check"
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        try:
            damage = connection.execute(f"PRAGMA {check}(1)").fetchone()[0]
        except sqlite3.OperationalError:  # it is locked, or can't be opened
            raise
        except sqlite3.DatabaseError as error:
            damage = str(error)
    if damage != "ok":
        raise MentallamError(
            f"{path} is damaged ({damage.splitlines()[-1]}), as after a crash whose journal was lost: put a copy of it "
            f"back, move it away to start over, or name another store in MLFLOW_TRACKING_URI"
        )


def follow_move(uri: str, project: Path) -> None:
    """Correct the addresses of artifacts in the project's database after the project was moved.

    Args:
        uri: The store; nothing happens unless it is the project's database.
        project: The project's folder.

    Raises:
        MentallamError: The artifacts are neither below the project nor where the database says, or they belong to
            another project that still exists.
    """
    database = project / DATABASE
    if uri != database_address(database) or not database.is_file():
        return
    try:
        with closing(sqlite3.connect(database, timeout=30)) as connection, connection:
            for root in _moved_roots(connection, project):
                _replace_root(connection, root, project / ARTIFACT_FOLDER)
    except sqlite3.Error as error:
        raise MentallamError(
            f"{database} can't be changed ({error}), and it names a folder that no longer holds its artifacts: check "
            f"its rights, then run this again"
        ) from None


@contextmanager
def _short_timeout() -> Iterator[None]:
    """Make MLflow give up soon, unless the user has set the timeout."""
    name, seconds = _TIMEOUT
    if name in os.environ:
        yield
        return
    os.environ[name] = seconds
    try:
        yield
    finally:
        os.environ.pop(name, None)


def without_password(uri: str) -> str:
    """Return the address of a store as it may be shown."""
    parts = urlsplit(uri)
    return uri.replace(f"{parts.netloc}", parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri


def _reason(error: Exception) -> str:
    root: BaseException = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    if status := retries.find_status(error):
        return f"HTTP {status}"  # the library's text has the address, perhaps with a password
    text = str(getattr(root, "orig", None) or root).strip().partition("\n")[0]
    return text or type(root).__name__


def _moved_roots(connection: sqlite3.Connection, project: Path) -> set[Path]:
    """Return the folders that the database names although their content is now in the project's `mlruns`."""
    runs: dict[Path, list[str]] = {}
    for run_id, address in connection.execute("SELECT run_uuid, artifact_uri FROM runs"):
        if path := local_path(address):
            runs.setdefault(path.parents[1], []).append(run_id)
    for (address,) in connection.execute("SELECT artifact_location FROM experiments WHERE name != 'Default'"):
        if path := local_path(address):
            runs.setdefault(path, [])
    here = project / ARTIFACT_FOLDER
    return {root for root, run_ids in runs.items() if root != here and _has_moved(root, run_ids, here)}


def _has_moved(root: Path, run_ids: list[str], here: Path) -> bool:
    if any((here / run_id).is_dir() for run_id in run_ids):
        return True
    if root.is_dir():
        if (root.parent / DATABASE).is_file():
            raise MentallamError(
                f"{here.parent / DATABASE} keeps its artifacts in {root}, which belongs to another project: copy "
                f"that folder to {here}, or remove {DATABASE} to start over"
            )
        return False
    if run_ids:
        raise MentallamError(
            f"{here.parent / DATABASE} keeps its artifacts in {root}, which does not exist: make it available, move "
            f"its content to {here}, or remove {DATABASE} to start over"
        )
    return str(root) != os.environ.get(ARTIFACTS)


def _replace_root(connection: sqlite3.Connection, old: Path, new: Path) -> None:
    for table, column in _ADDRESSES:
        for (address,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
            path = local_path(address or "")
            if path and path.is_relative_to(old):
                moved = (new / path.relative_to(old)).as_uri()
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (moved, address))
