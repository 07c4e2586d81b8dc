"""The dataset types of this project; only loading or saving a checkpoint imports torch.

Every type that writes replaces its file or folder as a whole; see `files`.
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import kedro_datasets.json
import kedro_datasets.pandas
import kedro_datasets.plotly
import kedro_datasets.text
import kedro_datasets.yaml
import kedro_datasets_experimental.safetensors
from kedro.io import AbstractDataset

from mentallam.batch_files import BatchFiles
from mentallam.config import Config, from_dict, to_dict
from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.errors import MentallamError
from mentallam.files import find_folder, replacing_file, replacing_folder
from mentallam.limits import read_json, read_yaml
from mentallam.spreadsheets import marked, unmarked

if TYPE_CHECKING:
    import pandas as pd

    from mentallam.classifier.checkpoint import TrainedFold


class AtomicFile:
    """Mixin, named before one of Kedro's types for a single file, which is then written whole or not at all."""

    _protocol: str
    _unfinished: PurePosixPath

    def __init_subclass__(cls) -> None:
        """Let Kedro wrap `__init__` itself, not its wrapper again: it keeps the arguments by name for `to_config`."""
        cls.__init__ = cls.__init__.__wrapped__  # type: ignore[attr-defined, method-assign]
        super().__init_subclass__()

    def save(self, data: Any) -> None:
        """Save the data as Kedro's type does, but beside the file's place, and then replace the file."""
        path = super()._get_save_path()  # type: ignore[misc]
        # An object store never shows an unfinished object.
        local = self._protocol == "file"
        with replacing_file(Path(path)) if local else nullcontext(path) as unfinished:
            self._unfinished = PurePosixPath(unfinished.as_posix())
            # Without Kedro's wrapper, which logs and counts versions: the subclass has its own.
            super().save.__wrapped__(self, data)  # type: ignore[misc]

    def _get_save_path(self) -> PurePosixPath:
        return self._unfinished


class JSONDataset(AtomicFile, kedro_datasets.json.JSONDataset):
    """A JSON file."""


class TextDataset(AtomicFile, kedro_datasets.text.TextDataset):
    """A text file."""


class YAMLDataset(AtomicFile, kedro_datasets.yaml.YAMLDataset):
    """A YAML file."""


class ParquetDataset(AtomicFile, kedro_datasets.pandas.ParquetDataset):
    """A table as a Parquet file with the checksum of each page, which is compared when the file is loaded."""

    DEFAULT_LOAD_ARGS: ClassVar[dict[str, Any]] = {"page_checksum_verification": True}
    DEFAULT_SAVE_ARGS: ClassVar[dict[str, Any]] = {"write_page_checksum": True}


class CSVDataset(AtomicFile, kedro_datasets.pandas.CSVDataset):
    """A table as a CSV file."""


class PlotlyJSONDataset(AtomicFile, kedro_datasets.plotly.JSONDataset):
    """A plotly figure as a JSON file."""


