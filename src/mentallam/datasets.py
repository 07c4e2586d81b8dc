"""The dataset types of this project; only loading or saving a checkpoint imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets.pandas import CSVDataset
from kedro_datasets.yaml import YAMLDataset

from mentallam.config import Config, from_dict, to_dict
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.folders import find_folder
from mentallam.limits import read_json, read_yaml
from mentallam.spreadsheets import marked, unmarked

if TYPE_CHECKING:
    import pandas as pd

    from mentallam.classifier.checkpoint import TrainedFold


class CorpusDataset(AbstractDataset[None, Corpus]):
    """A corpus in one of the formats of `corpus.readers`; read-only.

    Args:
        format: Name of the format: `redsm5` or `pairs`.
        folder: The folder of the files.
        criteria: The file with the criteria; the format `pairs` finds it in the folder by default.
        metadata: For plugins.
        **options: Further options of the format; see its function in `corpus.readers`.
    """

    def __init__(
        self,
        *,
        format: str,
        folder: str,
        criteria: str | None = None,
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._format, self._folder, self._criteria, self._options = format, folder, criteria, options
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """The folder of the corpus."""
        return Path(self._folder)

    def load(self) -> Corpus:
        """Read the corpus, strictly; see `corpus.readers.read_corpus`."""
        return read_corpus(self._format, self._folder, self._criteria, **self._options)

    def save(self, data: None) -> None:
        """Refuse: a run never writes a corpus."""
        raise NotImplementedError("a corpus is read-only")

    def _describe(self) -> dict[str, Any]:
        return {"format": self._format, "folder": self._folder, "criteria": self._criteria}


class ConfigDataset(AbstractDataset[Config, Config]):
    """The Hydra configuration of a run as a YAML file, validated when it is loaded.

    Args:
        filepath: The file.
        metadata: For plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath, self._file = filepath, YAMLDataset(filepath=filepath)
        self.metadata = metadata

    def load(self) -> Config:
        """Load the configuration.

        Raises:
            MentallamError: It does not fit this version's schema.
        """
        return from_dict(read_yaml(Path(self._filepath)))

    def save(self, data: Config) -> None:
        """Write the configuration as plain values."""
        self._file.save(to_dict(data))

    def _exists(self) -> bool:
        return bool(self._file.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class CheckpointDataset(AbstractDataset["TrainedFold", "TrainedFold"]):
    """A trained fold as a folder; see `classifier.checkpoint`.

    Args:
        folder: The folder of the checkpoint.
        base_models: The folder of base weights that were made on this machine.
        metadata: For plugins.
    """

    def __init__(self, *, folder: str, base_models: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder, self._base_models = Path(folder), Path(base_models)
        self.metadata = metadata

    def load(self) -> TrainedFold:
        """Rebuild the trained fold."""
        from mentallam.classifier.checkpoint import load_checkpoint

        return load_checkpoint(self._folder, self._base_models)

    def save(self, data: TrainedFold) -> None:
        """Write the whole checkpoint or nothing."""
        from mentallam.classifier.checkpoint import save_checkpoint

        save_checkpoint(data, self._folder)

    def facts(self) -> dict[str, Any]:
        """Return the content of the checkpoint's mentallam.json."""
        facts: dict[str, Any] = read_json(self._folder / "mentallam.json")
        return facts

    def _exists(self) -> bool:
        return (find_folder(self._folder) / "mentallam.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder), "base_models": str(self._base_models)}


class SpreadsheetDataset(CSVDataset):  # type: ignore[misc]
    """A CSV that people open in a spreadsheet, where no id may become a formula; see `spreadsheets`."""

    def load(self) -> pd.DataFrame:
        """Read the table as it was saved."""
        table: pd.DataFrame = super().load()
        return unmarked(table)

    def save(self, data: pd.DataFrame) -> None:
        """Write the table with its ids marked as text."""
        super().save(marked(data))


class ReportInputDataset(AbstractDataset[None, "pd.DataFrame | Config | dict[str, Any]"]):
    """An input of a report, from the artifacts of a cross-validation's MLflow run; read-only.

    Args:
        run_id: The run.
        path: The artifact's path; see `tracking.find_report_inputs`.
    """

    def __init__(self, *, run_id: str, path: str) -> None:
        self._run_id, self._path = run_id, path

    def load(self) -> pd.DataFrame | Config | dict[str, Any]:
        """Fetch the artifact and read it."""
        from mentallam.tracking import load_report_input

        content: pd.DataFrame | Config | dict[str, Any] = load_report_input(self._run_id, self._path)
        return content

    def save(self, data: None) -> None:
        """Refuse: the record of a finished run never changes."""
        raise NotImplementedError("the inputs of a run's report are read-only")

    def _describe(self) -> dict[str, Any]:
        return {"run_id": self._run_id, "path": self._path}
