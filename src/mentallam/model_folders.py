"""Folders of models: which files make a checkpoint, an exported model, and folds that answer together."""

from collections.abc import Sequence
from pathlib import Path

FACTS = "mentallam.json"
"""The file with everything but weights and tokenizer, in a checkpoint and in an exported model."""

ENSEMBLE_FILE = "ensemble.json"
"""The calibration of folds that answer together; it lies beside their folders."""

_FOLD = "fold_"


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the folder of a fold among those that answer together."""
    return folder / f"{_FOLD}{fold}"


def parts_in(folder: Path) -> list[Path]:
    """Return the parts of the model in a folder, as `registry.find_checkpoints` does; none if it holds no model."""
    if (folder / FACTS).is_file():
        return [folder]
    folds = _folds_in(folder) if (folder / ENSEMBLE_FILE).is_file() else []
    return [folder / ENSEMBLE_FILE, *folds] if folds else []


def split_parts(parts: Sequence[Path]) -> tuple[Path | None, list[Path]]:
    """Return the file with the calibration of folds that answer together, or None, and the checkpoints."""
    ensemble = next((path for path in parts if path.name == ENSEMBLE_FILE), None)
    return ensemble, [path for path in parts if path != ensemble]


def _folds_in(folder: Path) -> list[Path]:
    found = (facts.parent for facts in folder.glob(f"{_FOLD}*/{FACTS}"))
    return sorted(found, key=lambda fold: (len(fold.name), fold.name))  # fold_10 after fold_9
