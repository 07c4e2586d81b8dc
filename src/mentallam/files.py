"""Files and folders that are replaced as a whole: whenever the process is killed, the old or the new one is there.

The new one is written beside its place, forced to the disk and then renamed. No system call exchanges two folders on
every system, so an old folder is first renamed to a name that readers know.
"""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from mentallam.errors import MentallamError, causes

# What a disk, a mount or a file's rights answer, and no other error of the system, such as a refused connection.
_OF_THE_DISK = {
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EIO", "ESTALE", "EROFS", "EACCES", "EPERM"),
        *("EISDIR", "ENOTDIR", "EEXIST", "ENOENT", "ENAMETOOLONG", "EMFILE", "ENFILE"),
    )
    if hasattr(errno, name)  # Windows lacks some
}
_NUMBER = re.compile(r"(?:os error|errno) (\d+)", re.IGNORECASE)  # how safetensors and Arrow quote the system
_SQLITE = {
    "database or disk is full": errno.ENOSPC,
    "disk I/O error": errno.EIO,
    "attempt to write a readonly database": errno.EROFS,
}


@contextmanager
def replacing_file(file: Path) -> Iterator[Path]:
    """Yield the path for a new file, which takes the place of `file` when the body ends, and not if it raises.

    What killed writers left beside it is removed first, so a file may have one writer at a time.

    Raises:
        MentallamError: The disk refuses; the old file stays as it was.
    """
    with _beside(file) as folder:
        unfinished = folder / file.name
        yield unfinished
        force_to_disk(unfinished)
        unfinished.replace(file)
        force_to_disk(file.parent)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield a new, empty folder, which takes the place of `folder` when the body ends, and not if it raises.

    What killed writers left beside it is removed first, so a folder may have one writer at a time. Readers go through
    `find_folder`.

    Raises:
        MentallamError: The disk refuses; the old folder is still found.
    """
    with _beside(folder) as unfinished:
        yield unfinished
        for path in (*unfinished.rglob("*"), unfinished):
            force_to_disk(path)
        aside = _aside(folder)
        if folder.exists():
            shutil.rmtree(aside, ignore_errors=True)  # left by a process that was killed after the replacement
            folder.replace(aside)
        unfinished.replace(folder)
        force_to_disk(folder.parent)
        shutil.rmtree(aside, ignore_errors=True)


def find_folder(folder: Path) -> Path:
    """Return the folder, or the renamed old one if a process was killed before the new folder took its place.

    Args:
        folder: A folder that `replacing_folder` writes; returned unchanged if neither exists.
    """
    aside = _aside(folder)
    return aside if aside.is_dir() and not folder.exists() else folder


@contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """Replace an error of the disk, also one that a library has wrapped, by the sentence for the user.

    Args:
        target: What the body writes.

    Raises:
        MentallamError: The disk is full, read-only or broken, or rights or a quota forbid it.
    """
    try:
        yield
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, MentallamError):
                break
            if (number := _system_error(cause)) is not None:
                # The system's words, since a library's may quote what was written: the text of a post.
                raise MentallamError(
                    f"{target} can't be written ({os.strerror(number)}): check space and rights, then run this again"
                ) from None
        raise


def _system_error(error: BaseException) -> int | None:
    """Return the number of the disk's error that an exception is about, if it is about one."""
    if isinstance(error, OSError) and error.errno is not None:
        number: int | None = error.errno
    elif quoted := _NUMBER.search(str(error)):
        number = int(quoted[1])
    else:
        number = next((number for words, number in _SQLITE.items() if words in str(error)), None)
    return number if number in _OF_THE_DISK else None


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """Yield a new folder beside a place, for what will be there and for the temporary files of who writes it."""
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(f".unfinished-????????-{escape(place.name)}"):
            shutil.rmtree(left)
        unfinished = place.with_name(f".unfinished-{uuid.uuid4().hex[:8]}-{place.name}")
        unfinished.mkdir()
        try:
            yield unfinished
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.replaced")


def force_to_disk(path: Path) -> None:
    """Wait until the disk has a file's content, or a folder's names."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno == errno.EINVAL and path.is_dir()):  # some network file systems can't do it for folders
            raise
    finally:
        os.close(descriptor)
