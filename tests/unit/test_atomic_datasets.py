"""Every entry of the catalog is written whole or not at all, whatever happens to the disk or the process."""

import errno
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError
from kedro_datasets.json import JSONDataset as KedroJSONDataset

from mentallam import datasets
from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import Config
from mentallam.datasets import AtomicFile, CheckpointDataset, ConfigDataset, CorpusDataset, FilesDataset, JSONDataset
from mentallam.errors import MentallamError, causes
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.settings import CONFIG_LOADER_ARGS
from tests.samples import PROJECT
from tests.unit.disks import files_end_at, full, killed_at, read_only, small_disk

ENTRIES: dict[str, dict[str, Any]] = {
    name: entry
    for path in sorted((PROJECT / "conf").glob("*/catalog*.yml"))
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    if not name.startswith("_") and "type" in entry
}
# Not by the catalog: a corpus is only read, and a folder or a large file is written by the node that takes or gives it.
NOT_WRITTEN = {
    f"mentallam.datasets.{type_}"
    for type_ in ("BatchFilesDataset", "CorpusDataset", "FolderDataset", "StorageDataset", "WrittenFileDataset")
}
WRITTEN = sorted(name for name, entry in ENTRIES.items() if entry["type"] not in NOT_WRITTEN)
TYPES = sorted({ENTRIES[name]["type"] for name in WRITTEN})
# Entries that differ in their place alone are written by the same code, so one of each kind is tried.
KINDS = [*{repr({**ENTRIES[name], "filepath": "", "metadata": {}}): name for name in WRITTEN}.values()]

Contents = Callable[[Any], tuple[Any, Any]]


@pytest.fixture
def contents(request: pytest.FixtureRequest) -> Contents:
    """Return two contents for a dataset: what is there, and what a new run writes; longer than a write's buffer."""
    table = pd.DataFrame({"post_id": [f"old{number}" for number in range(2000)]})
    tables = (table, table.assign(post_id=table["post_id"] + "new"))
    config: Config = request.getfixturevalue("tiny_config")
    by_type: dict[type, tuple[Any, Any]] = {
        datasets.JSONDataset: ({"old": [1.5] * 2000}, {"new": [2.5] * 3000}),
        datasets.TextDataset: ("old" * 3000, "new" * 4000),
        datasets.ParquetDataset: tables,
        datasets.SpreadsheetDataset: tables,
        datasets.PlotlyJSONDataset: (go.Figure(), go.Figure(go.Scatter(y=list(range(3000))))),
        datasets.SafetensorsDataset: ({"old": torch.zeros(2000)}, {"new": torch.ones(3000)}),
        FilesDataset: ({"a.pdf": b"old" * 3000}, {"a.pdf": b"new" * 4000}),
        ConfigDataset: (config, replace(config, training=replace(config.training, max_epochs=77))),
    }

    def contents_of(dataset: Any) -> tuple[Any, Any]:
        if isinstance(dataset, CheckpointDataset):  # as slow as all others together
            trained = request.getfixturevalue("trained")
            return trained, replace(trained, decision=Decision(Calibration(2.0, 0.5), Thresholds(0.25)))
        return by_type[type(dataset)]

    return contents_of


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    """Return the catalog's configuration with "DATA" for the data folder."""
    options = {**CONFIG_LOADER_ARGS, "default_run_env": "test"}
    loader = OmegaConfigLoader(str(PROJECT / "conf"), runtime_params={"data_dir": "/DATA"}, **options)
    return dict(loader["catalog"])


