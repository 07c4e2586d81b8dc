"""What a fold reads and makes, at an address that fsspec knows, for machines that share no folder.

    <cluster.storage>/<run of the cross-validation>/
        inputs/                 what folds read, with SHA256.json
        fold_2/attempt/         the record of the attempt and its newest complete training states, as in the data folder
        fold_2/results/         what the fold has made, with SHA256.json

The run that was started puts the inputs there. A fold works in a private folder of its own, which is removed when it
ends: it gets the inputs and its newest training state, and puts states and results back. A file that says what belongs
together is written last, so what a lost machine has put there is complete or ignored. The run of a cross-validation
changes with anything that decides its result, so two of them never meet.
"""

import json
import logging
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mentallam.checksums import file_sha256
from mentallam.errors import MentallamError
from mentallam.files import replacing_file
from mentallam.storage import accessing, open_store

logger = logging.getLogger(__name__)

_SHA256 = "SHA256.json"
_STATE_MANIFEST = "manifest.json"  # of classifier.training_states, the last file of a state
_LOOK_S = 1.0  # between two looks for a new training state


@dataclass(frozen=True)
class FoldStorage:
    """The place of one fold at the address.

    Attributes:
        address: The folder of the cross-validation.
        credentials: Options of the file system, as fsspec takes them.
        fold: The fold's namespace.
        base_model: The file that says where the base model lies, below the data folder.
        record: The record of its attempt, below the data folder; its training states lie beside it.
        results: The files and folders that it makes, below the data folder.
    """

    address: str
    credentials: Mapping[str, Any] = field(repr=False)
    fold: str
    base_model: str
    record: str
    results: tuple[str, ...]

    @contextmanager
    def working_folder(self) -> Iterator[Path]:
        """Yield a data folder with what the fold reads, and put back what it makes there.

        Training states are put back while the body works and, however it ends, at its end; results if it ends well.

        Raises:
            MentallamError: The address can't be read or written, or a file there is not as it was written.
        """
        with tempfile.TemporaryDirectory(prefix="mentallam-", ignore_cleanup_errors=True) as name:
            data = Path(name)
            _get_files(self._place("inputs"), data)
            attempt = _Mirror(data / self.record, self._place(f"{self.fold}/attempt"))
            attempt.fetch()
            with attempt.kept_up():
                yield data
            _put_files(data, self.results, self._place(f"{self.fold}/results"))

    def collect(self, data: Path) -> None:
        """Get the results of the fold that is done into the data folder, and remove what it needed to go on.

        Raises:
            MentallamError: They can't be read, or are not as they were written.
        """
        results, attempt = self._place(f"{self.fold}/results"), self._place(f"{self.fold}/attempt")
        _get_files(results, data)
        record = data / self.record
        attempt.get(record.name, record)
        for place in (results, attempt):
            place.remove()

    def remove_all(self) -> None:
        """Remove what lies at the address of the cross-validation, whose folds are done: posts are private."""
        _Place(self.address, self.credentials).remove()

    def _place(self, path: str) -> "_Place":
        return _Place(f"{self.address}/{path}", self.credentials)


def publish(data: Path, inputs: Iterable[str], address: str, credentials: Mapping[str, Any]) -> None:
    """Put what folds read to the address of their cross-validation.

    Args:
        data: The data folder.
        inputs: The files, below it.
        address: The folder of the cross-validation.
        credentials: Options of the file system.

    Raises:
        MentallamError: The address can't be written.
    """
    _put_files(data, inputs, _Place(f"{address}/inputs", credentials))


