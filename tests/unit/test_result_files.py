from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from mentallam.errors import MentallamError, causes
from mentallam.result_files import ResultFiles


def files(path: str) -> ResultFiles:
    made = Pipeline([Node(lambda: {}, None, "made", name="make")])
    catalog = DataCatalog({"made": JSONDataset(filepath=path), "users": JSONDataset(filepath=path)})
    return ResultFiles(catalog, {"__default__": made, "data": made}, " --env test")


def caused_by(cause: Exception) -> DatasetError:
    error = DatasetError("no")
    error.__cause__ = cause
    return error


def test_a_damaged_file_names_the_pipeline_that_rebuilds_it(tmp_path: Path) -> None:
    path = str(tmp_path / "made.json")
    Path(path).write_text("{")
    with pytest.raises(
        MentallamError, match=r"made\.json can't be read \(.*\): remove it and rebuild it with"
    ) as caught:
        files(path).load("made")
    assert caught.value.message.endswith("`kedro run --pipeline data --env test`")
    with pytest.raises(DatasetError):
        files(path).load("users")  # no pipeline makes it


@pytest.mark.parametrize(
    ("cause", "explained"),
    [
        (ValueError("Expecting value"), True),
        (OSError(5, "Input/output error"), True),
        (ImportError("No module named 'pyarrow'"), False),
        (MemoryError(), False),
    ],
)
def test_only_errors_about_the_file_are_explained(cause: Exception, explained: bool) -> None:
    assert bool(files("made.json").explain(caused_by(cause), "made")) == explained
    assert files("made.json").explain(caused_by(cause), "users") is None


def test_the_root_of_a_chain_comes_last() -> None:
    root = OSError("disk")
    assert [*causes(caused_by(root))][-1] is root
    assert [*causes(None)] == []
