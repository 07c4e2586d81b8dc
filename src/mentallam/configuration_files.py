"""What the files of a configuration folder read: runtime parameters and environment variables, by name."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mentallam.errors import MentallamError

_INTERPOLATED = re.compile(r"\$\{\s*runtime_params:\s*([\w.]+)")
_VARIABLE = re.compile(r"\$\{\s*oc\.env:\s*(MENTALLAM_\w+)")


def environment_folders(conf: Path, base_env: str, env: str, named: bool) -> list[Path]:
    """Return the configuration folders that a run reads; none where the configuration is an archive or remote.

    Args:
        conf: The folder of all environments.
        base_env: The environment that every run reads.
        env: The environment that this run adds.
        named: Whether the user named it, so that it must exist.

    Raises:
        MentallamError: The named environment has no folder.
    """
    if not conf.is_dir():
        return []
    if named and not (conf / env).is_dir():
        known = ", ".join(sorted(folder.name for folder in conf.iterdir() if folder.is_dir()))
        raise MentallamError(f"--env {env}: there is no folder {env} in {conf.name}; there are: {known}")
    return [conf / name for name in dict.fromkeys((base_env, env)) if (conf / name).is_dir()]


def interpolated_names(folders: Iterable[Path]) -> set[str]:
    """Return the names that configuration files read through `${runtime_params:NAME}`.

    Args:
        folders: Configuration folders, see `environment_folders`.

    Raises:
        MentallamError: A file is not valid YAML.
    """
    return _found(_INTERPOLATED, folders)


def environment_variables(folders: Iterable[Path]) -> set[str]:
    """Return the names of mentallam's variables that configuration files read through `${oc.env:NAME}`.

    Args:
        folders: Configuration folders, see `environment_folders`.

    Raises:
        MentallamError: A file is not valid YAML.
    """
    return _found(_VARIABLE, folders)


def _found(pattern: re.Pattern[str], folders: Iterable[Path]) -> set[str]:
    return {name for folder in folders for text in _strings(folder) for name in pattern.findall(text)}


def _strings(folder: Path) -> Iterator[str]:
    """Yield all strings in the configuration files of a folder, without comments."""
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".yml", ".yaml", ".json"):
            try:
                yield from _strings_in(yaml.safe_load(file.read_text(encoding="utf-8")))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                mark = getattr(error, "problem_mark", None)
                line = f" line {mark.line + 1}" if mark else ""
                raise MentallamError(f"{file}{line} is not valid YAML; check its indents, quotes and colons") from None


def _strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings_in(part)
