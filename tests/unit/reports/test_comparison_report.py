from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam.evaluation.comparison import ReportedRun, compare_runs
from mentallam.evaluation.metrics import METRICS_BY_NAME
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.thresholds import predict_labels
from mentallam.reports.comparison_report import render_comparison
from tests.unit.seen import tables

OPTIONS = UncertaintyOptions(resamples=200, confidence=0.9, seed=1)


@pytest.fixture
def compared(oof: pd.DataFrame, data_statistics: dict[str, Any], criteria: pd.DataFrame) -> dict[str, Any]:
    """Compare a run with one of random scores, its rows in another order."""
    probability = np.random.default_rng(5).permutation(oof["probability"])
    worse = oof.assign(probability=probability, prediction=predict_labels(probability, oof["threshold"]))
    first = ReportedRun("first-run", oof, data_statistics, criteria, "tiny")
    second = ReportedRun("second-run", worse.sample(frac=1, random_state=1), data_statistics, criteria, "smollm2")
    return compare_runs(first, second, OPTIONS)


def test_the_page_shows_both_runs_and_every_criterion(compared: dict[str, Any]) -> None:
    page = render_comparison(compared)
    for words in ("run `first-run`, tiny", "run `second-run`, smollm2", "SYNTHETIC DATA", "90 % intervals"):
        assert words in page
    row = compared["difference"]["f1"]
    [line] = [line for line in page.splitlines() if line.startswith("| F1 |")]
    assert f"| {row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | {row['p_value']:.3f} |" in line
    for criterion in compared["per_criterion"]:
        assert f"| {criterion['criterion_id']} | {criterion['n_positive']} | {criterion['estimate']:.3f}" in page


def test_every_metric_has_the_label_of_the_table(compared: dict[str, Any]) -> None:
    labels = [row[0].removesuffix(" (less is better)") for row in tables(render_comparison(compared))["metric"][1:]]
    assert labels == [METRICS_BY_NAME[name].label for name in compared["difference"]]


def test_real_data_are_not_called_synthetic(compared: dict[str, Any]) -> None:
    compared["synthetic"] = False
    assert "SYNTHETIC" not in render_comparison(compared)
