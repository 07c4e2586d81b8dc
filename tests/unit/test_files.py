import shutil
from pathlib import Path
from typing import Any

import pytest

from mentallam.folders import find_folder, replace_folder


class Killed(BaseException):
    """The end of a process: it does nothing after it."""


def make(folder: Path, content: str) -> Path:
    folder.mkdir()
    for name in ("one", "two"):
        (folder / name).write_text(content)
    return folder


def content_of(folder: Path) -> set[str]:
    assert {path.name for path in folder.iterdir()} == {"one", "two"}
    return {path.read_text() for path in folder.iterdir()}


def kill_at(step: int, patch: pytest.MonkeyPatch) -> list[str]:
    """Raise `Killed` at one of the steps that change the disk; return the names of the steps before it."""
    taken: list[str] = []

    def dying(name: str, original: Any) -> Any:
        def act(*args: Any, **options: Any) -> Any:
            if len(taken) == step:
                raise Killed
            taken.append(name)
            return original(*args, **options)

        return act

    patch.setattr(Path, "replace", dying("replace", Path.replace))
    patch.setattr(shutil, "rmtree", dying("rmtree", shutil.rmtree))
    return taken


STEPS = 4  # to replace an existing folder


@pytest.mark.parametrize("step", range(STEPS))
def test_whenever_it_is_killed_the_old_or_the_new_folder_is_found_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder, new = make(tmp_path / "fold_0", "old"), make(tmp_path / "unfinished", "new")
    with monkeypatch.context() as patch:
        kill_at(step, patch)
        with pytest.raises(Killed):
            replace_folder(new, folder)
    assert content_of(find_folder(folder)) in ({"old"}, {"new"})

    replace_folder(make(tmp_path / "again", "newer"), folder)  # the next replacement tidies up
    assert content_of(find_folder(folder)) == content_of(folder) == {"newer"}
    assert {path.name for path in tmp_path.iterdir()} <= {"fold_0", "unfinished"}


def test_all_steps_were_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, new = make(tmp_path / "fold_0", "old"), make(tmp_path / "unfinished", "new")
    with monkeypatch.context() as patch:
        taken = kill_at(STEPS, patch)
        replace_folder(new, folder)
    assert taken == ["rmtree", "replace", "replace", "rmtree"]
    assert len(taken) == STEPS
    assert [path.name for path in tmp_path.iterdir()] == ["fold_0"]
    assert content_of(folder) == {"new"}


def test_where_there_was_none_there_is_one(tmp_path: Path) -> None:
    assert find_folder(tmp_path / "fold_0") == tmp_path / "fold_0"
    replace_folder(make(tmp_path / "unfinished", "new"), tmp_path / "fold_0")
    assert [path.name for path in tmp_path.iterdir()] == ["fold_0"]
