"""The SHA-256 of each file of a folder: written last, and compared before anything in the folder is read.

`sha256sum --check SHA256SUMS` in the folder compares them, too. The checksums reveal damage; they are no signature,
since whoever changes a file on purpose can change its checksum as well.
"""

import hashlib
from pathlib import Path

from mentallam.errors import MentallamError

CHECKSUMS = "SHA256SUMS"
"""The file of the checksums; it is not in its own list."""

_DIGITS = 64


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files below a folder, once these are complete.

    Raises:
        OSError: A file can't be read or written.
    """
    lines = [f"{sha256}  {name}\n" for name, sha256 in sorted(_checksums(folder).items())]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def has_checksums(folder: Path) -> bool:
    """Return whether a folder has a file of checksums."""
    return (folder / CHECKSUMS).is_file()


def folder_digest(folder: Path) -> str | None:
    """Return the SHA-256 of a folder's checksums, which changes with any of its files; None if it has none."""
    file = folder / CHECKSUMS
    return file_sha256(file) if file.is_file() else None


def verify_checksums(folder: Path, way_out: str) -> None:
    """Compare a folder with its checksums.

    Args:
        folder: The folder, with a file of checksums.
        way_out: What to do about a damaged folder, for the message.

    Raises:
        MentallamError: A file is missing, was added, or has changed; the message names it.
        OSError: A file can't be read.
    """
    recorded = _recorded(folder, way_out)
    # Names first: a file that nobody recorded need not be read.
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {CHECKSUMS}
    if missing := recorded.keys() - found:
        raise MentallamError(f"{folder / min(missing)} is missing; {way_out}")
    if added := found - recorded.keys():
        raise MentallamError(f"{folder / min(added)} does not belong there; remove it, or {way_out}")
    for name, sha256 in recorded.items():
        path = folder / name
        if file_sha256(path) != sha256:
            fault = "is empty" if path.stat().st_size == 0 else "has changed since it was written (SHA-256 differs)"
            raise MentallamError(f"{path} {fault}; {way_out}")


def _recorded(folder: Path, way_out: str) -> dict[str, str]:
    recorded = {}
    try:
        text = (folder / CHECKSUMS).read_text(encoding="utf-8")
        if not text.endswith("\n"):  # it was cut off
            raise ValueError
        for line in text.splitlines():
            sha256, separator, name = line[:_DIGITS], line[_DIGITS : _DIGITS + 2], line[_DIGITS + 2 :]
            if separator != "  " or not name or set(sha256) - set("0123456789abcdef"):
                raise ValueError
            recorded[name] = sha256
    except ValueError:
        recorded = {}
    if not recorded:
        raise MentallamError(f"{folder / CHECKSUMS} is damaged; {way_out}")
    return recorded


def _checksums(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()
