from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.config import DecisionConfig
from mentallam.evaluation.aggregate import protocol_metrics
from mentallam.evaluation.decision import choose_thresholds
from mentallam.evaluation.metrics import held_out_metrics
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.thresholds import best_threshold
from tests.unit.predictions import DECISION, Once

RULES = st.builds(
    DecisionConfig,
    scope=st.sampled_from(["global", "per_criterion"]),
    beta=st.sampled_from([0.5, 1.0, 2.0, 5.0]),
    min_recall=st.sampled_from([None, 0.5, 0.9]),
    smoothing=st.integers(0, 3),
)


def test_each_protocol_chooses_its_threshold_where_it_says(oof: pd.DataFrame) -> None:
    oof = oof.sample(frac=1, random_state=0)
    predictions = protocol_predictions(oof, DECISION)
    assert list(predictions) == ["dev_split", "cross_fitted", "same_fold"]
    assert predictions["dev_split"].tolist() == oof["prediction"].tolist()
    for fold in range(5):
        held_out = (oof["fold"] == fold).to_numpy()
        for protocol, rows in {"cross_fitted": ~held_out, "same_fold": held_out}.items():
            threshold = best_threshold(oof.loc[rows, "label"], oof.loc[rows, "probability"]).threshold
            expected = oof.loc[held_out, "probability"] >= threshold
            assert predictions[protocol][held_out].tolist() == expected.tolist()


def test_a_folds_labels_change_its_predictions_under_same_fold_only(oof: pd.DataFrame) -> None:
    before = protocol_predictions(oof, DECISION)
    fold = (oof["fold"] == 2).to_numpy()
    oof.loc[fold, "label"] = 1 - oof.loc[fold, "label"]
    after = protocol_predictions(oof, DECISION)
    for protocol in ("dev_split", "cross_fitted"):
        assert np.array_equal(before[protocol][fold], after[protocol][fold])
    assert not np.array_equal(before["same_fold"][fold], after["same_fold"][fold])


def decided_on_itself(pairs: pd.DataFrame, rule: DecisionConfig) -> pd.DataFrame:
    """Return the pairs of a fold, predicted at the thresholds that they themselves choose."""
    thresholds = choose_thresholds(pairs["criterion_id"], pairs["label"], pairs["probability"], rule)
    return pairs.assign(prediction=thresholds.predict(pairs))


@pytest.fixture(scope="module")
def few_pairs() -> pd.DataFrame:
    """Return two folds with three criteria, which are enough for a rule to differ from another."""
    oof = Once().oof
    return oof[(oof["fold"] < 2) & oof["criterion_id"].isin(["A.1", "A.2", "A.3"])]


@settings(max_examples=12, deadline=None)
@given(rule=RULES)
def test_where_dev_and_held_out_pairs_are_the_same_there_is_no_optimism_whatever_the_rule(
    few_pairs: pd.DataFrame, rule: DecisionConfig
) -> None:
    """All that the protocols may differ in is the pairs that they choose on, never the rule."""
    folds = [decided_on_itself(pairs, rule) for _, pairs in few_pairs.groupby("fold")]
    found = protocol_predictions(pd.concat(folds), rule)
    assert found["same_fold"].tolist() == found["dev_split"].tolist()
    for pairs in folds:
        metrics = held_out_metrics(pairs, rule)
        assert metrics["f1_same_fold"] == metrics["f1"]


@pytest.mark.parametrize("change", [{"beta": 3.0}, {"min_recall": 0.95}, {"scope": "per_criterion"}])
def test_every_part_of_the_rule_counts(oof: pd.DataFrame, change: dict[str, object]) -> None:
    plan, other = (protocol_predictions(oof, rule) for rule in (DECISION, replace(DECISION, **change)))
    for protocol in ("cross_fitted", "same_fold"):
        assert plan[protocol].tolist() != other[protocol].tolist()


def test_a_rule_that_wants_recall_reads_more_in_all_three(oof: pd.DataFrame) -> None:
    rule = replace(DECISION, min_recall=0.9)
    table = pd.concat([decided_on_itself(pairs, rule) for _, pairs in oof.groupby("fold")])
    recall = {name: found["pooled"]["recall"] for name, found in protocol_metrics(table, rule).items()}
    assert min(recall.values()) > 0.85
