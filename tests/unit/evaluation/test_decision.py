from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.config import DecisionConfig
from mentallam.evaluation.calibration import Calibration, fit_calibration
from mentallam.evaluation.decision import Decision, Thresholds, choose_thresholds, describe, fit_decision
from mentallam.evaluation.thresholds import ThresholdRule, best_threshold

PLAN = DecisionConfig()


@pytest.fixture
def dev() -> pd.DataFrame:
    """120 pairs; criterion c has one matched pair, d none."""
    random = np.random.default_rng(1)
    criterion = np.repeat(list("abcd"), 30)
    label = (random.random(120) < 0.3) & np.isin(criterion, ["a", "b"])
    label[60] = True
    shift = pd.Series(criterion).map({"a": -1.0, "b": 1.0, "c": 0.0, "d": 0.0}).to_numpy()
    logit = random.normal(size=120) + 2 * label + shift - 1
    return pd.DataFrame({"criterion_id": criterion, "label": label.astype(int), "logit": logit})


def test_the_plan_is_one_threshold_on_calibrated_probabilities(dev: pd.DataFrame) -> None:
    decision = fit_decision(dev, PLAN)
    assert decision.calibration == fit_calibration("platt", dev["label"], dev["logit"])
    probabilities = decision.calibration.probabilities(dev["logit"])
    assert decision.thresholds == Thresholds(best_threshold(dev["label"], probabilities).threshold)
    decided = decision.decide(dev)
    np.testing.assert_array_equal(decided["probability"], probabilities)
    np.testing.assert_array_equal(decided["prediction"], probabilities >= decision.thresholds.common)


@pytest.mark.parametrize("scope", ["global", "per_criterion"])
@pytest.mark.parametrize(("label", "word"), [(0, "unmatched"), (1, "matched")])
def test_nothing_is_fitted_on_pairs_of_one_label(
    dev: pd.DataFrame, scope: str, label: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    decision = fit_decision(dev.assign(label=label), replace(PLAN, scope=scope), "the dev pairs of fold 2")
    assert decision == Decision(Calibration(), Thresholds(0.5))
    [warning] = caplog.records
    assert warning.getMessage().startswith(f"the dev pairs of fold 2 are all {word} (120), so nothing is fitted")


def test_a_criterions_threshold_is_shrunk_by_its_number_of_matched_pairs(dev: pd.DataFrame) -> None:
    options = replace(PLAN, scope="per_criterion", prior_strength=5.0)
    probabilities = Calibration().probabilities(dev["logit"])
    chosen = choose_thresholds(dev["criterion_id"], dev["label"], probabilities, options)
    assert set(chosen.by_criterion) == {"a", "b", "c"}  # d has no matched pair, so it has the common one
    for criterion in "abc":
        rows = dev["criterion_id"] == criterion
        best = best_threshold(dev["label"][rows], probabilities[rows]).threshold
        weight = dev["label"][rows].sum() / (dev["label"][rows].sum() + 5)
        assert chosen.by_criterion[criterion] == pytest.approx(weight * best + (1 - weight) * chosen.common)
    assert chosen.of(["d", "a"]).tolist() == [chosen.common, chosen.by_criterion["a"]]


def test_a_strong_prior_gives_the_common_threshold_and_no_prior_the_criterions_best(dev: pd.DataFrame) -> None:
    probabilities = Calibration().probabilities(dev["logit"])
    weak, strong = (
        choose_thresholds(
            dev["criterion_id"],
            dev["label"],
            probabilities,
            replace(PLAN, scope="per_criterion", prior_strength=strength),
        )
        for strength in (0.0, 1e9)
    )
    assert list(strong.by_criterion.values()) == pytest.approx([strong.common] * 3)
    rows = dev["criterion_id"] == "b"
    assert weak.by_criterion["b"] == best_threshold(dev["label"][rows], probabilities[rows]).threshold


@given(st.floats(0.01, 20), st.floats(-5, 5), st.floats(0, 1), st.dictionaries(st.text(), st.floats(0, 1)))
def test_saved_and_read_back_it_is_the_same(
    slope: float, intercept: float, common: float, by_criterion: dict[str, float]
) -> None:
    decision = Decision(Calibration(slope, intercept), Thresholds(common, by_criterion))
    assert Decision.from_dict(decision.to_dict()) == decision


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            PLAN,
            "probabilities Platt-scaled; one threshold for all criteria, by F1 on the inner dev split, "
            "grid 0.00-1.00 step 0.01",
        ),
        (
            replace(PLAN, calibration="temperature", beta=0.5),
            "probabilities scaled by a temperature; one threshold for all criteria, by F0.5 on the inner dev split, "
            "grid 0.00-1.00 step 0.01",
        ),
        (
            DecisionConfig("none", "per_criterion", min_recall=0.9, smoothing=3, prior_strength=4.0),
            "probabilities not calibrated; a threshold per criterion, shrunk towards the common one as if that rested "
            "on 4 matched pairs, by precision at a recall of 0.9 or more on the inner dev split, grid 0.00-1.00 step "
            "0.01, smoothed over 3 steps on either side",
        ),
    ],
)
def test_the_description_names_what_was_chosen(options: DecisionConfig, words: str) -> None:
    assert describe(options) == words


