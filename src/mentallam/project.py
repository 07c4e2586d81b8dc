"""The project's folder: the folder of Kedro's session, whichever copy of this package runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project

from mentallam.errors import MentallamError
from mentallam.storage import is_url, local_path

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext


@dataclass(frozen=True)
class Session:
    """What another process needs to start the same session.

    Attributes:
        folder: The project's folder.
        env: The environment; None for the default one.
        runtime_params: The parameters that were given.
        conf_source: The folder of the configuration.
        data: The data folder.
    """

    folder: Path
    env: str | None
    runtime_params: Mapping[str, Any]
    conf_source: str
    data: Path


_session: Session | None = None


def find_project(start: Path) -> Path | None:
    """Return the project in which a folder lies, or None: the one that Kedro finds, from the folder upwards.

    For a package installed from a wheel there is no project for Kedro, but may be a folder with its configuration.
    """
    found = find_kedro_project(start)
    folders = [Path(found)] if found else []
    return next((folder for folder in (*folders, start, *start.parents) if _is_configured(folder)), None)


def current_project() -> Path:
    """Return the project in which the command runs.

    Raises:
        MentallamError: There is none.
    """
    if project := find_project(Path.cwd()):
        return project
    raise MentallamError(
        "there is no mentallam project here: run `mentallam` in its folder or in one below it, or, without a checkout, "
        "in a folder with its conf and hydra_configs"
    )


def project_path() -> Path:
    """Return the folder of the session's project; before any session, the project in which the process works.

    Outside a project it is the working directory.
    """
    return _session.folder if _session else (find_project(Path.cwd()) or Path.cwd()).resolve()


def enter(context: "KedroContext") -> None:
    """Make `project_path` and `environment` those of a session, and reread what was read for another project.

    Kedro reads globals.yml before a hook can tell which project the session belongs to.

    Args:
        context: The context of the session.
    """
    global _session
    from kedro.framework.project import settings  # this module is used before Kedro's framework is imported

    before, folder = project_path(), Path(context.project_path)
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    given = dict(loader.runtime_params or {})
    _session = Session(folder, context.env, given, str(loader.conf_source), folder)
    if before != folder:
        again = type(loader)(loader.conf_source, loader.env, loader.runtime_params, **settings.CONFIG_LOADER_ARGS)
        loader["globals"] = again["globals"]
    _session = replace(_session, data=data_folder(context))


def environment() -> str:
    """Return the environment of the session, for a command that a run starts in a process of its own."""
    return (_session and _session.env) or "local"


def session() -> Session:
    """Return the session that this process runs."""
    assert _session is not None, "there is no session yet"
    return _session


def in_project(folder: str) -> str:
    """Return a configured folder as an absolute path; a relative one is below the project's folder.

    The address of a store stays as it is.
    """
    return folder if is_url(folder) else str(project_path() / Path(local_path(folder)).expanduser())


def data_folder(context: "KedroContext") -> Path:
    """Return the folder of a session's data."""
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    return Path(in_project((loader.runtime_params or {}).get("data_dir") or loader["globals"]["data_dir"]))


def _is_configured(folder: Path) -> bool:
    return all((folder / name).is_dir() for name in ("conf/base", "hydra_configs"))