class _Place:
    """A folder of a file system that fsspec knows."""

    def __init__(self, address: str, credentials: Mapping[str, Any]) -> None:
        self._address = address
        self._files, self._root = open_store(address, credentials)

    def put(self, file: Path, name: str) -> None:
        with self._reaching():
            self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)
            self._files.put_file(str(file), f"{self._root}/{name}")

    def get(self, name: str, file: Path) -> None:
        with self._reaching(), replacing_file(file) as unfinished:
            try:
                self._files.get_file(f"{self._root}/{name}", str(unfinished))
            except FileNotFoundError:
                raise MentallamError(f"{self._address} lacks {name}: run the same command again") from None

    def holds(self, name: str) -> bool:
        with self._reaching():
            self._files.invalidate_cache()
            return bool(self._files.exists(f"{self._root}/{name}"))

    def names(self, folder: str = "") -> set[str]:
        """Return the names of what lies in a folder."""
        path = f"{self._root}/{folder}".rstrip("/")
        with self._reaching():
            self._files.invalidate_cache()
            found = self._files.ls(path, detail=False) if self._files.exists(path) else []
            return {each.rstrip("/").rpartition("/")[2] for each in found}

    def remove(self, name: str = "") -> None:
        with self._reaching(), suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{name}".rstrip("/"), recursive=True)

    def _reaching(self) -> AbstractContextManager[None]:
        return accessing(f"cluster.storage={self._address}")


class _Mirror:
    """The folder of an attempt, and its like at the address."""

    def __init__(self, record: Path, place: _Place) -> None:
        self._record, self._folder, self._place = record, record.parent, place
        self._begun, self._state = b"", ""  # what is at the address
        self._ended = threading.Event()

    def fetch(self) -> None:
        """Get the record of the attempt, and its training states that are complete, mostly one."""
        if not self._place.holds(self._record.name):
            return
        self._place.get(self._record.name, self._record)
        self._begun = self._record.read_bytes()
        for state in sorted(name for name in self._place.names() if name.startswith("step_")):
            files = self._place.names(state)
            if _STATE_MANIFEST in files:
                for file in files:
                    self._place.get(f"{state}/{file}", self._folder / state / file)
                self._state = state

    @contextmanager
    def kept_up(self) -> Iterator[None]:
        """Put each record and each new state to the address while the body works, and what is left at its end."""
        thread = threading.Thread(target=self._follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._put_news()

    def _follow(self) -> None:
        while not self._ended.wait(_LOOK_S):
            try:
                self._put_news()
            except MentallamError as error:  # the training goes on, and the next look may have better luck
                logger.warning("a training state was not kept: %s", error.message)

    def _put_news(self) -> None:
        if not self._record.is_file():
            return
        if (content := self._record.read_bytes()) != self._begun:
            self._place.remove()  # another attempt: its states do not fit
            self._place.put(self._record, self._record.name)
            self._begun, self._state = content, ""
        for state in sorted(self._folder.glob("step_*"))[-1:]:
            if state.name != self._state:
                try:
                    self._put_state(state)
                except (MentallamError, FileNotFoundError):
                    if state.is_dir():  # otherwise a newer one has taken its place meanwhile
                        raise

    def _put_state(self, state: Path) -> None:
        files = sorted(path for path in state.iterdir() if path.name != _STATE_MANIFEST)
        manifest = state / _STATE_MANIFEST
        for file in [*files, manifest]:
            self._place.put(file, f"{state.name}/{file.name}")
        for other in self._place.names() - {state.name, self._record.name}:
            self._place.remove(other)
        self._state = state.name


def _put_files(data: Path, names: Iterable[str], place: _Place) -> None:
    """Put files and folders, and last the SHA-256 of each file."""
    found = (path for name in names for path in (data / name, *sorted((data / name).rglob("*"))))
    files = [path for path in found if path.is_file()]
    place.remove()
    hashes = {}
    for file in files:
        name = file.relative_to(data).as_posix()
        place.put(file, name)
        hashes[name] = file_sha256(file)
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / _SHA256
        manifest.write_text(json.dumps(hashes, indent=2), encoding="utf-8")
        place.put(manifest, _SHA256)


def _get_files(place: _Place, data: Path) -> None:
    """Get what `_put_files` has put, and compare each file with its SHA-256."""
    with tempfile.TemporaryDirectory() as folder:
        place.get(_SHA256, Path(folder) / _SHA256)
        hashes: dict[str, str] = json.loads((Path(folder) / _SHA256).read_bytes())
    for name, sha256 in hashes.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise MentallamError(f"{_SHA256} in cluster.storage names {name!r}, which lies outside the data folder")
        place.get(name, data / name)
        if file_sha256(data / name) != sha256:
            raise MentallamError(f"{name} came from cluster.storage otherwise than it was put there: run this again")
