import json

import pytest

from tests.integration.workspace import Workspace


def test_memory_is_planned_without_data_or_weights(empty: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    empty.run("memory_plan", overrides="training.effective_batch_pairs=18 training.tokens_per_pass=9999")
    plan = json.loads((empty.data / "08_reporting" / "memory_plan.json").read_text())
    assert (plan["model"], plan["pass"]["posts"], plan["pass"]["pairs"]) == ("tiny", 2, 18)
    assert {path.name for path in empty.data.iterdir()} == {"08_reporting", ".locks", "run.log"}
    printed = capfd.readouterr().out
    assert "activations" in printed
    assert "50 GB: fits" in printed
    [untracked] = [found for found in empty.client().search_experiments() if found.name == "mentallam-tiny"] or [None]
    assert untracked is None or not empty.client().search_runs([untracked.experiment_id])


def test_the_memory_of_each_of_several_ranks_is_planned(empty: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    empty.run(
        "memory_plan", overrides="training.effective_batch_pairs=36 training.tokens_per_pass=9999 training.ranks=3"
    )
    assert "One pass of each of 3 ranks: 2 posts, 18 pairs" in capfd.readouterr().out
