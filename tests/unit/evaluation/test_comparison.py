from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam.errors import MentallamError
from mentallam.evaluation.comparison import ReportedRun, compare_runs
from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.thresholds import predict_labels

OPTIONS = UncertaintyOptions(resamples=200, confidence=0.9, seed=1)


@pytest.fixture
def first(oof: pd.DataFrame, data_statistics: dict[str, Any]) -> ReportedRun:
    return ReportedRun("first-run", oof, data_statistics, "tiny")


@pytest.fixture
def second(oof: pd.DataFrame, data_statistics: dict[str, Any]) -> ReportedRun:
    """Return a run with random scores, its rows in another order."""
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


def test_other_data_are_refused(first: ReportedRun, second: ReportedRun) -> None:
    other = ReportedRun("other", second.oof, {**second.data_statistics, "data_hash": "cd" * 32}, "tiny")
    with pytest.raises(MentallamError, match=r"have different data \(data hashes abababababab and cdcdcdcdcdcd\)"):
        compare_runs(first, other, OPTIONS)


def test_a_run_compared_with_itself_is_refused(first: ReportedRun) -> None:
    with pytest.raises(MentallamError, match="first and second are the same run, first-run; name two different runs"):
        compare_runs(first, first, OPTIONS)
