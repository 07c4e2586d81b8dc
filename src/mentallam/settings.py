"""Kedro settings: hooks, configuration resolvers, and the number of folds."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf.resolvers import oc

from mentallam.hooks import ProjectHooks

PROJECT_PATH = Path(__file__).resolve().parents[2]

# The pipeline has one namespace per fold, so their number must be known when it is registered.
CV_FOLDS = int(os.environ.get("MENTALLAM_CV_FOLDS", "5"))

HOOKS = (ProjectHooks(),)


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
        "cv_folds": lambda: CV_FOLDS,
        "artifact_location": artifact_location,
        "project_path": lambda: str(PROJECT_PATH),
        "oc.env": oc.env,  # Kedro takes it away, and Hydra's own configuration with it
    },
}
