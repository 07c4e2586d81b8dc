import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from requests.exceptions import ConnectionError as RequestsConnectionError
from safetensors import SafetensorError

from mentallam.errors import MentallamError
from mentallam.files import find_folder, replacing_file, replacing_folder, writing


class Killed(BaseException):
    """The end of a process: it does nothing after it."""


def fill(folder: Path, content: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("one", "two"):
        (folder / name).write_text(content)


def content_of(folder: Path) -> set[str]:
    assert {path.name for path in folder.iterdir()} == {"one", "two"}
    return {path.read_text() for path in folder.iterdir()}


def replace_folder(folder: Path, content: str) -> None:
    with replacing_folder(folder) as unfinished:
        fill(unfinished, content)


def replace_file(file: Path, content: str) -> None:
    with replacing_file(file) as unfinished:
        unfinished.write_text(content)


def raise_at(step: int, error: BaseException, patch: pytest.MonkeyPatch) -> list[str]:
    """Raise an error at one of the steps that change the disk; after `Killed` nothing changes it any more.

    Returns:
        The names of the steps before it.
    """
    taken: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **options: Any) -> Any:
            if len(taken) == step or (len(taken) > step and isinstance(error, Killed)):
                taken.append("error")
                raise error
            taken.append(name)
            return original(*args, **options)

        return act

    patch.setattr(Path, "mkdir", counting("mkdir", Path.mkdir))
    patch.setattr(os, "fsync", counting("fsync", os.fsync))
    patch.setattr(Path, "replace", counting("replace", Path.replace))
    patch.setattr(shutil, "rmtree", counting("rmtree", shutil.rmtree))
    return taken


FOLDER_STEPS = [*("mkdir", "mkdir", "mkdir", "fsync", "fsync", "fsync"), *("rmtree", "replace", "replace", "fsync")]
FILE_STEPS = ["mkdir", "mkdir", "fsync", "replace", "fsync"]


@pytest.mark.parametrize("step", range(len(FOLDER_STEPS)))
def test_whenever_it_is_killed_the_old_or_the_new_folder_is_found_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = tmp_path / "fold_0"
    fill(folder, "old")
    with monkeypatch.context() as patch:
        raise_at(step, Killed(), patch)
        with pytest.raises(Killed):
            replace_folder(folder, "new")
    assert content_of(find_folder(folder)) == ({"new"} if step == len(FOLDER_STEPS) - 1 else {"old"})

    replace_folder(folder, "newer")  # the next replacement tidies up
    assert content_of(find_folder(folder)) == content_of(folder) == {"newer"}
    assert [path.name for path in tmp_path.iterdir()] == ["fold_0"]


@pytest.mark.parametrize("step", range(len(FILE_STEPS)))
def test_whenever_it_is_killed_the_old_or_the_new_file_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    file = tmp_path / "table.csv"
    file.write_text("old")
    with monkeypatch.context() as patch:
        raise_at(step, Killed(), patch)
        with pytest.raises(Killed):
            replace_file(file, "new")
    assert file.read_text() == ("new" if step == len(FILE_STEPS) - 1 else "old")
    replace_file(file, "newer")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["newer"]


@pytest.mark.parametrize(
    ("replace", "steps"), [(replace_file, FILE_STEPS), (replace_folder, FOLDER_STEPS)], ids=["file", "folder"]
)
def test_every_step_of_a_replacement_may_be_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    replace: Callable[[Path, str], None],
    steps: list[str],
) -> None:
    place = tmp_path / "place"
    replace(place, "old")
    with monkeypatch.context() as patch:
        taken = raise_at(100, Killed(), patch)
        replace(place, "old")
    assert taken[: len(steps)] == steps
    for step, name in enumerate(steps):
        if name == "rmtree":  # errors of tidying up are ignored
            continue
        with monkeypatch.context() as patch:
            raise_at(step, OSError(errno.ENOSPC, "a library's words"), patch)
            with pytest.raises(MentallamError) as caught:
                replace(place, "new")
        assert caught.value.message == (
            f"{place} can't be written (No space left on device): check space and rights, then run this again"
        )
        found = find_folder(place)
        contents = content_of(found) if found.is_dir() else {found.read_text()}
        assert contents == ({"new"} if step == len(steps) - 1 else {"old"})
        replace(place, "old")
        assert list(tmp_path.iterdir()) == [place]


def test_where_there_was_none_there_is_one(tmp_path: Path) -> None:
    assert find_folder(tmp_path / "below" / "fold_0") == tmp_path / "below" / "fold_0"
    replace_folder(tmp_path / "below" / "fold_0", "new")
    replace_file(tmp_path / "below" / "file", "new")
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["file", "fold_0"]


@pytest.mark.parametrize("replace", [replacing_file, replacing_folder])
def test_an_error_of_the_body_changes_nothing_and_stays_itself(
    tmp_path: Path, replace: Callable[[Path], AbstractContextManager[Path]]
) -> None:
    with pytest.raises(ValueError, match="mine"), replace(tmp_path / "place"):
        raise ValueError("mine")
    assert not list(tmp_path.iterdir())


def test_only_what_killed_writers_left_of_this_very_file_is_removed(tmp_path: Path) -> None:
    kept = [".unfinished-0123abcd-other[1].json", ".unfinished-0123abcd-a-one[1].json", "one1.json", ".one[1].json"]
    for name in (*kept, ".unfinished-0123abcd-one[1].json", ".unfinished-89abcdef-one[1].json"):
        fill(tmp_path / name, "left")
    replace_file(tmp_path / "one[1].json", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "one[1].json"}


def test_a_file_is_as_readable_for_others_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    replace_file(tmp_path / "file", "")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_network_file_system_need_not_force_a_folder_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = os.fsync

    def only_files(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        original(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    replace_file(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "secret"), "No space left on device"),
        (OSError(errno.EDQUOT, "secret"), "Disk quota exceeded"),
        (PermissionError(errno.EACCES, "secret"), "Permission denied"),
        (OSError(errno.EROFS, "secret"), "Read-only file system"),
        (OSError(errno.EIO, "secret"), "Input/output error"),
        (SafetensorError("secret: I/O error: full (os error 28)"), "No space left on device"),
        (pa.ArrowInvalid("secret [errno 28] full"), "No space left on device"),
        (sqlite3.OperationalError("database or disk is full"), "No space left on device"),
        (sqlite3.OperationalError("disk I/O error"), "Input/output error"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "Read-only file system"),
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_the_disk_refuses_is_one_sentence(error: Exception, reason: str, wrapped: bool) -> None:
    with pytest.raises(MentallamError) as caught, writing("the table"):
        if not wrapped:
            raise error
        try:
            raise error
        except Exception as inner:
            raise RuntimeError("secret") from inner
    assert caught.value.message == (
        f"the table can't be written ({reason}): check space and rights, then run this again"
    )


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
        RequestsConnectionError("[Errno 111] Connection refused"),
        OSError("no number"),
        SafetensorError("two tensors share memory"),
        sqlite3.OperationalError("database is locked"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_stay_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, writing("the table"):
        raise error
    assert caught.value is error


def test_a_sentence_from_below_is_not_replaced() -> None:
    with pytest.raises(MentallamError, match="the cause") as caught, writing("the table"):
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            raise MentallamError("the cause") from None
    assert caught.value.message == "the cause"
