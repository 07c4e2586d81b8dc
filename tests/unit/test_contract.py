"""docs/parameters.md lists every parameter, with its values, its default and who reads it."""

import re

import pytest

from mentallam.configuration_files import interpolated_names
from tests.parameters_page import FILES, PAGE, defaults_by_environment, of_key, page, read_by
from tests.samples import PROJECT

READ_BY = 3


def rows() -> dict[str, list[str]]:
    """Return the cells of each row of the page by the parameter's name."""
    cells = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in re.findall(r"^\| `.*$", PAGE.read_text(), re.MULTILINE)]
    return {name.strip("`"): [name, *others] for name, *others in cells}


@pytest.fixture(scope="module")
def read() -> dict[str, set[str]]:
    return read_by()


def test_the_page_is_written_from_the_files_and_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write the page again: python -m tests.parameters_page"


def test_every_parameter_that_is_read_is_on_the_page(read: dict[str, set[str]]) -> None:
    interpolated = interpolated_names(folder for folder in (PROJECT / "conf").iterdir() if folder.is_dir())
    groups = {name.partition(".")[0] for name in rows()}
    assert groups == {name.partition(".")[0] for name in {*read, *interpolated}}
    assert {name.partition(".")[0] for name in FILES} - {"columns"} == interpolated - read.keys()


def test_every_parameter_of_the_files_has_a_row_and_a_reader(read: dict[str, set[str]]) -> None:
    listed = rows()
    for name in defaults_by_environment()["base"]:
        if not name.startswith("_"):  # what other files refer to
            assert set(listed[name][READ_BY].split(", ")) == of_key(name, read), name


def test_every_parameter_has_a_meaning_or_belongs_to_one_that_has() -> None:
    listed = rows()
    for name, cells in listed.items():
        assert cells[-1] or listed[name.partition(".")[0]][-1], f"write a comment above {name} in conf/base"
