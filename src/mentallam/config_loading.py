"""How Kedro's configuration is loaded: by its sessions, and by a command that starts none.

Neither this module nor what it imports needs MLflow or Kedro's framework, whose imports take seconds.
"""

import os
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc
from yaml import YAMLError

from mentallam.batch_files import batch_file
from mentallam.configuration_files import environment_folders
from mentallam.errors import MentallamError, causes
from mentallam.project import environment, in_project, project_path
from mentallam.tracking_address import artifact_location, tracking_uri
from mentallam.variables import CV_FOLDS

DEFAULT_FOLDS = 5


def cv_folds() -> int:
    """Return the number of folds from the variable MENTALLAM_CV_FOLDS; `DEFAULT_FOLDS` if it is unset or empty.

    The pipeline has one namespace per fold, so their number must be known when the pipeline is registered. Kedro
    imports this module before its commands can show an error as one line, so a function reads the variable later.

    Raises:
        MentallamError: The variable does not hold a whole number from 2 on.
    """
    given = os.environ.get(CV_FOLDS, "").strip() or str(DEFAULT_FOLDS)
    if not (given.isascii() and given.isdecimal() and int(given) >= 2):
        raise MentallamError(
            f"{CV_FOLDS} is {given!r}; it takes a whole number from 2 on, and empty means {DEFAULT_FOLDS}"
        )
    return int(given)


CONFIG_LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    # Merge key by key, also within a key: `--params folds.group_by=author` and an environment's file change only what
    # they name.
    "merge_strategy": {"catalog": "soft", "parameters": "soft"},
    # Both read experiment.yml, which names the MLflow experiment.
    "config_patterns": {
        "mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*", "experiment*"],
        "parameters": ["parameters*", "parameters*/**", "**/parameters*", "experiment*", "cluster*"],
    },
    "custom_resolvers": {
        "cv_folds": cv_folds,
        "in_project": in_project,
        "batch_file": batch_file,
        "environment": environment,
        "project_path": lambda: str(project_path()),
        "tracking_uri": lambda: tracking_uri(project_path()),
        "artifact_location": lambda: artifact_location(project_path()),
        "oc.env": oc.env,  # Kedro removes this resolver, and Hydra's configuration needs it
    },
}


TRACKING_URI = "tracking_uri"
DATA_FOLDER = "data_folder"
CORPUS_FOLDER = "corpus_folder"


def config_loader(project: Path, env: str | None) -> OmegaConfigLoader:
    """Return the loader of a project's configuration, as a session has it.

    Args:
        project: The project's folder.
        env: The environment; None for the default one.

    Raises:
        MentallamError: There is no such environment.
    """
    conf, arguments = project / "conf", CONFIG_LOADER_ARGS
    environment_folders(conf, arguments["base_env"], env or arguments["default_run_env"], named=bool(env))
    return OmegaConfigLoader(str(conf), env, **arguments)


def load_parameters(project: Path, env: str | None) -> dict[str, Any]:
    """Return Kedro's parameters, and the places of runs, data and corpus, without a session and thus every pipeline.

    Args:
        project: The project's folder.
        env: The environment; None for the default one.

    Raises:
        MentallamError: There is no such environment, or its files can't be read.
    """
    loader = config_loader(project, env)
    try:
        folders = loader["globals"]
        return {
            **loader["parameters"],
            TRACKING_URI: loader["mlflow"]["server"]["mlflow_tracking_uri"],
            DATA_FOLDER: in_project(folders["data_dir"]),
            CORPUS_FOLDER: in_project(f"{folders['raw_dir']}/{folders['corpus_folder']}"),
        }
    except (MissingConfigException, OmegaConfBaseException, YAMLError, ValueError, KeyError) as error:
        for cause in causes(error):
            if isinstance(cause, MentallamError):
                raise cause from None
        reason = str(error).strip().partition("\n")[0]
        raise MentallamError(f"the parameters can't be read: {reason}") from None
