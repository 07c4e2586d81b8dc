"""Kedro settings: hooks, configuration resolvers, and the number of folds."""

import os
from pathlib import Path

from omegaconf.resolvers import oc

from mentallam.hooks import ProjectHooks

PROJECT_PATH = Path(__file__).resolve().parents[2]

# The pipeline has one namespace per fold, so their number must be known when it is registered.
CV_FOLDS = int(os.environ.get("MENTALLAM_CV_FOLDS", "5"))

HOOKS = (ProjectHooks(),)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Key by key, also within a key: `--params folds.group_by=author` and an environment's file leave the rest as it is.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": {
        "cv_folds": lambda: CV_FOLDS,
        "project_path": lambda: str(PROJECT_PATH),
        "oc.env": oc.env,  # Kedro takes it away, and Hydra's own configuration with it
    },
}
