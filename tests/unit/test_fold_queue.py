"""The queue of a study's folds, without its sessions and its engine: which folder is its own, and who may use it."""

from pathlib import Path
from typing import Any

import pytest
from kedro.framework.startup import bootstrap_project

from mentallam import fold_queue
from mentallam.cluster_options import ClusterOptions
from mentallam.data_lock import DataLock
from mentallam.errors import MentallamError
from mentallam.fold_queue import QueuedRun, train_folds
from tests.samples import PROJECT


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace sessions and engine by notes of what happens to them; folds go to SLURM."""
    bootstrap_project(PROJECT)
    noted: list[str] = []

    def train(units: list[Any], options: ClusterOptions, ranks: int, place: Path) -> None:
        noted.append(f"train {units} with {ranks} ranks in {place.name}")

    monkeypatch.setattr(fold_queue, "_check", lambda run, folder: ClusterOptions(backend="slurm"))
    monkeypatch.setattr(fold_queue, "_open", lambda run, *others: ([run.title], noted.append(f"open {run.title}") or 2))
    monkeypatch.setattr(fold_queue, "_train", train)
    monkeypatch.setattr(fold_queue, "end_jobs", lambda place: noted.append(f"end the jobs of {place.name}"))
    return noted


def runs(folder: Path) -> list[QueuedRun]:
    seeds = ("seed_1", "seed_2")
    return [QueuedRun(seed, None, {"data_dir": str(folder / seed), "study": "seeds-1-2"}) for seed in seeds]


def test_jobs_that_a_killed_queue_has_left_end_before_a_run_is_opened(happened: list[str], tmp_path: Path) -> None:
    """They hold folds; and a run in the folder above, or of another study, has jobs of its own."""
    train_folds(runs(tmp_path), tmp_path)
    assert happened == [
        *("end the jobs of seeds-1-2", "open seed_1", "open seed_2"),
        "train ['seed_1', 'seed_2'] with 2 ranks in seeds-1-2",
    ]


def test_a_second_queue_of_a_study_is_refused_and_ends_no_job(
    happened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mentallam.data_lock._START_S", 0.0)
    first = DataLock(tmp_path / "seeds-1-2")
    first.take("queue")
    with pytest.raises(MentallamError, match="another run works in .*seeds-1-2"):
        train_folds(runs(tmp_path), tmp_path)
    assert not happened
    first.release()
    train_folds(runs(tmp_path), tmp_path)
    assert len(happened) == 4
