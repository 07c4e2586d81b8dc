"""The project's models by their names, for a command or a notebook; a session starts only to ask the tracking store."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from mentallam.config_loading import TRACKING_URI
from mentallam.model_folders import parts_in
from mentallam.project import current_project


def enter_project() -> Path:
    """Make Kedro's project ready for a session, and return its folder."""
    project = current_project()  # before Kedro's framework is imported, which starts to log
    from kedro.framework.project import configure_project
    from kedro.framework.startup import bootstrap_project
    from kedro.utils import is_kedro_project

    if is_kedro_project(project):
        bootstrap_project(project)
    else:
        configure_project("mentallam")
    return project


@contextmanager
def connected(env: str | None) -> Iterator[None]:
    """Set MLflow up to find the project's runs, in a session: it takes seconds."""
    from kedro.framework.session import KedroSession

    from mentallam.tracking_hooks import connect

    project = enter_project()
    with KedroSession.create(project, env=env) as session:
        connect(cast("KedroSession", session).load_context())
        yield


def find_model(model: str, parameters: dict[str, Any], env: str | None) -> list[Path]:
    """Return the checkpoints of a model; without MLflow, whose import takes seconds, if their place is known."""
    from mentallam.serving.known_champions import find_known_champion, note_champion

    if parts := parts_in(Path(model)):
        return parts
    note, store, name = Path(parameters["base_models"]), parameters[TRACKING_URI], parameters["registry"]["model"]
    if model == "champion" and (known := find_known_champion(note, store, name)):
        return known
    with connected(env):
        from mentallam.registry import RegistryOptions, find_checkpoints

        options = RegistryOptions.model_validate(parameters["registry"])
        found = find_checkpoints(parameters["tracking_experiment"], model, options)
        if model == "champion":
            note_champion(note, store, name, found)
        return found
