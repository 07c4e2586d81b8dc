"""The dataset types of this project; only loading or saving a checkpoint imports torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset
from kedro_datasets.yaml import YAMLDataset

from mentallam.config import Config, from_dict, to_dict
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.folders import find_folder, replace_folder

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
        return from_dict(self._file.load())

    def save(self, data: Config) -> None:
        """Write the configuration as plain values."""
        self._file.save(to_dict(data))

    def _exists(self) -> bool:
        return bool(self._file.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class CheckpointDataset(AbstractDataset[Path, "TrainedFold"]):
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

    def save(self, data: Path) -> None:
        """Copy the folder of a checkpoint, the whole of it or nothing."""
        import shutil

        unfinished = self._folder.with_name(f".{self._folder.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(data, unfinished)
        replace_folder(unfinished, self._folder)

    def facts(self) -> dict[str, Any]:
        """Return the content of the checkpoint's mentallam.json."""
        facts: dict[str, Any] = json.loads((self._folder / "mentallam.json").read_text(encoding="utf-8"))
        return facts

    def _exists(self) -> bool:
        return (find_folder(self._folder) / "mentallam.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder), "base_models": str(self._base_models)}


class FolderDataset(AbstractDataset[None, Path]):
    """A folder that a node reads and writes by itself; nothing is saved to it by the catalog.

    Args:
        folder: The folder; it need not exist.
        metadata: For plugins.
    """

    def __init__(self, *, folder: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder, self.metadata = Path(folder), metadata

    def load(self) -> Path:
        """Return the folder."""
        return self._folder

    def save(self, data: None) -> None:
        """Refuse: the node writes into the folder."""
        raise NotImplementedError("a folder is written by the node that takes it")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder)}


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
