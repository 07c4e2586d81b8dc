"""What a run takes from earlier runs: it exists and still fits, or the run is refused before any work."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from mentallam.config import Config, with_values
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import CorpusLabel, find_changed_file
from mentallam.datasets import CheckpointDataset, CorpusDataset, ReportInputDataset
from mentallam.errors import MentallamError
from mentallam.evaluation.aggregate import outcome_of_folds
from mentallam.result_files import ResultFiles
from mentallam.saved_results import change_of_config, change_of_data, change_of_fold
from mentallam.tracking import find_report_inputs
from mentallam.variables import CV_FOLDS

_MANIFEST, _CONFIG, _NESTED = "data_manifest", "training_config", "nested_search"


class SavedInputs:
    """The results of data_processing and cv_training that one run takes as they were saved.

    Args:
        pipeline: The nodes that the user chose.
        files: The results; each is loaded once.
    """

    def __init__(self, pipeline: Pipeline, files: ResultFiles) -> None:
        self._pipeline, self._files = pipeline, files
        self._prepared = files.pipelines["data_processing"].all_outputs()
        self._trained = files.pipelines["cv_training"].all_outputs() - self._prepared
        self._made_now = pipeline.all_outputs()
        self._taken = pipeline.inputs() & (self._prepared | self._trained)
        self._trains = bool(self._made_now & (self._prepared | self._trained))
        self._records: dict[str, Any] = {}

    def report_inputs(self) -> set[str]:
        """Return the datasets that reporting with `cv_run_id` takes from that run.

        Raises:
            MentallamError: The chosen nodes don't report, or do more than that.
        """
        if not self._taken or self._trains:
            raise MentallamError("cv_run_id reports a finished run again: use it with `--pipeline reporting`")
        return self._taken

    def check_existence(self) -> None:
        """Refuse the run if a result that it takes does not exist.

        Raises:
            MentallamError: The message names the result and the pipeline that makes it.
        """
        if self._taken & self._prepared:
            self._taken |= {_MANIFEST}
        if missing := sorted(name for name in self._taken if not self._files.exists(name)):
            maker = "data_processing" if self._prepared.issuperset(missing) else "cv_training"
            finished = any(self._files.exists(name) for name in self._taken if name.endswith("_predictions"))
            partly = "; `--params partial=true` reports the folds that are finished" if finished else ""
            raise MentallamError(f"{missing[0]} does not exist yet: run `{self._command(maker)}` first{partly}")

    def take_finished_folds(self) -> None:
        """Make the catalog show a cross-validation with its finished folds alone.

        The tables of the other folds, and the calibration of all folds together, become None.

        Raises:
            MentallamError: The chosen nodes don't report, or no fold is finished.
        """
        catalog, outcome = self._files.catalog, "cv_outcome"
        if outcome not in self._taken or self._trains:
            raise MentallamError("partial=true reports finished folds: use it with `--pipeline reporting`")
        cv_run = self._load("cv_run") if self._files.exists("cv_run") else {"run_id": ""}
        names = sorted(name for name in self._trained if re.fullmatch(r"fold_\d+_result", name))
        results = [self._load(name) for name in names if self._files.exists(name)]
        finished = [result for result in results if result["cv_run_id"] == cv_run["run_id"]]
        if not finished:
            raise MentallamError(f"no fold is finished yet: run `{self._command('cv_training')}` first")
        folds = {result["fold"] for result in finished}
        unfinished = {name for name in self._taken if folds_in([name]) - folds or name == "ensemble"}
        self._taken -= unfinished
        for name in unfinished:
            catalog[name] = MemoryDataset(None)
        baselines = self._files.load("baseline_predictions")
        catalog["baseline_predictions"] = MemoryDataset(baselines[baselines["fold"].isin(folds)])
        catalog[outcome] = MemoryDataset(outcome_of_folds(cv_run, finished, len(names)))

    def keep_outputs(self) -> Pipeline:
        """Take the outputs that exist as they are, and return the nodes that remain to run.

        Raises:
            MentallamError: No record says what such an output was made from.
        """
        kept = {name for name in self._made_now if self._files.exists(name)}
        if others := kept - self._prepared - self._trained:
            raise MentallamError(
                f"{min(others)} exists, and nothing says whether it still fits: --only-missing-outputs resumes "
                f"`{self._command('cv_training')}`; run later pipelines without it"
            )
        for record, results in ((_MANIFEST, kept & self._prepared), (_CONFIG, kept - self._prepared)):
            if results and not self._files.exists(record):
                raise MentallamError(
                    f"{min(results)} exists without {record}, which says how it was made: run this without "
                    f"--only-missing-outputs"
                )
        self._taken, self._made_now = self._taken | kept, set()
        return Pipeline([node for node in self._pipeline.nodes if not node.outputs or {*node.outputs} - kept])

    def check_changes(self, given: Mapping[str, Any]) -> set[str]:
        """Refuse the run if a result that it takes no longer fits.

        Args:
            given: The runtime parameters, nested.

        Returns:
            The parameters that were compared with the results.

        Raises:
            MentallamError: The message names what has changed and the way out.
        """
        compared: set[str] = set()
        if self._taken & self._prepared:
            self._check_data("corpus_label" in given)
            compared |= {"cleaning", "folds", "corpus_label"}
        if self._taken - self._prepared and self._files.exists(_CONFIG):  # trained results depend on it
            compared |= self._check_config(given)
        self._check_folds()
        return compared

    def _check_data(self, label_given: bool) -> None:
        catalog, manifest = self._files.catalog, self._load(_MANIFEST)
        corpus = catalog["corpus"]
        assert isinstance(corpus, CorpusDataset)
        if changed := find_changed_file(manifest, corpus.folder):
            change: str | None = f"{changed} has changed"
        else:
            change = change_of_data(
                manifest,
                {name for name in self._prepared - self._made_now if self._files.exists(name)},
                self._load,
                CleaningOptions.model_validate(catalog.load("params:cleaning")),
                FoldOptions.model_validate(catalog.load("params:folds")),
                catalog.load("params:n_folds"),
                CorpusLabel.model_validate(catalog.load("params:corpus_label")) if label_given else None,
            )
        if change:
            raise MentallamError(
                f"{change} since the folds were made: rebuild them with `{self._command('data_processing')}`"
            )

    def _check_config(self, given: Mapping[str, Any]) -> set[str]:
        """Compare the saved configuration with the parameters, and return those that make it.

        Reporting describes what was trained, so it needs no comparison unless one of these parameters is given.
        """
        composing = next(node for node in self._files.pipelines["cv_training"].nodes if _CONFIG in node.outputs)
        names = {name.removeprefix("params:") for name in composing.inputs}
        if self._trains or names & given.keys():
            now = composing.func(*map(self._files.catalog.load, composing.inputs))
            if change := change_of_config(self._load(_CONFIG), now):
                raise MentallamError(
                    f"{change} since {_CONFIG} was saved: give the same overrides as then, or run "
                    f"`{self._command('cv_training')}` with the new ones"
                )
        return names | self._check_nested(given)

    def _check_nested(self, given: Mapping[str, Any]) -> set[str]:
        """Compare what each fold searches with the parameter `nested`, as `_check_config` does."""
        opened = self._files.exists(_NESTED)
        if "nested" in given or (self._trains and opened):
            before, now = (
                (self._load(_NESTED) if opened else {}).get("sweep"),
                self._files.catalog.load("params:nested"),
            )
            if before != now:
                raise MentallamError(
                    f"nested was {before or 'null'} when the cross-validation was opened, and is {now or 'null'}: give "
                    f"the same as then, or run `{self._command('cv_training')}` with the new one"
                )
        return {"nested"}

    def _check_folds(self) -> None:
        """Refuse a fold that was trained with other data, another split or another configuration."""
        for fold in sorted(folds_in(self._taken - self._prepared)):
            parts = {part: f"fold_{fold}_{part}" for part in ("split", "checkpoint", "dev_predictions", "predictions")}
            there = {part: name for part, name in parts.items() if self._files.exists(name)}
            if parts["predictions"] not in self._taken:  # this run makes them
                there.pop("predictions", None)
            if "split" not in there or not self._files.exists(_CONFIG):
                continue
            checkpoint = self._files.catalog[parts["checkpoint"]]
            assert isinstance(checkpoint, CheckpointDataset)
            posts = {
                part: {*self._load(there[part])["post_id"]} if part in there else None
                for part in ("dev_predictions", "predictions")
            }
            change = change_of_fold(
                self._load(there["split"]),
                self._config_of(fold),
                checkpoint.facts() if "checkpoint" in there else None,
                posts["dev_predictions"],
                posts["predictions"],
            )
            if change:
                raise MentallamError(
                    f"{change} since fold {fold} was trained: run `{self._command('cv_training')}` again"
                )

    def _config_of(self, fold: int) -> Config:
        """Return the configuration that a fold is trained with: in a nested search, with what the fold has found."""
        config, result = self._load(_CONFIG), f"fold_{fold}_result"
        found = self._load(result).get("search") if self._files.exists(result) else None
        return with_values(config, found["values"]) if found else config

    def _load(self, name: str) -> Any:
        """Load a result once; a table, which has one reader, is not kept, since a corpus may be large."""
        if name in self._records:
            return self._records[name]
        content = self._files.load(name)
        if not isinstance(content, pd.DataFrame):
            self._records[name] = content
        return content

    def _command(self, pipeline: str) -> str:
        return f"kedro run --pipeline {pipeline}{self._files.env}"


def take_from_run(run_id: str, wanted: set[str], catalog: DataCatalog) -> None:
    """Make the catalog read datasets from the artifacts of a finished cross-validation.

    Raises:
        MentallamError: There is no such run, it has another number of folds, or it lacks one of the datasets.
    """
    kept = find_report_inputs(run_id)
    folds_kept, folds_wanted = folds_in(kept), folds_in(wanted)
    if folds_wanted and folds_kept != folds_wanted:
        raise MentallamError(
            f"cv_run_id={run_id} has {len(folds_kept)} folds, and this project is set to {len(folds_wanted)}: set "
            f"{CV_FOLDS}={len(folds_kept)} in the environment"
        )
    if missing := sorted(wanted - kept.keys()):
        raise MentallamError(
            f"cv_run_id={run_id} holds no {missing[0]}: it was made by an older version; report it with that one"
        )
    for name in wanted:
        catalog[name] = ReportInputDataset(run_id=run_id, path=kept[name])


def folds_in(names: Iterable[str]) -> set[int]:
    """Return the numbers of the folds that datasets belong to."""
    return {int(found[1]) for name in names if (found := re.match(r"fold_(\d+)_", name))}