class SafetensorsDataset(AtomicFile, kedro_datasets_experimental.safetensors.SafetensorsDataset):
    """Tensors by name as a safetensors file."""


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
            MentallamError: It does not fit this version's schema, or is damaged.
        """
        content = read_yaml(Path(self._filepath))
        try:
            return from_dict(content)
        except MentallamError as error:
            raise MentallamError(
                f"{self._filepath}: {error.message}: remove it and rebuild it with `kedro run --pipeline cv_training`"
            ) from None

    def save(self, data: Config) -> None:
        """Write the configuration as plain values."""
        self._file.save(to_dict(data))

    def _exists(self) -> bool:
        return bool(self._file.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class CheckpointDataset(AbstractDataset["TrainedFold | Path", "TrainedFold"]):
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

    def save(self, data: TrainedFold | Path) -> None:
        """Write the whole checkpoint or nothing.

        Args:
            data: The trained fold, or the folder of a finished checkpoint, which is copied unless it is this one.
        """
        if not isinstance(data, Path):
            from mentallam.classifier.checkpoint import save_checkpoint

            save_checkpoint(data, self._folder)
        elif data.resolve() != self._folder.resolve():
            with replacing_folder(self._folder) as unfinished:
                shutil.copytree(data, unfinished, dirs_exist_ok=True)

    def facts(self) -> dict[str, Any]:
        """Return the content of the checkpoint's mentallam.json."""
        facts: dict[str, Any] = read_json(find_folder(self._folder) / "mentallam.json")
        return facts

    def _exists(self) -> bool:
        return (find_folder(self._folder) / "mentallam.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder), "base_models": str(self._base_models)}


class SpreadsheetDataset(CSVDataset):
    """A CSV that people open in a spreadsheet, where no id may become a formula; see `spreadsheets`."""

    def load(self) -> pd.DataFrame:
        """Read the table as it was saved."""
        table: pd.DataFrame = super().load()
        return unmarked(table)

    def save(self, data: pd.DataFrame) -> None:
        """Write the table with its ids marked as text."""
        super().save(marked(data))


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


class BatchFilesDataset(AbstractDataset[None, BatchFiles]):
    """The places of the files of a batch of predictions, which a node writes by itself.

    Args:
        output: See `BatchFiles.named`.
        output_format: The same.
        waiting: The same.
        metadata: For plugins.

    Raises:
        MentallamError: There is no such format, or it is not the file's.
    """

    def __init__(
        self, *, output: str, output_format: str, waiting: str, metadata: dict[str, Any] | None = None
    ) -> None:
        self._files, self.metadata = BatchFiles.named(output, output_format, waiting), metadata

    def load(self) -> BatchFiles:
        """Return the places."""
        return self._files

    def save(self, data: None) -> None:
        """Refuse: the node writes the files."""
        raise NotImplementedError("the files of a batch are written by the node that takes their places")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"predictions": str(self._files.predictions)}


class StorageDataset(AbstractDataset[None, "dict[str, Any]"]):
    """What a store needs beside an address, as Kedro's credentials have it; it describes itself without them.

    Args:
        credentials: The entry of credentials.yml.
        metadata: For plugins.
    """

    def __init__(self, *, credentials: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._options, self.metadata = dict(credentials), metadata

    def load(self) -> dict[str, Any]:
        """Return the options of fsspec."""
        return dict(self._options)

    def save(self, data: None) -> None:
        """Refuse: credentials are the user's to write."""
        raise NotImplementedError("credentials are only read")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {}


class FilesDataset(AbstractDataset["dict[str, bytes]", "dict[str, bytes]"]):
    """Small files by name in a folder of their own, which is replaced as a whole; without a file there is no folder.

    Args:
        folder: The folder.
        metadata: For plugins.
    """

    def __init__(self, *, folder: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder, self.metadata = Path(folder), metadata

    def load(self) -> dict[str, bytes]:
        """Read all files."""
        folder = find_folder(self._folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())} if folder.is_dir() else {}

    def save(self, data: dict[str, bytes]) -> None:
        """Write the files, and remove those that were there."""
        if not data:
            shutil.rmtree(self._folder, ignore_errors=True)
            return
        with replacing_folder(self._folder) as unfinished:
            for name, content in data.items():
                (unfinished / name).write_bytes(content)

    def _exists(self) -> bool:
        return find_folder(self._folder).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder)}


class WrittenFileDataset(AbstractDataset[Path, "pd.DataFrame"]):
    """A table in a file, or a folder of files in order, that a node has written, as it may be larger than the memory.

    Args:
        filepath: The file, .jsonl, .csv or .parquet.
        metadata: For plugins.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath, self.metadata = Path(filepath), metadata

    def load(self) -> pd.DataFrame:
        """Read the whole table."""
        import pandas as pd

        files = sorted(self._filepath.iterdir()) if self._filepath.is_dir() else [self._filepath]
        return pd.concat([self._read(file) for file in files], ignore_index=True)

    def _read(self, file: Path) -> pd.DataFrame:
        import pandas as pd

        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        if file.suffix == ".csv":
            ids = dict.fromkeys(("post_id", "criterion_id", "run_id"), str)
            return unmarked(pd.read_csv(file, dtype=ids, keep_default_na=False, float_precision="round_trip"))
        return pd.read_json(file, lines=True, dtype=False)  # ids are strings, whatever they look like

    def save(self, data: Path) -> None:
        """Check that the node has written the file.

        Args:
            data: What it has written.
        """
        if not data.exists() or data.resolve() != self._filepath.resolve():
            raise FileNotFoundError(f"{self._filepath} has not been written")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


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
