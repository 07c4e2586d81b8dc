"""Settings of Kedro: hooks, resolvers of the configuration, and the number of folds."""

import os

from omegaconf.resolvers import oc

from mentallam import tracking_store
from mentallam.errors import MentallamError
from mentallam.hooks import ProjectHooks
from mentallam.project import environment, in_project, project_path
from mentallam.tracking_hooks import TrackingHooks
from mentallam.variables import CV_FOLDS


def cv_folds() -> int:
    """Return the number of folds from the variable MENTALLAM_CV_FOLDS; 5 if it is unset or empty.

    The pipeline has one namespace per fold, so their number must be known when the pipeline is registered. Kedro
    imports this module before its commands can show an error as one line, so a function reads the variable later.

    Raises:
        MentallamError: The variable does not hold a whole number from 2 on.
    """
    given = os.environ.get(CV_FOLDS, "").strip() or "5"
    if not (given.isascii() and given.isdecimal() and int(given) >= 2):
        raise MentallamError(f"{CV_FOLDS} is {given!r}; it takes a whole number from 2 on, and empty means 5")
    return int(given)


HOOKS = (ProjectHooks(), TrackingHooks())
# TrackingHooks replaces its hook. Kedro compares with the name in the package's metadata.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")


CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # Merge key by key, also within a key: `--params folds.group_by=author` and an environment's file change only what
    # they name.
    "merge_strategy": {"catalog": "soft", "parameters": "soft"},
    # Both read experiment.yml, which names the MLflow experiment.
    "config_patterns": {
        "mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*", "experiment*"],
        "parameters": ["parameters*", "parameters*/**", "**/parameters*", "experiment*"],
    },
    "custom_resolvers": {
        "cv_folds": cv_folds,
        "in_project": in_project,
        "environment": environment,
        "project_path": lambda: str(project_path()),
        "tracking_uri": lambda: tracking_store.tracking_uri(project_path()),
        "artifact_location": lambda: tracking_store.artifact_location(project_path()),
        "oc.env": oc.env,  # Kedro removes this resolver, and Hydra's configuration needs it
    },
}
