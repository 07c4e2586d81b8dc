import pytest

from mentallam.errors import MentallamError
from mentallam.names import LONGEST_NAME, check_name, check_path_within

HOSTILE = [
    "",
    ".",
    "..",
    "../a",
    "/a",
    "a/b",
    "a\\b",
    "..\\a",
    "C:a",
    "a\0b",
    "a\nb",
    ".a",
    "a" * (LONGEST_NAME + 1),
    "ü" * 101,
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(MentallamError, match="^run=.* can't be part of a path: ") as refused:
        check_name(name, "run")
    assert refused.value.message.isprintable() and len(refused.value.message) < 400


@pytest.mark.parametrize("name", ["a", "0b5f", "fold_1", "mentallam-smollm2", "an ümlaut and a blank", "ü" * 100])
def test_other_names_pass(name: str) -> None:
    assert check_name(name, "run") == name


@pytest.mark.parametrize("path", ["", "/", "/a", "a/../b", "../a", "a/..", "a/b\0", "a\\..\\b"])
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(MentallamError, match="can't be part of a path"):
        check_path_within(path, "path")


def test_a_path_within_passes() -> None:
    assert check_path_within("artifacts/fold_1", "path") == "artifacts/fold_1"
