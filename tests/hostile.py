"""Files that would run code if anything unpickled them."""

import io
import pickle
from pathlib import Path

import torch


class Touch:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.marker,)


def pickles(marker: Path) -> list[bytes]:
    """Return a plain pickle, and one in the ZIP archive that torch writes; both create the marker when loaded."""
    archive = io.BytesIO()
    torch.save(Touch(marker), archive)
    return [pickle.dumps(Touch(marker)), archive.getvalue()]
