from dataclasses import replace
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
def first(oof: pd.DataFrame, data_statistics: dict[str, Any], criteria: pd.DataFrame) -> ReportedRun:
    return ReportedRun("first-run", oof, data_statistics, criteria, "tiny")


@pytest.fixture
def second(oof: pd.DataFrame, data_statistics: dict[str, Any], criteria: pd.DataFrame) -> ReportedRun:
    """Return a run with random scores, its rows in another order."""
    probability = np.random.default_rng(5).permutation(oof["probability"])
    worse = oof.assign(probability=probability, prediction=predict_labels(probability, oof["threshold"]))
    return ReportedRun("second-run", worse.sample(frac=1, random_state=1), data_statistics, criteria, "smollm2")


def test_differences_are_first_minus_second(first: ReportedRun, second: ReportedRun) -> None:
    compared = compare_runs(first, second, OPTIONS)
    f1 = [
        pair_metrics(run.oof["label"], run.oof["probability"], run.oof["prediction"])["f1"] for run in (first, second)
    ]
    assert [compared[name]["f1"]["estimate"] for name in ("first", "second")] == pytest.approx(f1)
    assert compared["difference"]["f1"]["estimate"] == pytest.approx(f1[0] - f1[1])
    assert compared["difference"]["f1"]["low"] > 0
    assert compared["runs"]["second"] == {"cv_run_id": "second-run", "model": "smollm2"}


def other_data(run: ReportedRun, **facts: Any) -> ReportedRun:
    """Return the run with other facts about its data, and so another data hash."""
    return replace(run, data_statistics={**run.data_statistics, "data_hash": "cd" * 32, **facts})


def test_other_wordings_and_masking_are_compared_and_named(first: ReportedRun, second: ReportedRun) -> None:
    options = {"cleaning": {"mask": False}, "folds": {"group_by": "post_id"}}
    frames = {"posts": "1", "criteria": "2", "pairs": "3"}
    first = replace(first, data_statistics={**first.data_statistics, "options": options, "frames": frames})
    masked = {"options": {**options, "cleaning": {"mask": True}}, "frames": {**frames, "posts": "4"}}
    reworded = replace(second, criteria=second.criteria.replace("wording of A.3", "another wording"))

    compared = compare_runs(first, other_data(reworded, **masked), OPTIONS)
    assert compared["differs"] == ["the wording of A.3", "cleaning.mask (False, True)"]
    assert compared["data_hash"] == {"first": "ab" * 32, "second": "cd" * 32}
    assert compared["difference"] == compare_runs(first, second, OPTIONS)["difference"]
    page = render_comparison(compared)
    assert all(f"- **the runs differ** in {found}\n" in page for found in compared["differs"])
    assert "cdcdcd" in page

    edited = other_data(second, options=options, frames={**frames, "posts": "5", "pairs": "6"}, corpus="twin")
    assert compare_runs(first, edited, OPTIONS)["differs"] == [
        "the posts' texts or authors",
        "the annotations beside the labels",
        "the name of the corpus (the sample, twin)",
    ]
    unnamed = other_data(second)
    assert compare_runs(first, unnamed, OPTIONS)["differs"] == ["something that older versions do not record"]
    assert compare_runs(first, second, OPTIONS)["differs"] == []


@pytest.mark.parametrize("column", ["label", "group", "post_id"])
def test_other_posts_labels_or_groups_are_refused(first: ReportedRun, second: ReportedRun, column: str) -> None:
    table = second.oof.copy()
    row = table.index[table["label"] == 0][0]
    table.loc[row, column] = 1 if column == "label" else "other"
    with pytest.raises(MentallamError, match=r"the table of the second cannot be compared with the first: the pair of"):
        compare_runs(first, other_data(replace(second, oof=table)), OPTIONS)


def test_a_run_compared_with_itself_is_refused(first: ReportedRun) -> None:
    with pytest.raises(MentallamError, match="first and second are the same run, first-run; name two different runs"):
        compare_runs(first, first, OPTIONS)
