import pytest
from kedro.framework.project import configure_project
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro_datasets.pandas import ParquetDataset
from safetensors import SafetensorError

from mentallam import hooks
from mentallam.errors import MentallamError


def told(dataset: AbstractDataset, cause: Exception, name: str = "frozen_states") -> Exception:
    """What is raised when a run can't save a dataset."""
    configure_project("mentallam")
    project, error = hooks.ProjectHooks(), DatasetError("not saved")
    error.__cause__ = cause
    project.before_dataset_saved(name)
    try:
        project.on_pipeline_error(error, {"env": "test"}, DataCatalog({name: dataset}))
    except MentallamError as sentence:
        return sentence
    return error


def test_full_disk_under_the_largest_file() -> None:
    full = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)\nmore")
    sentence = told(ParquetDataset(filepath="data/states"), full)
    assert str(sentence) == (
        "data/states can't be written (Error while serializing: I/O error: No space left on device (os error 28)): "
        "check space and rights, then run this again"
    )


@pytest.mark.parametrize(
    ("dataset", "cause", "name"),
    [
        (ParquetDataset(filepath="data/states"), ValueError("Could not convert 'a post'"), "frozen_states"),
        (MemoryDataset(), OSError(28, "No space left on device"), "frozen_states"),
        (ParquetDataset(filepath="data/own"), OSError(28, "No space left on device"), "of_a_user"),
    ],
    ids=["no matter of the disk", "no file", "no result of ours"],
)
def test_other_errors_stay_as_they_are(dataset: AbstractDataset, cause: Exception, name: str) -> None:
    error = told(dataset, cause, name)
    assert isinstance(error, DatasetError) and error.__cause__ is cause


@pytest.mark.parametrize("cause", [ImportError("No module named 'pyarrow'"), MemoryError()])
def test_a_file_is_not_called_damaged_where_something_else_is_missing(cause: Exception) -> None:
    configure_project("mentallam")
    project, error = hooks.ProjectHooks(), DatasetError("not read")
    error.__cause__ = cause
    project.before_dataset_loaded("frozen_states")
    project.on_pipeline_error(
        error, {"env": "test"}, DataCatalog({"frozen_states": ParquetDataset(filepath="data/states")})
    )
