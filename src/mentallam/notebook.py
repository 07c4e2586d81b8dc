"""What a notebook needs first: the project's catalog and parameters, opened in a second and without a line of log."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kedro.io import DataCatalog

from mentallam.config_loading import DATA_FOLDER, config_loader, load_parameters
from mentallam.console import set_up_notebook
from mentallam.errors import MentallamError
from mentallam.project import project_path


@dataclass(frozen=True)
class OpenedProject:
    """The project that a notebook works on.

    Attributes:
        path: Its folder.
        env: The environment; None is the default one.
        parameters: Kedro's parameters, and the places of runs, data and corpus; see `config_loading.load_parameters`.
        catalog: Kedro's catalog, which loads a result by its name.
    """

    path: Path
    env: str | None
    parameters: dict[str, Any] = field(repr=False)
    catalog: DataCatalog = field(repr=False)


def open_project(env: str | None = None, needs: str | None = None) -> OpenedProject:
    """Open the project for a notebook or a script, without a session and thus without MLflow and every pipeline.

    Args:
        env: The environment; None takes the one of `kedro jupyter lab --env`, else the default one.
        needs: A result that must be there.

    Raises:
        MentallamError: There is no such environment, its files can't be read, or the result is missing.
    """
    path, env = project_path(), env or os.environ.get("KEDRO_ENV") or None
    set_up_notebook(path / "conf" / "logging.yml")
    parameters = load_parameters(path, env)
    loader = config_loader(path, env)
    catalog = DataCatalog.from_config(loader["catalog"], loader["credentials"])
    if needs and not catalog.exists(needs):
        option = f" --env {env}" if env else ""
        raise MentallamError(f"{parameters[DATA_FOLDER]} holds no {needs} yet: run `kedro run{option}` first")
    return OpenedProject(path, env, parameters, catalog)
