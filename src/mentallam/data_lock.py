"""One run at a time in a data folder; folds in processes of their own share it.

A run of the whole study locks the study and every fold. A process that trains some folds locks these, and the study
only while it starts. A run whose folds are trained by workers leaves these locks to them, and keeps one that other runs
of the whole need. The system releases the locks of a process that ends, however it ends.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mentallam.errors import MentallamError
from mentallam.files import writing

_FOLDER = ".locks"
_WHOLE = "whole"
_START_S = 5.0  # how long to wait for a process of a fold that has just locked the study to start


class DataLock:
    """The locks that a run holds; they are released by `release` or when the process ends.

    Args:
        data: The data folder.
    """

    _latest: "DataLock | None" = None

    def __init__(self, data: Path) -> None:
        self._data, self._held = data, list[FileLock]()
        self._taken: tuple[str, list[int]] = "", []

    def take(
        self,
        work: str,
        folds: Iterable[int] = (),
        shared: bool = False,
        free_folds: Callable[[], None] = lambda: None,
    ) -> None:
        """Lock some work.

        Args:
            work: What the run makes, such as `study`; other work in the same folder is not in its way.
            folds: The folds that it trains.
            shared: Other processes may train other folds of the same work.
            free_folds: Ends what an earlier run of the whole has left behind and still holds folds.

        Raises:
            MentallamError: Another run holds one of the locks, or the folder can't be written.
        """
        DataLock._latest, self._taken = self, (work, list(folds))
        try:
            whole = self._lock(work, _START_S)
            if not shared:
                self._lock(f"{work}_{_WHOLE}")
                free_folds()
            for fold in self._taken[1]:
                self._lock(f"{work}_fold_{fold}")
            if shared:
                whole.release()
                self._held.remove(whole)
        except BaseException:
            self.release()
            raise

    @classmethod
    @contextmanager
    def shared_with_workers(cls) -> Iterator[None]:
        """Let this run's workers lock the folds, while any other run of the whole is still refused.

        Raises:
            MentallamError: Another run has taken one of the locks meanwhile.
        """
        lock = cls._latest
        if lock is None or not lock._held:
            yield
            return
        work, folds = lock._taken
        keep = next(held for held in lock._held if held.lock_file.endswith(f"{work}_{_WHOLE}.lock"))
        for held in [held for held in lock._held if held is not keep]:
            held.release()
            lock._held.remove(held)
        yield
        lock._lock(work, _START_S)
        for fold in folds:
            lock._lock(f"{work}_fold_{fold}", _START_S)

    def release(self) -> None:
        """Release every lock."""
        while self._held:
            self._held.pop().release()

    def _lock(self, name: str, timeout: float = 0.0) -> FileLock:
        path = self._data / _FOLDER / f"{name}.lock"
        lock = FileLock(path)
        owner = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
        try:
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=timeout)
                path.write_text(json.dumps(owner), encoding="utf-8")
        except Timeout:
            raise MentallamError(
                f"another run works in {self._data}{_owner(path)}: wait for it, or use another folder with "
                f"`--params data_dir=...`"
            ) from None
        self._held.append(lock)
        return lock


def _owner(path: Path) -> str:
    with suppress(OSError, ValueError, KeyError):  # it is being written, or Windows doesn't let it be read
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f" (process {owner['pid']} on {owner['host']} since {owner['since']})"
    return ""
