import json
import runpy
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mentallam.evaluation import few_positives as few
from mentallam.evaluation.resampling import UncertaintyOptions
from tests.samples import PROJECT

RESULTS = json.loads((PROJECT / "studies/results/coverage.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return runpy.run_path(str(PROJECT / "studies/coverage.py"))


def test_the_coverages_are_those_that_the_study_saved() -> None:
    of_redsm5 = [row for row in RESULTS["macro_f1"] if row["rates"] == "ReDSM5"]
    assert tuple((row["posts"], round(row["macro_f1"], 2)) for row in of_redsm5) == few.MACRO_F1_COVERAGE
    assert tuple((int(band), round(value, 2)) for band, value in RESULTS["criterion_f1"].items()) == few.BANDS


def test_criteria_below_the_limit_are_listed() -> None:
    rows = [{"criterion_id": f"c{n}", "n_positive": n} for n in (0, 19, 20, 300)]
    assert few.few_positives(rows) == ["c0", "c19"]


def test_the_coverage_is_that_of_the_band() -> None:
    assert few.simulated_coverage(0) is None
    for (fewest, coverage), (next_fewest, _) in zip(few.BANDS, few.BANDS[1:], strict=False):
        assert few.simulated_coverage(fewest) == few.simulated_coverage(next_fewest - 1) == coverage
    assert few.simulated_coverage(10**6) == few.BANDS[-1][1]


def test_intervals_cover_less_often_with_few_positive_pairs(study: dict[str, Any]) -> None:
    """The short form of `studies/coverage.py`: the standard error is 0.023 for 60 posts, and 0.035 for 1484."""
    options = UncertaintyOptions(resamples=200, confidence=0.95, seed=0)
    few_posts = study["run_studies"](60, study["RATES"]["ReDSM5"], 200, options)
    many_posts = study["run_studies"](1484, study["RATES"]["ReDSM5"], 40, options)
    assert few_posts["macro_f1"] < 0.92 <= many_posts["macro_f1"] + 0.035
    coverage = study["pooled"]([few_posts])
    assert coverage[1] < 0.65 < 0.8 < coverage[3] < coverage[10] + 0.1


def test_the_true_f1_is_that_of_a_large_sample(study: dict[str, Any]) -> None:
    rates = study["RATES"]["ReDSM5"][[0, 4]]
    labels, predictions = study["simulated"](np.random.default_rng(0), 200_000, rates)
    assert f1_score(labels, predictions, average=None) == pytest.approx(study["true_f1"](rates), abs=0.01)
