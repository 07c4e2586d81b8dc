"""Saved folds that no longer fit: the run is refused before it starts, with the change and the way out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

WAY_OUT = "since the folds were made: rebuild them with `kedro run --pipeline data_processing --env test`"


# What training would leave; a refused run only asks whether these files exist.
TRAINED = [
    f"06_models/{name}"
    for name in (
        "training_config.yml",
        "base_model.json",
        "nested_search.json",
        "cv_run.json",
        "frozen_states.safetensors",
    )
]
TRAINED += [f"07_model_output/{name}" for name in ("cv_outcome.json", "ensemble.json", "baseline_predictions.parquet")]
TRAINED += [
    f"07_model_output/folds/fold_{fold}_{name}.parquet" for fold in range(5) for name in ("predictions", "history")
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Run data_processing on a copy of the raw data, and add empty files in place of training's results."""
    workspace = Workspace(tmp_path_factory.mktemp("prepared"))
    ignored = shutil.ignore_patterns("redsm5")
    shutil.copytree(PROJECT / "data" / "01_raw", workspace.folder / "raw", ignore=ignored)
    workspace.run("data_processing", raw_dir=str(workspace.folder / "raw"))
    for name in TRAINED:
        (workspace.data / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace.data / name).touch()
    return workspace


@pytest.fixture
def workspace(prepared: Workspace, tmp_path: Path) -> Workspace:
    """Copy the prepared workspace, so that a test may spoil it."""
    return Workspace(Path(shutil.copytree(prepared.folder, tmp_path / "copy")))


def start(workspace: Workspace, params: dict[str, Any] | None = None, **selected: Any) -> None:
    """Start a part of cv_training from saved folds."""
    bootstrap_project(PROJECT)
    runtime_params = {"data_dir": str(workspace.data), "raw_dir": str(workspace.folder / "raw"), **(params or {})}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
            patch.setenv(name, workspace.environment[name])
        with KedroSession.create(PROJECT, env="test", runtime_params=runtime_params) as session:
            session.run(**{"pipeline_names": ["cv_training"], **selected})  # type: ignore[attr-defined]


def refusal(workspace: Workspace, params: dict[str, Any] | None = None, **selected: Any) -> str:
    with pytest.raises(MentallamError) as caught:
        start(workspace, params, **selected)
    return caught.value.message


def edit_file(workspace: Workspace, name: str = "raw/sample/redsm5_annotations.csv") -> None:
    path = workspace.folder / name
    path.write_text(path.read_text().replace("FATIGUE,1", "FATIGUE,0", 1))


def edit_frame(path: str, **columns: object) -> Callable[[Workspace], None]:
    def edit(workspace: Workspace) -> None:
        frame = pd.read_parquet(workspace.data / path)
        for name, value in columns.items():
            frame.loc[0, name] = value
        frame.to_parquet(workspace.data / path)

    return edit


def edit_fold(workspace: Workspace) -> None:
    path = workspace.data / "05_model_input/folds/fold_2.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": "0" * 64}))


CHANGES: dict[str, Callable[[Workspace], None]] = {
    "redsm5_annotations.csv has changed": edit_file,
    "the dataset posts has changed": edit_frame("02_intermediate/posts.parquet", text="other words"),
    "the dataset pairs has changed": edit_frame("03_primary/pairs.parquet", criterion_id="A.99"),
    "the dataset groups has changed": edit_frame("05_model_input/groups.parquet", group="other"),
    "other data have been prepared than those of fold_2_split": edit_fold,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_named(workspace: Workspace, change: str) -> None:
    CHANGES[change](workspace)
    message = refusal(workspace, from_nodes=["compose_training_config"])
    assert change in message
    assert message.endswith(WAY_OUT)
    assert "other words" not in message


def test_a_changed_option_is_named(workspace: Workspace) -> None:
    message = refusal(workspace, {"cleaning": {"mask": True}}, from_nodes=["compose_training_config"])
    assert message == f"cleaning.mask has changed from False to True {WAY_OUT}"
    message = refusal(workspace, {"folds": {"group_by": "author"}}, node_names=["fit_baselines"])
    assert "folds.group_by has changed from post_id to author" in message
    message = refusal(workspace, {"folds": {"seed": 7}}, namespaces=["fold_1"])
    assert "folds.seed has changed from 42 to 7" in message
    message = refusal(workspace, {"folds": {"dev_splits": 4}}, namespaces=["fold_1"])
    assert "folds.dev_splits has changed from 5 to 4" in message


WAYS: dict[str, dict[str, Any]] = {
    "one fold": {"namespaces": ["fold_2"]},
    "one node": {"node_names": ["fit_baselines"]},
    "from a node of data_processing on": {"from_nodes": ["data_processing.assign_folds"]},
    "reporting": {"pipeline_names": ["reporting"]},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_start_from_saved_folds_is_covered(workspace: Workspace, way: str) -> None:
    edit_file(workspace)
    assert "redsm5_annotations.csv has changed" in refusal(workspace, **WAYS[way])
    assert not (workspace.folder / "mlflow.db").exists()  # refused before the store was opened


@pytest.mark.parametrize(
    "name", ["05_model_input/folds/fold_2.json", "03_primary/manifest.json", "03_primary/pairs.parquet"]
)
def test_a_damaged_file_is_named(workspace: Workspace, name: str) -> None:
    path = workspace.data / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    message = refusal(workspace, from_nodes=["compose_training_config"])
    assert message.startswith(f"{path} can't be read (")
    assert "Dataset" not in message
    assert message.endswith("remove it and rebuild it with `kedro run --pipeline data_processing --env test`")


def test_folds_that_fit_are_taken_and_rebuilding_them_is_always_allowed(workspace: Workspace) -> None:
    start(
        workspace, node_names=[f"data_processing.{name}" for name in ("group_posts", "build_manifest", "assign_folds")]
    )
    edit_file(workspace)
    workspace.run("data_processing", raw_dir=str(workspace.folder / "raw"))
    start(workspace, node_names=["data_processing.group_posts"])


def test_a_corpus_that_is_gone_is_no_change(workspace: Workspace) -> None:
    shutil.rmtree(workspace.folder / "raw" / "sample")
    start(workspace, node_names=["data_processing.group_posts"])
