"""Checkpoints with their adapters merged, made at the first use and kept: later processes load them in a moment.

A kept model is an exported one (`export`), in the folder of base weights. Its name holds the hash of the checkpoint's
checksums, so that another checkpoint never finds it.
"""

import logging
import shutil
from pathlib import Path

from filelock import FileLock

from mentallam.checksums import folder_digest, verify_checksums
from mentallam.classifier.checkpoint import EXPORTED
from mentallam.classifier.packed_model import compute_dtype
from mentallam.errors import MentallamError
from mentallam.files import find_folder, writing
from mentallam.limits import read_json
from mentallam.model_folders import FACTS

logger = logging.getLogger(__name__)

_NAME_DIGITS = 16


def merged_model(checkpoint: Path, base_models: Path, dtype: str) -> Path:
    """Return the folder of a checkpoint's merged weights; they are written first if they are not there.

    Args:
        checkpoint: A checkpoint.
        base_models: Folder of the base weights that were converted or made on this machine.
        dtype: Data type of the weights; `auto` takes the one of the training.

    Returns:
        The folder; the checkpoint itself if it is an exported model, if its base is in 4 bits, which merging would
        undo, or if it has no checksums.

    Raises:
        MentallamError: The checkpoint is damaged, its base model can't be had, or the disk refuses.
    """
    checkpoint = find_folder(checkpoint)
    digest = folder_digest(checkpoint)
    if not is_mergeable(checkpoint) or digest is None:
        return checkpoint
    trained_in = read_json(checkpoint / FACTS)["config"]["model"]["dtype"]
    wanted = str(compute_dtype(trained_in if dtype == "auto" else dtype)).removeprefix("torch.")
    folder = base_models / f"merged-{digest[:_NAME_DIGITS]}-{wanted}"
    with writing(base_models):
        base_models.mkdir(parents=True, exist_ok=True)
        with FileLock(base_models / f".{folder.name}.lock"):
            if not _is_whole(folder):
                from mentallam.serving.export import export_model  # imports PEFT, which takes seconds

                logger.info("merging %s into its base model; the result is kept in %s", checkpoint.name, folder)
                export_model(checkpoint, folder, base_models, wanted)
    return folder


def _is_whole(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        verify_checksums(folder, "it is written again")
    except (OSError, MentallamError) as error:
        logger.warning("%s", error)
        shutil.rmtree(folder)
        return False
    return True


def is_mergeable(checkpoint: Path) -> bool:
    """Return whether a checkpoint's adapter can be added to its base: not to 4 bits, and not twice."""
    try:
        facts = read_json(checkpoint / FACTS)
        return EXPORTED not in facts and facts["config"]["model"].get("quantization", "none") == "none"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # whoever loads it says what is wrong
