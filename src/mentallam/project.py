"""The project's folder: the one that Kedro's session is about, whichever copy of this package runs."""

from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.project import settings
from kedro.utils import find_kedro_project

_session: Path | None = None


def project_path() -> Path:
    """Return the folder of the session's project; before any session, Kedro's choice for the working directory.

    A package that was installed from a wheel has no project around it: then it is the working directory.
    """
    return _session or (find_kedro_project(Path.cwd()) or Path.cwd()).resolve()


def enter(context: KedroContext) -> None:
    """Make `project_path` the folder of a session's project, and read again what already used another.

    Kedro reads globals.yml before a hook can tell which project the session is about.

    Args:
        context: Of the session that begins.
    """
    global _session
    before, _session = project_path(), Path(context.project_path)
    loader = context.config_loader
    if before != _session and isinstance(loader, OmegaConfigLoader):
        again = type(loader)(loader.conf_source, loader.env, loader.runtime_params, **settings.CONFIG_LOADER_ARGS)
        loader["globals"] = again["globals"]
