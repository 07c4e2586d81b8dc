"""Folders that are replaced whole: whenever a process is killed, the old or the new one is there.

No system call exchanges two folders everywhere, so the old one is put aside first, under a name that readers know.
"""

import shutil
from pathlib import Path


def find_folder(folder: Path) -> Path:
    """Return the folder, or the old one put aside where a process was killed before the new one took its place.

    Args:
        folder: As `replace_folder` has written it; if there is none at all it is returned as it is.
    """
    aside = _aside(folder)
    return aside if aside.is_dir() and not folder.exists() else folder


def replace_folder(finished: Path, folder: Path) -> None:
    """Put a finished folder in the place of another.

    Args:
        finished: The new folder, complete, on the same file system; it is gone afterwards.
        folder: The place, with or without a folder in it.

    Raises:
        OSError: One of them can't be moved; an old folder is then where it was, or found by `find_folder`.
    """
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)  # left behind by a process that was killed after it had replaced it
        folder.replace(aside)
    finished.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")
