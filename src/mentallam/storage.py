"""Files at addresses such as s3://bucket/posts.parquet, through fsspec and the package that it has for each kind.

Credentials come from Kedro's configuration, as the entry `storage`, and go to fsspec alone. A message of a library may
hold an address with a password or a header, so no message of one is passed on.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from mentallam.errors import MentallamError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Options = Mapping[str, Any]
"""What fsspec takes beside an address: key, secret, token, client_kwargs and the like."""

_MARK = "://"
_EXTRAS = {"s3": "s3", "s3a": "s3"}  # by protocol, the extra of this project


class StorageError(MentallamError):
    """A store that refuses, does not answer or has no such file; no part of what was read from it can be relied on."""


def is_url(given: str) -> bool:
    """Return whether a place is an address, and no path of this machine."""
    return _MARK in given and not given.startswith("file:")


def local_path(given: str) -> str:
    """Return a path of this machine, also of an address that begins with file://."""
    return given.removeprefix(f"file{_MARK}")


def is_remote(path: Path) -> bool:
    """Return whether a path is one of a store; `find` returns those."""
    return not isinstance(path, Path)


@contextmanager
def accessing(place: object) -> Iterator[None]:
    """Replace every error of a store by one sentence.

    Args:
        place: The address, for the sentence.

    Raises:
        StorageError: The body has failed.
    """
    try:
        yield
    except MentallamError:
        raise
    except FileNotFoundError:
        raise StorageError(f"{place} does not exist: check the name, and that of its bucket") from None
    except PermissionError:
        raise StorageError(
            f"{place}: the store refuses access; check the entry `storage` in credentials.yml of the environment "
            f"(docs/prediction.md)"
        ) from None
    except Exception as error:  # each package of fsspec has its own
        raise StorageError(
            f"{place}: the store does not answer as it should ({type(error).__name__}); check the address and the "
            f"entry `storage` in credentials.yml, and run the same command again"
        ) from None


def open_store(url: str, options: Options) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of an address, and the path within it.

    Raises:
        StorageError: There is no such kind of store, its package is missing, or it refuses.
    """
    import fsspec

    protocol = url.partition(_MARK)[0]
    try:
        return fsspec.url_to_fs(url, **options)  # type: ignore[no-any-return]
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        way_out = f"pip install -e '.[{extra}]'" if extra else str(error).partition("\n")[0]
        raise StorageError(f"{protocol}{_MARK} needs a package that is not installed: {way_out}") from None
    except ValueError:
        raise StorageError(f"{protocol}{_MARK} is no kind of store that fsspec knows: use s3{_MARK}, for one") from None
    except Exception as error:
        raise StorageError(
            f"{url}: the entry `storage` in credentials.yml does not fit this store ({type(error).__name__})"
        ) from None


def find(url: str, options: Options) -> list[Path]:
    """Return the files at an address, sorted: of a file itself, of a folder those in it, of a pattern all that match.

    Returns:
        Paths that are opened and named as those of this machine are; see `is_remote`.

    Raises:
        StorageError: The store refuses or does not answer.
    """
    from upath import UPath

    fs, path = open_store(url, options)
    with accessing(url):
        if any(sign in path for sign in "*?["):
            found = [name for name, info in fs.glob(path, detail=True).items() if info["type"] == "file"]
        elif not fs.exists(path):
            found = []
        elif fs.isfile(path):
            found = [path]
        else:
            found = [info["name"] for info in fs.ls(path, detail=True) if info["type"] == "file"]
    # They open, name and divide themselves like a Path, though they are none.
    return [cast(Path, UPath(fs.unstrip_protocol(name), **options)) for name in sorted(found)]


def place_of(path: Path) -> str:
    """Return a path within its file system, without protocol."""
    return cast(str, cast(Any, path).path) if is_remote(path) else path.as_posix()


def state_of(path: Path) -> tuple[int, int]:
    """Return the size of a file in bytes, and a number that changes when its content does.

    Raises:
        StorageError: The store refuses or does not answer.
    """
    if not is_remote(path):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    stored = cast(Any, path)
    with accessing(path):
        return int(stored.fs.size(stored.path)), int(stored.fs.checksum(stored.path))


def open_bytes(path: Path) -> io.RawIOBase:
    """Open a file for reading, unbuffered; each fault of a store is a `StorageError`."""
    return _Stored(path) if is_remote(path) else path.open("rb", buffering=0)


class _Stored(io.RawIOBase):
    """A file of a store that is told from damaged content: pyarrow passes an exception of a stream on as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        with accessing(path):
            self._file = path.open("rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with accessing(self._path):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def exists(url: str, options: Options) -> bool:
    """Return whether there is a file or a folder at an address.

    Raises:
        StorageError: The store refuses or does not answer.
    """
    fs, path = open_store(url, options)
    with accessing(url):
        return bool(fs.exists(path))


def upload(source: Path, url: str, options: Options) -> None:
    """Put a file, or all files of a folder, at an address, in place of what is there.

    A store shows a file when it is complete. A folder has no such moment: files of the same name are replaced one by
    one, and those that are left over are removed at the end.

    Raises:
        StorageError: The store refuses or does not answer.
    """
    fs, path = open_store(url, options)
    with accessing(url):
        names = sorted(file.name for file in source.iterdir()) if source.is_dir() else []
        there = fs.ls(path, detail=True) if fs.isdir(path) else []
        for name in names:
            fs.put_file(str(source / name), f"{path}/{name}")
        if not names:
            fs.put_file(str(source), path)
        for info in there:
            if info["name"].rpartition("/")[2] not in names:
                fs.rm(info["name"], recursive=True)


def remove(url: str, options: Options) -> None:
    """Remove a file at an address, if there is one.

    Raises:
        StorageError: The store refuses or does not answer.
    """
    fs, path = open_store(url, options)
    with accessing(url):
        if fs.exists(path):
            fs.rm(path, recursive=True)
