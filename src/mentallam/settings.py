"""Kedro settings: hooks, configuration resolvers, and the number of folds."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf.resolvers import oc

from mentallam.errors import MentallamError
from mentallam.hooks import ProjectHooks

PROJECT_PATH = Path(__file__).resolve().parents[2]


def cv_folds() -> int:
    """Return the number of folds from the variable MENTALLAM_CV_FOLDS; unset or empty means 5.

    The pipeline has one namespace per fold, so their number must be known when it is registered. Kedro imports this
    module before its commands can show an error as one line, so the variable is read later than that.

    Raises:
        MentallamError: The variable holds anything but a whole number from 2 on.
    """
    given = os.environ.get("MENTALLAM_CV_FOLDS", "").strip() or "5"
    if not (given.isascii() and given.isdecimal() and int(given) >= 2):
        raise MentallamError(f"MENTALLAM_CV_FOLDS is {given!r}; it takes a whole number from 2 on, and empty means 5")
    return int(given)


HOOKS = (ProjectHooks(),)


def in_project(folder: str) -> str:
    """Return a folder of the configuration as an absolute path; a relative one is below the project's folder."""
    return str(PROJECT_PATH / Path(folder).expanduser())


def artifact_location() -> str | None:
    """Where a new experiment keeps its artifacts: `mlruns/`, or wherever a tracking server keeps them (None).

    A folder of this machine would be of no use to the others that read from the server.
    """
    scheme = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", "")).scheme
    return None if scheme in ("http", "https", "databricks") else str(PROJECT_PATH / "mlruns")


CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Key by key, also within a key: `--params folds.group_by=author` and an environment's file leave the rest as it is.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "cv_folds": cv_folds,
        "artifact_location": artifact_location,
        "in_project": in_project,
        "project_path": lambda: str(PROJECT_PATH),
        "oc.env": oc.env,  # Kedro takes it away, and Hydra's own configuration with it
    },
}