@pytest.fixture
def dataset_of(entries: dict[str, Any], tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that makes an entry's dataset as the project's catalog does, but below `tmp_path`."""

    def dataset_of(name: str, data: Path = tmp_path) -> Any:
        moved = {
            key: str(data) + value[5:] if str(value).startswith("/DATA") else value
            for key, value in entries[name].items()
        }
        return DataCatalog.from_config({name: moved})[re.sub(r"\{\w+\}", "1", name)]

    return dataset_of


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "filler"}


def sentence_of(error: BaseException) -> str:
    """Return the one sentence that a run would end with, as the hook finds it."""
    return next(cause.message for cause in causes(error) if isinstance(cause, MentallamError))


def test_no_entry_of_the_catalog_escapes() -> None:
    assert ENTRIES["corpus"]["type"] == f"{CorpusDataset.__module__}.{CorpusDataset.__name__}"  # read-only
    assert {"posts", "fold_{k}_checkpoint", "frozen_states", "prediction_summary", "report"} <= set(WRITTEN)
    for name in TYPES:
        module, _, type_name = name.rpartition(".")
        assert module == "mentallam.datasets", f"{name} doesn't replace its file as a whole; see datasets.AtomicFile"
        type_ = getattr(datasets, type_name)
        assert issubclass(type_, AtomicFile) or type_ in (ConfigDataset, CheckpointDataset, FilesDataset)
    assert set(TYPES) == {
        f"mentallam.datasets.{name}"
        for name, type_ in vars(datasets).items()
        if isinstance(type_, type)
        and (issubclass(type_, AtomicFile) or type_ in (ConfigDataset, CheckpointDataset, FilesDataset))
        and name not in ("AtomicFile", "YAMLDataset", "CSVDataset")
    }


@pytest.mark.parametrize("name", KINDS)
def test_a_save_that_fails_or_is_killed_leaves_the_old_content(
    name: str,
    dataset_of: Callable[[str], Any],
    contents: Contents,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = dataset_of(name)
    old, new = contents(entry)
    entry.save(old)
    before = files_below(tmp_path)
    entry.save(new)
    after = files_below(tmp_path)
    assert set(after) == set(before)
    assert after != before
    entry.save(old)
    assert files_below(tmp_path) == before
    middle = max(map(len, after.values())) // 2

    def refused() -> str:
        with pytest.raises(DatasetError) as caught:
            entry.save(new)
        assert files_below(tmp_path) == before
        return sentence_of(caught.value)

    path = entry._folder if isinstance(entry, CheckpointDataset | FilesDataset) else next(iter(before))
    with files_end_at(middle):
        assert refused() == (f"{path} can't be written (File too large): check space and rights, then run this again")

    def full_disk(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, step in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, full_disk)
            assert refused().startswith(f"{path} can't be written (No space left on device): ")

    assert killed_at(middle, lambda: entry.save(new))
    there = files_below(tmp_path)
    assert before.items() < there.items()
    assert all(".unfinished-" in str(left) for left in there.keys() - before.keys())
    assert entry.load() is not None

    entry.save(new)  # the next save removes what the killed one left
    assert files_below(tmp_path) == after


@pytest.mark.parametrize(
    ("refusing", "reason"), [(full, "No space left on device"), (read_only, "Read-only file system")]
)
def test_a_disk_that_refuses_leaves_every_kind_whole_and_the_next_try_works(
    dataset_of: Callable[..., Any],
    contents: Contents,
    tmp_path: Path,
    refusing: Callable[[Path], AbstractContextManager[None]],
    reason: str,
) -> None:
    with small_disk(tmp_path / "disk", 8192) as disk:
        pairs = [(dataset, *contents(dataset)) for dataset in (dataset_of(name, disk) for name in KINDS)]
        for dataset, old, _ in pairs:
            dataset.save(old)
        before = files_below(disk)
        with refusing(disk):
            for dataset, _, new in pairs:
                with pytest.raises(DatasetError) as caught:
                    dataset.save(new)
                assert f"can't be written ({reason}): " in sentence_of(caught.value), dataset
        assert files_below(disk) == before
        for dataset, _, new in pairs:
            dataset.save(new)
            assert dataset.load() is not None
        after = files_below(disk)
        assert set(after) == set(before)
        assert after != before


def test_a_finished_checkpoint_is_copied_to_its_place(trained: TrainedFold, tmp_path: Path) -> None:
    save_checkpoint(trained, tmp_path / "finished")
    (tmp_path / "fold_0").mkdir()
    (tmp_path / "fold_0" / "older").touch()
    dataset = CheckpointDataset(folder=str(tmp_path / "fold_0"), base_models=str(Path(trained.base.folder).parent))
    dataset.save(tmp_path / "finished")
    assert files_below(tmp_path / "fold_0").keys() == {
        tmp_path / "fold_0" / path.name for path in (tmp_path / "finished").iterdir()
    }
    loaded = dataset.load()
    assert isinstance(loaded, TrainedFold)
    assert loaded.decision == trained.decision
    assert dataset.facts()["origin"] == trained.origin


def test_a_checkpoint_that_is_in_its_place_already_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "fold_0").mkdir()
    dataset = CheckpointDataset(folder=str(tmp_path / "fold_0"), base_models="base")
    before = (tmp_path / "fold_0").stat().st_ino
    dataset.save(tmp_path / "." / "fold_0")
    assert (tmp_path / "fold_0").stat().st_ino == before


def test_versions_work_as_in_kedro(tmp_path: Path) -> None:
    entry = {"type": "mentallam.datasets.JSONDataset", "filepath": f"{tmp_path}/x.json", "versioned": True}
    for content in ("one", "two"):
        DataCatalog.from_config({"x": entry}, save_version=content).save("x", content)
    assert DataCatalog.from_config({"x": entry}).load("x") == "two"
    assert len(files_below(tmp_path)) == 2


def test_an_object_store_is_written_as_kedro_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = JSONDataset(filepath="memory://folder/x.json")
    dataset.save([1])
    assert dataset.load() == KedroJSONDataset(filepath="memory://folder/x.json").load() == [1]
    assert not list(tmp_path.iterdir())


def test_kedro_writes_down_how_they_were_made() -> None:
    entry = {"type": "mentallam.datasets.CSVDataset", "filepath": "/x.csv", "save_args": {"index": False}}
    catalog = DataCatalog.from_config({"x": entry})
    assert catalog["x"].exists() is False  # makes the dataset
    kept = catalog.to_config()[0]["x"]
    assert {key: value for key, value in kept.items() if value is not None} == entry


def test_kedro_viz_shows_them_as_it_shows_kedros_own(tmp_path: Path) -> None:
    for name, type_ in vars(datasets).items():
        if isinstance(type_, type) and issubclass(type_, AtomicFile) and type_ is not AtomicFile:
            kedros = next(base for base in type_.__mro__ if base.__module__.startswith("kedro_datasets"))
            assert hasattr(type_, "preview") == hasattr(kedros, "preview"), name
    figure = datasets.PlotlyJSONDataset(filepath=str(tmp_path / "figure.json"))
    figure.save(go.Figure(go.Scatter(y=[1])))
    assert figure.preview()["data"][0]["y"] == [1]
