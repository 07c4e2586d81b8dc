"""A search that is interrupted goes on, and ends as if nothing had happened."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mentallam import search as searching
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

SEARCH = """
trials: 3
folds: 2
sampler: random
pruner: none
space:
  training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  adapter.use_dora: {choices: [true, false]}
"""


def test_an_interrupted_search_goes_on_and_a_finished_one_is_kept(
    empty: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = tmp_path / "hydra_configs"
    shutil.copytree(PROJECT / "hydra_configs", configs)
    (configs / "sweep" / "mine.yaml").write_text(SEARCH, encoding="utf-8")
    given = {"hydra_configs": str(configs), "sweep": "mine", "overrides": "training.max_epochs=1"}
    empty.run("data_processing")
    trained: list[int] = []
    fit_fold = searching.fit_fold

    def broken(*arguments: Any) -> Any:
        trained.append(arguments[2]["fold"])
        if len(trained) == 4:  # the second fold of the second trial
            raise OSError("the machine is gone")
        return fit_fold(*arguments)

    monkeypatch.setattr(searching, "fit_fold", broken)
    with pytest.raises(OSError, match="gone"):
        empty.run("sweep", **given)
    empty.run("sweep", **given)
    assert trained == [0, 1, 0, 1, 1, 0, 1]  # the finished fold of the second trial was kept
    empty.run("sweep", **given)
    assert len(trained) == 7

    found = json.loads((empty.data / "08_reporting" / "sweep" / "sweep.json").read_text())
    assert len(found["trials"]) == 3
    assert found["best"]["score"] == max(trial["score"] for trial in found["trials"])
    runs = empty.client().search_runs([each.experiment_id for each in empty.client().search_experiments()])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == 1 + 3
    assert len(children) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    scores = sorted(run.data.metrics["score"] for run in children)
    assert scores == pytest.approx(sorted(trial["score"] for trial in found["trials"]))
