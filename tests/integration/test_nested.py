"""A cross-validation whose folds each search a configuration of their own."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mentallam import search as searching
from mentallam.classifier.checkpoint import read_facts
from mentallam.classifier.fold import CorpusTables
from mentallam.config import from_dict
from mentallam.errors import MentallamError
from mentallam.pipelines.cv_training import nodes
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

SEARCH = """
trials: 2
sampler: random
pruner: none
space:
  training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  adapter.use_dora: {choices: [true, false]}
"""
FOLD_0 = {"namespaces": ["fold_0"]}


@pytest.fixture
def given(tmp_path: Path) -> dict[str, str]:
    configs = tmp_path / "hydra_configs"
    shutil.copytree(PROJECT / "hydra_configs", configs)
    (configs / "sweep" / "mine.yaml").write_text(SEARCH, encoding="utf-8")
    return {"hydra_configs": str(configs), "nested": "mine", "overrides": "training.max_epochs=1"}


def test_a_fold_is_trained_with_what_its_search_has_found_without_its_held_out_posts(
    empty: Workspace, given: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    empty.run("cv_training", **given, selected={"to_nodes": ["open_cv_run"]})
    trained, fit_fold, search_in_fold = [], searching.fit_fold, nodes.search_in_fold

    def broken(*arguments: Any) -> Any:
        trained.append(arguments[0].training.learning_rate)
        if len(trained) == 2:
            raise OSError("the machine is gone")
        return fit_fold(*arguments)

    monkeypatch.setattr(searching, "fit_fold", broken)
    with pytest.raises(OSError, match="gone"):
        empty.run("cv_training", **given, selected=FOLD_0)

    found: list[dict[str, Any]] = []

    def poisoned(*arguments: Any) -> Any:
        """Search again with the labels of the held-out posts turned over."""
        *first, split, corpus, fold_run, _ = arguments
        found.append(search_in_fold(*arguments))
        pairs, held_out = corpus.pairs.copy(), corpus.pairs["post_id"].isin(split["held_out"])
        assert held_out.any()
        pairs.loc[held_out, "label"] = 1 - pairs.loc[held_out, "label"]
        other = CorpusTables(corpus.posts, corpus.criteria, pairs, corpus.groups)
        found.append(search_in_fold(*first, split, other, fold_run, tmp_path / "poisoned"))
        return found[0]

    monkeypatch.setattr(nodes, "search_in_fold", poisoned)
    empty.run("cv_training", **given, selected=FOLD_0)
    assert len(trained) == 2 + 1 + 2  # the finished trial was kept; and two of the poisoned search
    # The search that went on may draw another second point; the first, and what is trained at the same point, is equal.
    scores = [{json.dumps(each["values"]): each["score"] for each in one["trials"]} for one in found]
    shared = scores[0].keys() & scores[1].keys()
    assert shared
    assert all(scores[0][point] == scores[1][point] for point in shared)

    result = json.loads((empty.data / "07_model_output" / "folds" / "fold_0_result.json").read_text())
    best = found[0]["best"]
    assert result["search"] == {
        **{name: best[name] for name in ("values", "overrides", "score")},
        "trials": 2,
        "pruned": 0,
    }
    folder = empty.data / "06_models" / "fold_0"
    config = from_dict(read_facts(folder)["config"])
    assert config.training.learning_rate == best["values"]["training.learning_rate"]
    assert config.adapter.use_dora == best["values"]["adapter.use_dora"]

    empty.run("cv_training", **given, selected=FOLD_0)
    assert len(trained) == 5  # finished folds are kept
    with pytest.raises(MentallamError, match="nested was mine when the cross-validation was opened, and is null"):
        empty.run("cv_training", **{**given, "nested": None}, selected=FOLD_0)


@pytest.mark.slow
def test_a_killed_nested_cross_validation_goes_on_and_reports_its_optimism(
    empty: Workspace, given: dict[str, str]
) -> None:
    params = ",".join(f"{name}={value}" for name, value in {**given, "data_dir": empty.data}.items())
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--params", params]
    environment = {**empty.environment, "MENTALLAM_CV_FOLDS": "2"}
    run = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(empty.data.glob("06_models/fold_1_attempt/search/*/fold_1.json")):  # its first trial is scored
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.communicate()
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fold 0 is finished: its results are kept" in done.stdout
    summary = json.loads((empty.data / "08_reporting" / "cv_summary.json").read_text())
    gaps = [fold["search"]["score"] - fold["average_precision"] for fold in summary["folds"]]
    assert summary["search_optimism"]["mean"] == pytest.approx(sum(gaps) / 2)
    report = (empty.data / "08_reporting" / "report.md").read_text()
    assert all(fold["search"]["overrides"] in report for fold in summary["folds"])
    client = empty.client()
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    folds = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == parents[0].info.run_id]
    assert (len(parents), len(folds), len(runs)) == (1, 2, 1 + 2 + 2 * 2)
    assert {each.info.status for each in runs} == {"FINISHED"}
