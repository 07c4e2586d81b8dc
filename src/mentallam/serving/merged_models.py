"""Checkpoints with their adapters merged, made at the first use and kept: later processes load them in a moment.

A kept model is an exported one (`export`), in the folder of base weights. Its name holds the hash of the checkpoint's
checksums, so that another checkpoint never finds it.
"""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from mentallam.checksums import folder_digest
from mentallam.classifier.checkpoint import EXPORTED, TrainedFold, load_checkpoint
from mentallam.classifier.packed_model import compute_dtype
from mentallam.errors import MentallamError
from mentallam.files import find_folder, writing
from mentallam.limits import read_json
from mentallam.model_folders import FACTS

logger = logging.getLogger(__name__)

_NAME_DIGITS = 16


def load_merged_fold(checkpoint: Path, base_models: Path, dtype: str) -> TrainedFold:
    """Load a checkpoint from its merged weights; they are written first if they are missing or damaged.

    Args:
        checkpoint: A checkpoint.
        base_models: Folder of the base weights that were converted or made on this machine.
        dtype: Data type of the weights; `auto` takes the one of the training.

    Returns:
        The fold. The checkpoint itself is loaded if it is an exported model, if its base is in 4 bits, which merging
        would undo, or if it has no checksums.

    Raises:
        MentallamError: The checkpoint is damaged, its base model can't be had, or the disk refuses.
    """
    folder = _merged_folder(checkpoint, base_models, dtype)
    if folder is None:
        return load_checkpoint(checkpoint, base_models, dtype, is_mergeable(checkpoint))
    if folder.is_dir():
        try:
            return load_checkpoint(folder, base_models, dtype)
        except MentallamError as error:
            logger.warning("%s", error)
            shutil.rmtree(folder, ignore_errors=True)
    _write_merged(checkpoint, folder)
    return load_checkpoint(folder, base_models, dtype)


def count_unmerged(checkpoints: Sequence[Path], base_models: Path, dtype: str) -> int:
    """Return for how many checkpoints `load_merged_fold` would first write the merged weights."""
    folders = [_merged_folder(checkpoint, base_models, dtype) for checkpoint in checkpoints]
    return sum(folder is not None and not folder.is_dir() for folder in folders)


def is_mergeable(checkpoint: Path) -> bool:
    """Return whether a checkpoint's adapter can be added to its base: not to 4 bits, and not twice."""
    try:
        facts = read_json(checkpoint / FACTS)
        return EXPORTED not in facts and facts["config"]["model"].get("quantization", "none") == "none"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # whoever loads it says what is wrong


def _merged_folder(checkpoint: Path, base_models: Path, dtype: str) -> Path | None:
    """Return where the merged weights of a checkpoint lie, or will lie; None if it is loaded itself."""
    checkpoint = find_folder(checkpoint)
    digest = folder_digest(checkpoint)
    if not is_mergeable(checkpoint) or digest is None:
        return None
    trained_in = read_json(checkpoint / FACTS)["config"]["model"]["dtype"]
    return base_models / f"merged-{digest[:_NAME_DIGITS]}-{_dtype_name(trained_in if dtype == 'auto' else dtype)}"


def _write_merged(checkpoint: Path, folder: Path) -> None:
    """Write the merged weights, unless another process has done so meanwhile."""
    from mentallam.serving.export import export_model  # imports PEFT, which takes seconds

    base_models = folder.parent
    with writing(base_models):
        base_models.mkdir(parents=True, exist_ok=True)
        with FileLock(base_models / f".{folder.name}.lock"):
            if not folder.is_dir():
                logger.info("merging %s into its base model; the result is kept in %s", checkpoint.name, folder)
                export_model(checkpoint, folder, base_models, folder.name.rpartition("-")[2])


def _dtype_name(dtype: str) -> str:
    return str(compute_dtype(dtype)).removeprefix("torch.")
