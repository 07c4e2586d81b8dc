"""Training states: all that a fold's training needs to go on, to the last bit, after its process has ended.

    <states folder>/step_00000034/
        weights.safetensors     the trained parameters by name, after this optimizer step
        best.safetensors        the same after the best epoch so far; missing until an epoch has ended
        optimizer.safetensors   the optimizer's tensors
        rng.safetensors         torch's random generators: cpu and, with a GPU, cuda
        trainer_state.json      the Trainer's own record: step, epoch, best dev score, every logged figure
        state.json              everything else: `TrainingState.facts`
        manifest.json           sha256 of each file above

What is promised:

- A state is complete or ignored. Its files are written to a hidden folder beside it and forced to the disk, the
  manifest last; only then does the folder get its name (`files.replacing_folder`). A state whose manifest is missing,
  or that has a file with another sha256, is ignored with one log line, and the newest one that is complete is taken.
- An older state is removed only when a newer one is complete, so a full disk or a kill at any moment costs at most the
  steps since the last state.
- No file is a pickle: reading a state runs no code from it. No file holds a post's text.
"""

import hashlib
import json
import logging
import random
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mentallam.device import on_gpu
from mentallam.files import replacing_folder, writing

logger = logging.getLogger(__name__)

_MANIFEST = "manifest.json"
_REQUIRED = {"weights.safetensors", "optimizer.safetensors", "rng.safetensors", "trainer_state.json", "state.json"}
_NAME = re.compile(r"\.?step_(\d+)(\.replaced)?")  # the hidden name is that of a state which is being replaced
_UNFINISHED = re.compile(r"\.unfinished-\w+-step_\d+")


@dataclass(frozen=True)
class TrainingState:
    """A complete state on disk.

    Attributes:
        folder: Its folder.
        facts: What `save_state` was given.
    """

    folder: Path
    facts: dict[str, Any]

    def tensors(self, name: str) -> dict[str, Tensor] | None:
        """Return the tensors of `<name>.safetensors`, on the CPU; None if the state has no such file."""
        path = self.folder / f"{name}.safetensors"
        return safetensors.torch.load(path.read_bytes()) if path.exists() else None


def save_state(
    states_folder: Path,
    step: int,
    facts: Mapping[str, Any],
    trainer_state: str,
    tensors: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write a state, then remove the older ones.

    Args:
        states_folder: The folder of all states of one fold.
        step: The optimizer step; an earlier state of the same step is replaced.
        facts: What JSON can hold.
        trainer_state: The Trainer's state, as JSON.
        tensors: By the name of their file: weights, best, optimizer, rng.

    Raises:
        MentallamError: The folder can't be written; the earlier state is still there.
    """
    folder = states_folder / f"step_{step:08d}"
    with replacing_folder(folder) as unfinished:
        hashes = {}
        for file, content in _contents(facts, trainer_state, tensors):
            (unfinished / file).write_bytes(content)
            hashes[file] = hashlib.sha256(content).hexdigest()
        (unfinished / _MANIFEST).write_text(json.dumps({"sha256": hashes}, indent=2), encoding="utf-8")
    for path in states_folder.iterdir():
        if path != folder and (_NAME.fullmatch(path.name) or _UNFINISHED.fullmatch(path.name)):
            shutil.rmtree(path, ignore_errors=True)


def newest_state(states_folder: Path, title: str) -> TrainingState | None:
    """Return the newest complete state, or None; log each newer one that is ignored, and why.

    Args:
        states_folder: The folder of all states of one fold; it need not exist.
        title: Words before log messages.
    """
    paths = list(states_folder.iterdir()) if states_folder.is_dir() else []
    found = [(int(match[1]), match[2] is None, path) for path in paths if (match := _NAME.fullmatch(path.name))]
    ignored = {path: "it was not finished" for path in paths if _UNFINISHED.fullmatch(path.name)}
    newest = None
    for _, _, path in sorted(found, reverse=True):
        problem = _problem(path)
        if problem is None:
            newest = TrainingState(path, json.loads((path / "state.json").read_bytes()))
            break
        ignored[path] = problem
    for path, problem in ignored.items():
        logger.warning("%s: the training state %s is ignored: %s", title, path, problem)
    return newest


def make_states_folder(states_folder: Path) -> None:
    """Create the folder of a fold's states.

    Raises:
        MentallamError: It can't be created.
    """
    with writing(states_folder):
        states_folder.mkdir(parents=True, exist_ok=True)


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy, on the CPU, of the parameters that are trained."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in trained.items()}


@torch.no_grad()
def set_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Set the parameters that are trained to what `trained_weights` returned, in place."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.copy_(weights[name])


def optimizer_state(optimizer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return an optimizer's state as what JSON can hold and as tensors; both name a value by its path."""
    state = optimizer.state_dict()
    values = dict(_by_path(state["state"]))
    tensors = {path: value for path, value in values.items() if isinstance(value, Tensor)}
    plain = {path: value for path, value in values.items() if path not in tensors}
    return {"groups": state["param_groups"], "values": plain}, tensors


def set_optimizer_state(optimizer: Any, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Set an optimizer's state to what `optimizer_state` returned."""
    state: dict[int, Any] = {}
    for path, value in {**facts["values"], **tensors}.items():
        number, *parents, name = path.split("/")
        place = state.setdefault(int(number), {})
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": facts["groups"]})


def rng_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of the random generators: python's and numpy's for JSON, torch's as tensors of bytes."""
    plain = np.random.get_state(legacy=False)
    plain["state"]["key"] = plain["state"]["key"].tolist()
    tensors = {"cpu": torch.get_rng_state()} | ({"cuda": torch.cuda.get_rng_state()} if on_gpu() else {})
    return {"python": random.getstate(), "numpy": plain}, tensors


def set_rng_state(facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Set the random generators to what `rng_state` returned."""
    version, key, gauss = facts["python"]
    random.setstate((version, tuple(key), gauss))
    state = facts["numpy"]["state"]
    np.random.set_state({**facts["numpy"], "state": {**state, "key": np.array(state["key"], dtype=np.uint32)}})
    torch.set_rng_state(tensors["cpu"])
    if on_gpu() and "cuda" in tensors:
        torch.cuda.set_rng_state(tensors["cuda"])


def _contents(
    facts: Mapping[str, Any], trainer_state: str, tensors: Mapping[str, Mapping[str, Tensor]]
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file, one at a time: those of a large model take hundreds of megabytes."""
    for name, values in tensors.items():
        yield f"{name}.safetensors", safetensors.torch.save(dict(values))
    yield "trainer_state.json", trainer_state.encode()
    yield "state.json", json.dumps(facts).encode()


def _by_path(tree: Mapping[Any, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):  # bitsandbytes keeps a parameter's tensors one level deeper
            yield from _by_path(value, f"{path}{key}/")
        else:
            yield f"{path}{key}", value


def _problem(folder: Path) -> str | None:
    """Return why a state is not complete, or None."""
    try:
        hashes = json.loads((folder / _MANIFEST).read_bytes())["sha256"]
        if missing := _REQUIRED - set(hashes):
            return f"{_MANIFEST} does not name {min(missing)}"
        for file, sha256 in hashes.items():
            if hashlib.sha256((folder / file).read_bytes()).hexdigest() != sha256:
                return f"{file} is not as it was written"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except OSError as error:
        return f"it can't be read ({error.strerror})"
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"{_MANIFEST} is not as it was written"
    return None
