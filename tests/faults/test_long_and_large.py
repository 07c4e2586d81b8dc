"""Corpora and surroundings at the edges: long posts, many criteria, few posts and folds, full folders, an odd clock."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from transformers import Trainer

from tests.faults.canary import CanaryProject
from tests.faults.corpora import a_walk, write_corpus
from tests.integration.workspace import Workspace

pytestmark = pytest.mark.slow

MEGABYTE = 1_000_000
LONG = {3: "so much to tell " * (MEGABYTE // 16), 4: "x" * MEGABYTE}


def pairs_run(workspace: Workspace, corpus: Path, *, folds: str = "5", **params: str) -> str:
    """Run the default pipeline on a corpus in a process of its own, and return what it printed."""
    workspace.folder.mkdir()
    settings = {"corpus_dir": str(corpus), "overrides": "experiment=tiny training.max_epochs=1", **params}
    options = [f"--params={name}={value}" for name, value in settings.items()]
    done = workspace.kedro(*options, env="pairs", MENTALLAM_CV_FOLDS=folds)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def results(workspace: Workspace) -> tuple[dict[str, Any], pd.DataFrame]:
    summary = json.loads((workspace.data / "08_reporting/cv_summary.json").read_text())
    return summary, pd.read_parquet(workspace.data / "07_model_output/oof_predictions.parquet")


def test_a_post_of_a_megabyte_is_cut_like_any_long_post(workspace: Workspace, tmp_path: Path) -> None:
    post: Callable[[int], str] = lambda number: LONG.get(number) or a_walk(number)  # noqa: E731
    corpus = write_corpus(tmp_path / "corpus", lambda p, c: (p + c) % 3 == 0, post=post)
    pairs_run(workspace, corpus)
    _, table = results(workspace)
    assert set(table["post_id"][table["truncated"]]) == {"p3", "p4"}
    assert table["post_tokens"].max() <= 512
    statistics = json.loads((workspace.data / "08_reporting/data_statistics.json").read_text())
    assert statistics["words_per_post"]["max"] == 4 * (MEGABYTE // 16)


def test_a_hundred_criteria_with_two_folds(workspace: Workspace, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", lambda p, c: (p + c) % 3 == 0, n_posts=12, n_criteria=100)
    pairs_run(workspace, corpus, folds="2")
    summary, table = results(workspace)
    assert len(table) == 1200
    assert (summary["n_folds"], len(summary["per_criterion"])) == (2, 100)


def test_two_folds_and_criteria_that_always_or_never_match(workspace: Workspace, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", lambda p, c: (True, False, p % 2 == 0)[c])
    log = pairs_run(workspace, corpus, folds="2")
    summary, _ = results(workspace)
    always, never, sometimes = summary["per_criterion"]
    assert (always["n_positive"], never["n_positive"], sometimes["n_positive"]) == (30, 0, 15)
    assert always["roc_auc"] is None and never["roc_auc"] is None and sometimes["roc_auc"] is not None
    assert summary["n_folds"] == 2
    assert "fewer groups than the 2 folds" in log and "c1 (0)" in log


def test_a_start_does_not_read_through_what_is_left_in_data(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = [workspace.data, workspace.data / "07_model_output" / "folds"]
    for folder in crowded:
        folder.mkdir(parents=True)
        for number in range(50_000):
            (folder / f"left_{number}.json").touch()
    listed: list[str] = []
    sys.addaudithook(lambda event, args: listed.append(str(args[0])) if event in ("os.scandir", "os.listdir") else None)
    workspace.run("data_processing")
    assert listed
    assert not {str(folder) for folder in crowded} & {path.rstrip("/") for path in listed}


def test_a_home_that_cannot_be_written(tmp_path: Path) -> None:
    """Root may write everywhere but in /proc."""
    place = CanaryProject(tmp_path / "Fälle und Läufe")
    place.root.mkdir()
    place.prepare()
    done = place.kedro("run", "--env", "test", HOME="/proc/nobody", KEDRO_LOGGING_CONFIG="conf/logging.yml")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (place.project / "data/test/08_reporting/report.md").is_file()
    assert "nobody" not in done.stdout + done.stderr


def test_a_clock_that_is_set_back_by_an_hour(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    late = [0]
    seconds, nanoseconds, training_step = time.time, time.time_ns, Trainer.training_step

    def set_back(self: Trainer, *args: Any, **options: Any) -> Any:
        late[0] = 3600
        return training_step(self, *args, **options)

    monkeypatch.setattr(time, "time", lambda: seconds() - late[0])
    monkeypatch.setattr(time, "time_ns", lambda: nanoseconds() - late[0] * 10**9)
    monkeypatch.setattr(Trainer, "training_step", set_back)
    workspace.folder.mkdir()
    workspace.run("__default__")
    [experiment] = [one for one in workspace.client().search_experiments() if one.name == "mentallam-tiny"]
    runs = workspace.client().search_runs([experiment.experiment_id])
    assert len(runs) == 6
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.info.end_time >= run.info.start_time, run.info.run_name
        assert all(run.data.metrics[name] > 0 for name in ("seconds", "pairs_per_second") if name in run.data.metrics)
    summary, _ = results(workspace)
    assert all(fold["seconds"] > 0 for fold in summary["folds"])
