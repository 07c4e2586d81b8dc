"""Facts about where a run ran: package versions and the machine."""

import importlib.metadata
import platform
from typing import Any

import psutil
import torch

_PACKAGES = (
    "mentallam",
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


def package_versions() -> dict[str, str]:
    """Return the version of each package that results depend on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


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