def test_each_pair_is_decided_at_its_criterions_threshold() -> None:
    decision = Decision(Calibration(2.0, 1.0), Thresholds(0.5, {"b": 0.9}))
    pairs = pd.DataFrame({"criterion_id": ["a", "b", "b"], "logit": [0.0, 0.0, 3.0], "post_id": ["s", "s", "t"]})
    decided = decision.decide(pairs)
    assert list(decided) == ["criterion_id", "logit", "post_id", "probability", "threshold", "prediction"]
    assert decided["probability"].tolist() == pytest.approx(1 / (1 + np.exp([-1, -1, -7])))
    assert decided["threshold"].tolist() == [0.5, 0.9, 0.9]
    assert decided["prediction"].tolist() == [1, 0, 1]


def test_thresholds_are_numbers_even_where_a_file_held_integers() -> None:
    assert Thresholds(0, {"b": 1}).of(["a", "b"]).dtype == np.float64


def test_thresholds_per_criterion_are_fitted_on_the_calibrated_probabilities_of_the_criterion(
    dev: pd.DataFrame,
) -> None:
    options = replace(PLAN, scope="per_criterion", prior_strength=0.0)
    decision = fit_decision(dev, options)
    for criterion in "abc":
        rows = dev[dev["criterion_id"] == criterion]
        probabilities = decision.calibration.probabilities(rows["logit"])
        assert decision.thresholds.by_criterion[criterion] == best_threshold(rows["label"], probabilities).threshold


@pytest.mark.parametrize("rule", [ThresholdRule(beta=3.0), ThresholdRule(min_recall=1.0), ThresholdRule(smoothing=9)])
def test_the_rule_of_the_options_chooses_every_threshold(dev: pd.DataFrame, rule: ThresholdRule) -> None:
    probabilities = Calibration().probabilities(dev["logit"])
    options = replace(
        PLAN,
        scope="per_criterion",
        prior_strength=0.0,
        beta=rule.beta,
        min_recall=rule.min_recall,
        smoothing=rule.smoothing,
    )
    chosen = choose_thresholds(dev["criterion_id"], dev["label"], probabilities, options)
    plan = choose_thresholds(dev["criterion_id"], dev["label"], probabilities, replace(PLAN, scope="per_criterion"))
    assert chosen.common == best_threshold(dev["label"], probabilities, rule).threshold != plan.common
    rows = dev["criterion_id"] == "a"
    assert chosen.by_criterion["a"] == best_threshold(dev["label"][rows], probabilities[rows], rule).threshold
    assert chosen.by_criterion["a"] != best_threshold(dev["label"][rows], probabilities[rows]).threshold
