"""Catalog types of this project; torch is imported only when a checkpoint is loaded or saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from mentallam.corpus.readers import Corpus, read_corpus
from mentallam.folders import find_folder

if TYPE_CHECKING:
    import pandas as pd

    from mentallam.classifier.checkpoint import TrainedFold


class CorpusDataset(AbstractDataset[None, Corpus]):
    """A corpus as its authors publish it, or as you lay out your own; read-only.

    Args:
        format: How the files are laid out: `redsm5` or `pairs`.
        folder: Where they lie.
        criteria: The criteria's file; the format `pairs` finds it in the folder without.
        missing_pairs: For the format `pairs`: `allowed` if not every post is labelled for every criterion.
        columns: For the format `pairs`: headings of the files that are not the usual ones, by column.
        label_values: For the format `pairs`: `POSITIVE:NEGATIVE`, what the labels are called in the file.
        metadata: For plugins.
    """

    def __init__(
        self,
        *,
        format: str,
        folder: str,
        criteria: str | None = None,
        missing_pairs: str = "refused",
        columns: dict[str, Any] | None = None,
        label_values: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._format, self._folder, self._criteria, self._missing_pairs = format, folder, criteria, missing_pairs
        self._columns, self._label_values = columns, label_values
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """Where the corpus lies."""
        return Path(self._folder)

    def load(self) -> Corpus:
        """Reads the corpus, strictly; see `corpus.readers.read_corpus`."""
        return read_corpus(
            self._format, self._folder, self._criteria, self._missing_pairs, self._columns, self._label_values
        )

    def save(self, data: None) -> None:
        """Refuses: a corpus is never written by a run."""
        raise NotImplementedError("a corpus is read-only")

    def _describe(self) -> dict[str, Any]:
        return {"format": self._format, "folder": self._folder, "criteria": self._criteria}


class CheckpointDataset(AbstractDataset["TrainedFold", "TrainedFold"]):
    """A trained fold as a folder; see `classifier.checkpoint`.

    Args:
        folder: The checkpoint.
        base_models: Where base weights made on this machine lie.
        metadata: For plugins.
    """

    def __init__(self, *, folder: str, base_models: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder, self._base_models = Path(folder), Path(base_models)
        self.metadata = metadata

    def load(self) -> TrainedFold:
        """Rebuilds the trained fold."""
        from mentallam.classifier.checkpoint import load_checkpoint

        return load_checkpoint(self._folder, self._base_models)

    def save(self, data: TrainedFold) -> None:
        """Writes the checkpoint whole or not at all."""
        from mentallam.classifier.checkpoint import save_checkpoint

        save_checkpoint(data, self._folder)

    def facts(self) -> dict[str, Any]:
        """Return what the checkpoint says about itself, without its weights."""
        facts: dict[str, Any] = json.loads((self._folder / "mentallam.json").read_text(encoding="utf-8"))
        return facts

    def _exists(self) -> bool:
        return (find_folder(self._folder) / "mentallam.json").is_file()

    def _describe(self) -> dict[str, Any]:
        return {"folder": str(self._folder), "base_models": str(self._base_models)}


class ReportInputDataset(AbstractDataset[None, "pd.DataFrame | dict[str, Any]"]):
    """What a report was made from, out of the artifacts of a cross-validation's MLflow run; read-only.

    Args:
        run_id: The run.
        path: The artifact; see `tracking.find_report_inputs`.
    """

    def __init__(self, *, run_id: str, path: str) -> None:
        self._run_id, self._path = run_id, path

    def load(self) -> pd.DataFrame | dict[str, Any]:
        """Fetches it."""
        from mentallam.tracking import load_report_input

        content: pd.DataFrame | dict[str, Any] = load_report_input(self._run_id, self._path)
        return content

    def save(self, data: None) -> None:
        """Refuses: a run's record is not rewritten from outside."""
        raise NotImplementedError("what a run was reported from is read-only")

    def _describe(self) -> dict[str, Any]:
        return {"run_id": self._run_id, "path": self._path}
