from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.comparison import ReportedRun, compare_runs
from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.thresholds import predict_labels
from mentallam.reports.comparison_report import render_comparison

OPTIONS = UncertaintyOptions(resamples=200, confidence=0.9, seed=1)


@pytest.fixture
def first(oof: pd.DataFrame, data_statistics: dict[str, Any]) -> ReportedRun:
    return ReportedRun("first-run", oof, data_statistics, "tiny")


@pytest.fixture
def second(oof: pd.DataFrame, data_statistics: dict[str, Any]) -> ReportedRun:
    """A run that knows less, its rows in another order."""
    probability = np.random.default_rng(5).permutation(oof["probability"])
    worse = oof.assign(probability=probability, prediction=predict_labels(probability, oof["threshold"]))
    return ReportedRun("second-run", worse.sample(frac=1, random_state=1), data_statistics, "smollm2")


def test_differences_are_first_minus_second(first: ReportedRun, second: ReportedRun) -> None:
    compared = compare_runs(first, second, OPTIONS)
    f1 = [
        pair_metrics(run.oof["label"], run.oof["probability"], run.oof["prediction"])["f1"] for run in (first, second)
    ]
    assert [compared[name]["f1"]["estimate"] for name in ("first", "second")] == pytest.approx(f1)
    assert compared["difference"]["f1"]["estimate"] == pytest.approx(f1[0] - f1[1])
    assert compared["difference"]["f1"]["low"] > 0
    assert compared["runs"]["second"] == {"cv_run_id": "second-run", "model": "smollm2"}


def test_the_page_shows_both_runs_and_every_criterion(first: ReportedRun, second: ReportedRun) -> None:
    compared = compare_runs(first, second, OPTIONS)
    page = render_comparison(compared)
    for words in ("run `first-run`, tiny", "run `second-run`, smollm2", "SYNTHETIC DATA", "90.0 % intervals"):
        assert words in page
    row = compared["difference"]["f1"]
    [line] = [line for line in page.splitlines() if line.startswith("| f1 |")]
    assert f"| {row['estimate']:.3f} ({row['low']:.3f} to {row['high']:.3f}) | {row['p_value']:.3f} |" in line
    for own in compared["per_criterion"]:
        assert f"| {own['criterion_id']} | {own['n_positive']} | {own['estimate']:.3f}" in page


def test_real_data_are_not_called_synthetic(first: ReportedRun, second: ReportedRun) -> None:
    first.data_statistics["synthetic"] = False
    assert "SYNTHETIC" not in render_comparison(compare_runs(first, second, OPTIONS))


def test_other_data_are_refused(first: ReportedRun, second: ReportedRun) -> None:
    other = ReportedRun("other", second.oof, {**second.data_statistics, "data_hash": "cd" * 32}, "tiny")
    with pytest.raises(MentallamError, match=r"with other data \(data hashes abababababab and cdcdcdcdcdcd\)"):
        compare_runs(first, other, OPTIONS)


def test_a_run_is_not_compared_with_itself(first: ReportedRun) -> None:
    with pytest.raises(MentallamError, match="first and second are the same run, first-run; name two"):
        compare_runs(first, first, OPTIONS)
