"""Kedro settings: hooks, configuration resolvers, and the number of folds."""

import os

from omegaconf.resolvers import oc

from mentallam import tracking_store
from mentallam.hooks import ProjectHooks
from mentallam.project import project_path
from mentallam.tracking_hooks import TrackingHooks

# The pipeline has one namespace per fold, so their number must be known when it is registered.
CV_FOLDS = int(os.environ.get("MENTALLAM_CV_FOLDS", "5"))

HOOKS = (ProjectHooks(), TrackingHooks())
# TrackingHooks takes its place. Kedro compares with the name as it stands in the package's metadata.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")


CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Key by key, also within a key: `--params folds.group_by=author` and an environment's file leave the rest as it is.
    "merge_strategy": {"parameters": "soft"},
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "custom_resolvers": {
        "cv_folds": lambda: CV_FOLDS,
        "project_path": lambda: str(project_path()),
        "tracking_uri": lambda: tracking_store.tracking_uri(project_path()),
        "artifact_location": lambda: tracking_store.artifact_location(project_path()),
        "oc.env": oc.env,  # Kedro takes it away, and Hydra's own configuration with it
    },
}
