"""Tests on the results of a small project with two folds, named as in the real pipelines."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.io import AbstractDataset, DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from mentallam import saved_inputs
from mentallam.config import Config, to_dict
from mentallam.datasets import CheckpointDataset, CorpusDataset, ReportInputDataset
from mentallam.errors import MentallamError
from mentallam.result_files import ResultFiles
from mentallam.saved_inputs import SavedInputs, take_from_run
from tests.unit.test_saved_results import CLEANING, FOLDS, FRAMES, MANIFEST, SPLIT

FOLD_NAMES = [f"fold_{fold}" for fold in range(2)]


def nothing(*_: Any) -> None:
    """Do nothing, as the function of a node."""


def node(name: str, inputs: list[str], outputs: list[str]) -> Node:
    return Node(nothing, inputs, outputs, name=name)


def pipelines(composed: Config) -> dict[str, Pipeline]:
    splits = [f"{fold}_split" for fold in FOLD_NAMES]
    data = Pipeline([node("prepare", ["corpus"], [*FRAMES, *splits, "data_manifest", "data_statistics"])])
    composing = Node(lambda overrides: composed, "params:overrides", "training_config", name="compose")
    folds = [
        node(
            f"train_{fold}",
            ["training_config", "posts", f"{fold}_split"],
            [f"{fold}_checkpoint", f"{fold}_dev_predictions", f"{fold}_predictions"],
        )
        for fold in FOLD_NAMES
    ]
    report = Pipeline(
        [node("report", ["training_config", "data_statistics", *(f"{fold}_predictions" for fold in FOLD_NAMES)], ["r"])]
    )
    training = data + Pipeline([composing, *folds])
    return {"data_processing": data, "cv_training": training, "reporting": report, "__default__": training + report}


@dataclass
class Project:
    """A catalog, its pipelines, and how often each dataset was loaded."""

    catalog: DataCatalog
    pipelines: dict[str, Pipeline]
    loads: Counter[str]

    def inputs_of(self, pipeline: Pipeline) -> SavedInputs:
        return SavedInputs(pipeline, ResultFiles(self.catalog, self.pipelines, " --env test"))


@pytest.fixture
def project(tiny_config: Config, tmp_path: Path) -> Project:
    loads = Counter[str]()
    contents: dict[str, Any] = {
        **FRAMES,
        "data_manifest": MANIFEST,
        "data_statistics": {"data_hash": MANIFEST["data_hash"], "corpus": "diaries", "synthetic": False},
        "training_config": tiny_config,
        "params:cleaning": CLEANING.model_dump(),
        "params:folds": FOLDS.model_dump(),
        "params:n_folds": 2,
        "params:overrides": "",
    }
    datasets: dict[str, AbstractDataset] = {
        "corpus": CorpusDataset(format="redsm5", folder=str(tmp_path)),
        "r": MemoryDataset(),
    }
    for fold in FOLD_NAMES:
        (tmp_path / fold).mkdir()
        facts = {"origin": {"data_hash": MANIFEST["data_hash"]}, "config": to_dict(tiny_config)}
        (tmp_path / fold / "mentallam.json").write_text(json.dumps(facts))
        datasets[f"{fold}_checkpoint"] = CheckpointDataset(folder=str(tmp_path / fold), base_models=str(tmp_path))
        contents[f"{fold}_split"] = SPLIT
        contents[f"{fold}_dev_predictions"] = pd.DataFrame({"post_id": ["p1"]})
        contents[f"{fold}_predictions"] = pd.DataFrame({"post_id": ["p2"]})
    datasets |= {name: MemoryDataset(content) for name, content in contents.items()}
    catalog = DataCatalog(datasets)
    load = catalog.load

    def counting(name: str, *rest: Any) -> Any:
        loads[name] += 1
        return load(name, *rest)

    catalog.load = counting  # type: ignore[method-assign]
    return Project(catalog, pipelines(tiny_config), loads)


@pytest.mark.parametrize("name", ["reporting", "train"])
def test_each_result_is_loaded_once(project: Project, name: str) -> None:
    chosen = project.pipelines["cv_training"].only_nodes("train_fold_0", "train_fold_1")
    saved = project.inputs_of(project.pipelines["reporting"] if name == "reporting" else chosen)
    saved.check_existence()
    assert saved.check_changes({}) >= {"cleaning", "folds", "corpus_label", "overrides"}
    results = {name: count for name, count in project.loads.items() if not name.startswith("params:")}
    assert results.keys() >= {*FRAMES, "data_manifest", "training_config", "fold_0_split", "fold_1_split"}
    assert set(results.values()) == {1}


@pytest.mark.parametrize(
    ("name", "maker"), [("training_config", "cv_training"), ("data_statistics", "data_processing")]
)
def test_what_does_not_exist_names_the_command_that_makes_it(project: Project, name: str, maker: str) -> None:
    project.catalog[name] = MemoryDataset()
    with pytest.raises(MentallamError, match=f"{name} does not exist yet: .* --pipeline {maker} --env test` first"):
        project.inputs_of(project.pipelines["reporting"]).check_existence()


@pytest.fixture
def unfinished() -> SavedInputs:
    """Return the inputs of a report of which the first fold alone is finished, and the second of an earlier run."""
    names = [name for fold in FOLD_NAMES for name in (f"{fold}_predictions", f"{fold}_history")]
    report = Pipeline([node("report", ["cv_outcome", "baseline_predictions", *names], ["r"])])
    results = [f"{fold}_result" for fold in FOLD_NAMES]
    folds = [
        node(fold, ["cv_run"], [f"{fold}_{part}" for part in ("predictions", "history", "result")])
        for fold in FOLD_NAMES
    ]
    opening = node("open", ["x"], ["cv_run", "baseline_predictions"])
    training = Pipeline([opening, *folds, node("close", results, ["cv_outcome"])])
    result = {"fold": 0, "cv_run_id": "now", "run_id": "child", "dev_f1": 0.5}
    contents: dict[str, Any] = {
        "cv_run": {"run_id": "now", "experiment_id": "1"},
        "baseline_predictions": pd.DataFrame({"fold": [0, 1, 1]}),
        "fold_0_result": result,
        "fold_1_result": {**result, "fold": 1, "cv_run_id": "earlier"},
        **dict.fromkeys(names, "a table"),
    }
    catalog = DataCatalog({name: MemoryDataset(content) for name, content in contents.items()})
    known = {"data_processing": Pipeline([]), "cv_training": training, "reporting": report}
    return SavedInputs(report, ResultFiles(catalog, known, ""))


def test_finished_folds_of_this_run_are_taken_for_a_partial_report(unfinished: SavedInputs) -> None:
    with pytest.raises(MentallamError, match="cv_outcome does not exist yet: .*; `--params partial=true` reports the"):
        unfinished.check_existence()
    unfinished.take_finished_folds()
    load = unfinished._files.catalog.load
    assert (load("fold_0_predictions"), load("fold_1_predictions"), load("fold_1_history")) == ("a table", None, None)
    assert load("baseline_predictions")["fold"].tolist() == [0]
    outcome = load("cv_outcome")
    assert (outcome["n_folds"], [fold["fold"] for fold in outcome["folds"]]) == (2, [0])
    # Of a fold that is not finished, only what other folds need is there: it has nothing to compare.
    assert saved_inputs.folds_in(unfinished._taken) == {0}
    unfinished.check_existence()


def test_without_a_finished_fold_there_is_no_partial_report(unfinished: SavedInputs, project: Project) -> None:
    unfinished._files.catalog["cv_run"] = MemoryDataset({"run_id": "newer", "experiment_id": "1"})
    with pytest.raises(MentallamError, match="no fold is finished yet: run `kedro run --pipeline cv_training` first"):
        unfinished.take_finished_folds()
    with pytest.raises(MentallamError, match="partial=true reports finished folds: use it with `--pipeline reporting`"):
        project.inputs_of(project.pipelines["cv_training"]).take_finished_folds()


def test_outputs_that_exist_are_kept_and_the_others_made(project: Project) -> None:
    project.catalog["fold_1_predictions"] = MemoryDataset()
    saved = project.inputs_of(project.pipelines["cv_training"])
    assert [node.name for node in saved.keep_outputs().nodes] == ["train_fold_1"]
    assert saved.check_changes({}) >= {"overrides", "folds"}


def test_a_part_of_training_that_reports_nothing_is_not_for_cv_run_id(project: Project) -> None:
    assert project.inputs_of(project.pipelines["reporting"]).report_inputs() == {
        *("training_config", "data_statistics", "fold_0_predictions", "fold_1_predictions")
    }
    for name in ("cv_training", "data_processing", "__default__"):
        with pytest.raises(MentallamError, match="cv_run_id reports a finished run again"):
            project.inputs_of(project.pipelines[name]).report_inputs()


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what the run `feed` holds: three folds."""
    names = [*(f"fold_{fold}_predictions" for fold in range(3)), "criteria"]
    kept = {name: f"report_inputs/{name}.parquet" for name in names}
    monkeypatch.setattr(saved_inputs, "find_report_inputs", lambda run_id: kept)
    return kept


