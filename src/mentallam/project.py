"""The project's folder: the folder of Kedro's session, whichever copy of this package runs."""

from pathlib import Path
from typing import TYPE_CHECKING

from kedro.config import OmegaConfigLoader
from kedro.utils import find_kedro_project

if TYPE_CHECKING:
    from kedro.framework.context import KedroContext

_session: Path | None = None
_environment = "local"


def project_path() -> Path:
    """Return the folder of the session's project; before any session, the project that Kedro finds.

    Where Kedro finds none, as for a package installed from a wheel, it is the working directory.
    """
    return _session or (find_kedro_project(Path.cwd()) or Path.cwd()).resolve()


def enter(context: "KedroContext") -> None:
    """Make `project_path` and `environment` those of a session, and reread what was read for another project.

    Kedro reads globals.yml before a hook can tell which project the session belongs to.

    Args:
        context: The context of the session.
    """
    global _session, _environment
    from kedro.framework.project import settings  # this module is used before Kedro's framework is imported

    _environment = context.env or "local"
    before, _session = project_path(), Path(context.project_path)
    loader = context.config_loader
    if before != _session and isinstance(loader, OmegaConfigLoader):
        again = type(loader)(loader.conf_source, loader.env, loader.runtime_params, **settings.CONFIG_LOADER_ARGS)
        loader["globals"] = again["globals"]


def environment() -> str:
    """Return the environment of the session, for a command that a run starts in a process of its own."""
    return _environment


def in_project(folder: str) -> str:
    """Return a configured folder as an absolute path; a relative one is below the project's folder."""
    return str(project_path() / Path(folder).expanduser())


def data_folder(context: "KedroContext") -> Path:
    """Return the folder of a session's data."""
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    return Path(in_project((loader.runtime_params or {}).get("data_dir") or loader["globals"]["data_dir"]))
