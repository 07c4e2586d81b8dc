"""Facts about where a run ran: the code, package versions and the machine."""

import hashlib
import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from mentallam import __version__

_PACKAGES = (
    "kedro",
    "kedro-datasets",
    "kedro-mlflow",
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "accelerate",
    "hydra-core",
    "scikit-learn",
    "numpy",
    "pandas",
    "pyarrow",
)
# The packages whose version can change what a fold learns; another one of them starts its training anew.
DECIDING_PACKAGES = ("torch", "transformers", "tokenizers", "peft", "accelerate", "scikit-learn", "numpy", "pandas")

_PACKAGE = Path(__file__).parent
# The code that a fold's result depends on; nothing in it imports the rest of the package (docs/adr/0027).
_DECIDING_CODE = (
    *("classifier", "evaluation", "corpus", "pipelines/cv_training", "pipelines/data_processing"),
    *("config.py", "config_schema.py", "device.py", "search.py", "seeds.py", "sweep_space.py"),
)


def package_versions() -> dict[str, str]:
    """Return the version of each package that results depend on."""
    return {"mentallam": __version__} | {name: importlib.metadata.version(name) for name in _PACKAGES}


@cache
def code_version() -> dict[str, Any]:
    """Return the version of this package's code, as it was when this process first asked.

    Returns:
        version; source, the SHA-256 of the files that a fold's result depends on; and, in a git checkout of the
        project, commit and dirty: whether tracked files differ from it.
    """
    version: dict[str, Any] = {
        "version": __version__,
        "source": _hash(_PACKAGE, _DECIDING_CODE),
    }
    if commit := _git("rev-parse", "HEAD"):
        version |= {"commit": commit, "dirty": bool(_git("status", "--porcelain", "--untracked-files=no"))}
    return version


@cache
def code_hash(*parts: str) -> str:
    """Return the SHA-256 of files and folders of this package, as they were when this process first asked."""
    return _hash(_PACKAGE, parts)


def machine_facts() -> dict[str, Any]:
    """Return processor, memory (bytes) and GPUs; nothing that identifies the machine or its user."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=True),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "cuda": torch.version.cuda,
        "gpus": [
            {"name": gpu.name, "memory_bytes": gpu.total_memory}
            for gpu in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
        ],
    }


def _hash(folder: Path, parts: tuple[str, ...]) -> str:
    files = sorted(file for part in parts for file in [folder / part, *(folder / part).rglob("*")] if file.is_file())
    digest = hashlib.sha256()
    for file in files:
        if file.suffix != ".pyc":
            digest.update(f"{file.relative_to(folder).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _git(*arguments: str) -> str:
    """Return git's answer; empty without git, or if the package isn't tracked (a venv may lie in another checkout)."""
    try:
        for command in (("ls-files", "--error-unmatch", Path(__file__).name), arguments):
            answer = subprocess.run(["git", "-C", _PACKAGE, *command], capture_output=True, text=True, timeout=10)
            if answer.returncode:
                return ""
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip()