def test_what_is_wanted_is_taken_from_the_run_and_the_rest_left_alone(kept: dict[str, str]) -> None:
    catalog = DataCatalog({"criteria": MemoryDataset("of today"), "posts": MemoryDataset("of today")})
    take_from_run("feed", set(kept), catalog)
    assert catalog.load("posts") == "of today"
    for name, path in kept.items():
        dataset = catalog[name]
        assert isinstance(dataset, ReportInputDataset)
        assert dataset._describe() == {"run_id": "feed", "path": path}


def test_another_number_of_folds_names_the_setting(kept: dict[str, str]) -> None:
    wanted = {f"fold_{fold}_predictions" for fold in range(5)}
    with pytest.raises(MentallamError, match="has 3 folds, and this project is set to 5: set MENTALLAM_CV_FOLDS=3"):
        take_from_run("feed", wanted, DataCatalog())
    catalog = DataCatalog()
    take_from_run("feed", {"criteria"}, catalog)  # a part of the pipeline that reads no fold
    assert catalog.keys() == ["criteria"]


def test_what_an_older_run_lacks_is_named(kept: dict[str, str]) -> None:
    with pytest.raises(MentallamError, match="cv_run_id=feed holds no baseline_predictions: it was made by an older"):
        take_from_run("feed", {*kept, "baseline_predictions"}, DataCatalog())
