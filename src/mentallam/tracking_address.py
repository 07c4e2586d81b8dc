"""Where runs are kept: in the project's database and artifact folder, or in a store that a variable names.

This module does without MLflow, whose import takes seconds.
"""

import os
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from mentallam.errors import MentallamError
from mentallam.variables import ARTIFACTS

DATABASE, ARTIFACT_FOLDER = "mlflow.db", "mlruns"

# MLflow writes the address that it is given to MLFLOW_TRACKING_URI, as if the user had set it.
_announced: str | None = None


def tracking_uri(project: Path) -> str:
    """Return the address of the tracking store: MLFLOW_TRACKING_URI, or the project's `mlflow.db`."""
    return _named_uri() or database_address(project / DATABASE)


def artifact_location(project: Path) -> str | None:
    """Return where a new experiment keeps its artifacts; None leaves the choice to the tracking server.

    It is the folder that MENTALLAM_ARTIFACTS names, or the project's `mlruns/`. With a server it is neither by default,
    since other machines could not read a folder of this one.
    """
    if named := os.environ.get(ARTIFACTS):
        return named
    scheme = urlsplit(_named_uri() or "").scheme
    return None if scheme in ("http", "https", "databricks") else str(project / ARTIFACT_FOLDER)


def runs_page(experiment_id: str) -> str:
    """Return the address of an experiment's list of runs: on the server, or where `kedro mlflow ui` shows it.

    MLflow 3 opens an experiment in a view that shows no runs; this address chooses the other one.
    """
    uri = _named_uri() or ""
    server = uri.rstrip("/") if urlsplit(uri).scheme in ("http", "https") else "http://127.0.0.1:5000"
    return f"{server}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"


def local_path(address: str) -> Path | None:
    """Return the path of an artifact's address; None if the address is not on this machine."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return Path(address) if address.startswith("/") else None


def note_announcement(uri: str) -> None:
    """Note the store that MLflow is told to use, to tell it from one that the user names."""
    global _announced
    if uri != _named_uri():
        _announced = uri


def _named_uri() -> str | None:
    named = os.environ.get("MLFLOW_TRACKING_URI")
    return named if named and named != _announced else None


def database_address(database: Path) -> str:
    """Return MLflow's address of an SQLite file, quoted only if necessary, since people read and type it."""
    path = str(database)
    if not {"?", "%"} & set(path):
        return f"sqlite:///{path}"
    from sqlalchemy.engine import make_url

    # Slashes are quoted, too: MLflow creates the parent folder of this path before it unquotes it.
    address = f"sqlite:///{quote(path, safe='')}"
    if make_url(address).database != path:  # SQLAlchemy before 2.1
        raise MentallamError(
            f"the project's folder {database.parent} has a ? or % in its name, which this version of SQLAlchemy can't "
            f"open a database in: rename the folder, install sqlalchemy>=2.1, or set MLFLOW_TRACKING_URI"
        )
    return address
