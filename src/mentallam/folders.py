"""Folders that are replaced as a whole: if the process is killed, the old or the new folder is there.

No system call exchanges two folders on every system, so the old one is first renamed to a name that readers know.
"""

import shutil
from pathlib import Path


def find_folder(folder: Path) -> Path:
    """Return the folder, or the renamed old one if a process was killed before the new folder took its place.

    Args:
        folder: A folder that `replace_folder` writes; returned unchanged if neither exists.
    """
    aside = _aside(folder)
    return aside if aside.is_dir() and not folder.exists() else folder


def replace_folder(finished: Path, folder: Path) -> None:
    """Move a finished folder to the place of another.

    Args:
        finished: The new, complete folder on the same file system; it is moved.
        folder: Its new place, where an old folder may lie.

    Raises:
        OSError: One of them can't be moved; an old folder is still in its place, or `find_folder` finds it.
    """
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed after the replacement
        folder.replace(aside)
    finished.replace(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")
