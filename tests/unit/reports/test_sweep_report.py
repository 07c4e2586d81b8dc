from typing import Any

import pytest

from mentallam.reports.report_page import render_report_page
from mentallam.reports.sweep_report import render_sweep, sweep_figures


@pytest.fixture
def sweep() -> dict[str, Any]:
    trials = [
        {"number": 0, "values": {"training.learning_rate": 0.001, "adapter.use_dora": True}, "score": 0.25},
        {"number": 1, "values": {"training.learning_rate": 0.002, "adapter.use_dora": False}, "score": 0.75},
        {"number": 2, "values": {"training.learning_rate": 0.004, "adapter.use_dora": True}, "score": 0.5},
    ]
    trials = [{**trial, "folds": 2, "pruned": trial["number"] == 2, "seconds": 90.0} for trial in trials]
    return {
        "run_id": "feed",
        "sweep": "mine",
        "options": {
            "space": {"training.learning_rate": {}, "adapter.use_dora": {}},
            **{"sampler": "tpe", "pruner": "median", "prune_after": "epoch", "seed": 42},
        },
        "corpus": "sample | one",
        "data_hash": "ab",
        "synthetic": True,
        "folds_seed": 42,
        "trials": trials,
        "best": {**trials[1], "overrides": "training.learning_rate=0.002 adapter.use_dora=false"},
        "importances": {"training.learning_rate": 0.9, "adapter.use_dora": 0.1},
    }


def test_the_best_comes_first_with_the_command_that_confirms_it(sweep: dict[str, Any]) -> None:
    report = render_sweep(sweep)
    assert "Of 3 configurations the best has an average precision of 0.750" in report
    assert "overrides=training.learning_rate=0.002 adapter.use_dora=false,folds.seed=1042,confirms=feed," in report
    rows = [line for line in report.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert [row.split(" | ")[0] for row in rows] == ["| 1", "| 0", "| 2"]  # what was pruned, last
    assert "pruned" in rows[2]
    assert "SYNTHETIC DATA" in report
    assert "SYNTHETIC" not in render_sweep({**sweep, "synthetic": False})


def test_figures_show_every_trial_and_name_choices(sweep: dict[str, Any]) -> None:
    figures = sweep_figures(sweep)
    lines = figures["trials"].data
    assert [list(line.y) for line in lines] == [[0, 1, 0], [1, 1, 0.5], [0.5, 0, 1]]  # by score, from the lowest up
    assert [line.name for line in lines] == ["other trials", "other trials", "the best"]
    assert "adapter.use_dora<br>False to True" in figures["trials"].layout.xaxis.ticktext
    assert {line.type for line in lines} == {"scatter"}  # drawn without WebGL
    assert list(figures["importances"].data[0].x) == [0.1, 0.9]
    assert set(sweep_figures({**sweep, "importances": {}})) == {"trials"}


def test_the_page_draws_each_figure_in_its_place(sweep: dict[str, Any]) -> None:
    page = render_report_page(render_sweep(sweep), sweep_figures(sweep), synthetic=True)
    assert all(f'id="figure-{name}"' in page for name in ("trials", "importances"))
    assert "sweep.html" not in page
    assert len(render_report_page(render_sweep({**sweep, "importances": {}}), sweep_figures(sweep), True)) > 10_000
