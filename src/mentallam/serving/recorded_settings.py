"""How a trained model answers: as a project says or, where there is none, as the model's own folder records."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mentallam.config import InferenceConfig, from_dict
from mentallam.errors import MentallamError
from mentallam.limits import read_json
from mentallam.model_folders import FACTS, split_parts
from mentallam.project import find_project
from mentallam.variables import BASE_MODELS

# Where a project keeps base weights, unless its globals.yml says otherwise; the folds' folders lie beside it.
_IN_PROJECT = Path("data", "06_models", "base")


@dataclass(frozen=True)
class AnswerSettings:
    """What a prediction needs besides the model.

    Attributes:
        base_models: Folder of the base weights that were converted or made on this machine.
        inference: How predictions are made.
        notice: Whose crisis line stands beside the answers; see `notices.notice`.
    """

    base_models: Path
    inference: InferenceConfig
    notice: str


def recorded_settings(parts: Sequence[Path]) -> AnswerSettings:
    """Return the settings of a model outside any project.

    The folder of base weights is the one that MENTALLAM_BASE_MODELS names, or that of the project in which the
    checkpoint lies, or a folder `base` beside it, or else one in the user's cache. Weights that are not there yet are
    prepared from the source that the checkpoint records.

    Args:
        parts: The parts of the model, as `model_folders.parts_in` returns them.
    """
    first = split_parts(parts)[1][0]
    folder = _find_base_models(first)
    inference = _recorded_inference(first)
    # Merged weights are kept beside the base weights; a folder that several people share may be read-only.
    keeps = inference.keep_merged and (not folder.exists() or os.access(folder, os.W_OK))
    return AnswerSettings(folder, replace(inference, keep_merged=keeps), "international")


def _find_base_models(checkpoint: Path) -> Path:
    if named := os.environ.get(BASE_MODELS):
        return Path(named)
    checkpoint = checkpoint.resolve()
    project = find_project(checkpoint)
    kept = [*([project / _IN_PROJECT] if project else []), checkpoint.parent / _IN_PROJECT.name]
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return next((folder for folder in kept if folder.is_dir()), Path(cache) / "mentallam" / "base_models")


def _recorded_inference(checkpoint: Path) -> InferenceConfig:
    """Return how the model was used when it was trained."""
    try:
        return from_dict(read_json(checkpoint / FACTS)["config"]).inference
    except (OSError, ValueError, KeyError, TypeError, MentallamError):
        return InferenceConfig(tokens_per_pass=1)  # whoever loads the checkpoint says what is wrong with it
