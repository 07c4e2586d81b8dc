"""docs/contracts/cli.md lists every parameter and says who reads it."""

import re

import pytest
from kedro.framework.project import configure_project, pipelines

from mentallam.configuration_files import interpolated_names
from mentallam.run_checks import parameter_types
from tests.samples import PROJECT

CONTRACT = (PROJECT / "docs" / "contracts" / "cli.md").read_text(encoding="utf-8")
SECTION = CONTRACT.partition("\n### Parameters\n")[2].partition("\n#")[0]


def documented() -> dict[str, set[str]]:
    """Return the words of the column "read by" by parameter; `.seed` after `folds.group_by` stands for `folds.seed`."""
    readers = {}
    for line in re.findall(r"^\| `.*$", SECTION, flags=re.MULTILINE):
        names, _, _, read_by, _ = re.split(r" *\| *", line)[1:-1]
        first, *others = re.findall(r"`([\w.]+)`", names)
        group = first.partition(".")[0]
        for name in (first, *(f"{group}{other}" if other.startswith(".") else other for other in others)):
            readers[name] = set(re.findall(r"\w+", read_by))
    return readers


@pytest.fixture(scope="module")
def read() -> dict[str, set[str]]:
    """Return the pipelines that read a parameter, cv_training without data_processing."""
    configure_project("mentallam")
    alone = {name: pipeline for name, pipeline in pipelines.items() if name != "__default__"}
    alone["cv_training"] = alone["cv_training"] - alone["data_processing"]
    readers: dict[str, set[str]] = {}
    for name, pipeline in alone.items():
        for parameter in parameter_types({name: pipeline}):
            readers.setdefault(parameter, set()).add(name)
    return readers


def test_every_parameter_is_documented_and_read(read: dict[str, set[str]]) -> None:
    interpolated = interpolated_names(folder for folder in (PROJECT / "conf").iterdir() if folder.is_dir())
    groups = {name.partition(".")[0] for name in documented()}
    assert groups == {name.partition(".")[0] for name in {*read, *interpolated}}


def test_the_pipelines_that_read_a_parameter_are_documented(read: dict[str, set[str]]) -> None:
    for name, words in documented().items():
        group = name.partition(".")[0]
        readers = read.get(name, set()) | read.get(group, set())
        assert words & {*pipelines} == readers, name
        assert readers or words >= {"configuration", "files"}, name
