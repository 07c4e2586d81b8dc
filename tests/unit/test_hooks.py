import signal
from contextlib import suppress

import pytest
from kedro.framework.project import configure_project
from kedro.io import AbstractDataset, DataCatalog, DatasetError, MemoryDataset
from kedro_datasets.pandas import ParquetDataset

from mentallam import hooks, interruption
from mentallam.errors import MentallamError


def raised(project: hooks.ProjectHooks, dataset: AbstractDataset, cause: Exception) -> Exception:
    """Return what a run raises after an error, which Kedro wraps."""
    error = DatasetError("no")
    error.__cause__ = cause
    try:
        project.on_pipeline_error(error, {"env": "test"}, DataCatalog({"frozen_states": dataset}))
    except MentallamError as sentence:
        return sentence
    return error


def test_an_error_after_loading_is_about_the_file_that_was_read_until_one_is_saved() -> None:
    configure_project("mentallam")
    project, dataset = hooks.ProjectHooks(), ParquetDataset(filepath="data/states")
    damaged = ValueError("Expecting value")
    assert not isinstance(raised(project, dataset, damaged), MentallamError)
    project.before_dataset_loaded("frozen_states")
    sentence = raised(project, dataset, damaged)
    assert str(sentence).startswith("data/states can't be read (Expecting value): remove it and rebuild it with ")
    project.before_dataset_saved()
    assert not isinstance(raised(project, dataset, damaged), MentallamError)


def test_the_sentence_of_a_dataset_that_cannot_be_written_is_the_runs() -> None:
    sentence = MentallamError("data/states can't be written")
    assert raised(hooks.ProjectHooks(), MemoryDataset(), sentence) is sentence


@pytest.mark.parametrize("cause", [ImportError("No module named 'pyarrow'"), MemoryError()])
def test_a_file_is_not_called_damaged_where_something_else_is_missing(cause: Exception) -> None:
    configure_project("mentallam")
    project, error = hooks.ProjectHooks(), DatasetError("not read")
    error.__cause__ = cause
    project.before_dataset_loaded("frozen_states")
    project.on_pipeline_error(
        error, {"env": "test"}, DataCatalog({"frozen_states": ParquetDataset(filepath="data/states")})
    )


def test_a_stop_that_a_library_has_turned_into_its_own_error_is_still_a_stop() -> None:
    interruption.watch()
    with suppress(interruption.RunStoppedError):
        signal.raise_signal(signal.SIGINT)
    try:
        sentence = raised(hooks.ProjectHooks(), MemoryDataset(), TypeError("unsupported operand"))
    finally:
        interruption.unwatch()
        interruption._State.noted = None
    assert isinstance(sentence, interruption.RunStoppedError)
    assert sentence.exit_code == 130
