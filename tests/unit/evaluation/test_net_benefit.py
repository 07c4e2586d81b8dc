import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.errors import MentallamError
from mentallam.evaluation.net_benefit import THRESHOLDS, decision_curve, useful_thresholds
from mentallam.evaluation.resampling import UncertaintyOptions

OPTIONS = UncertaintyOptions(resamples=100, confidence=0.9, seed=0)


def by_hand(labels: np.ndarray, marked: np.ndarray, threshold: float) -> float:
    """Count as Vickers and Elkin define it."""
    hits, alarms = (labels & marked).sum(), (~labels & marked).sum()
    return float(hits / len(labels) - alarms / len(labels) * threshold / (1 - threshold))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=4, max_size=30))
def test_the_net_benefit_is_vickers_and_elkins(pairs: list[tuple[bool, float]]) -> None:
    labels, probabilities = (np.array(column) for column in zip(*pairs, strict=True))
    group = [str(number % 4) for number in range(len(pairs))]
    curve = decision_curve(pd.DataFrame({"group": group, "label": labels, "probability": probabilities}), OPTIONS)
    assert [row["threshold"] for row in curve] == THRESHOLDS.tolist()
    for row in curve:
        threshold = row["threshold"]
        model, read_all = (by_hand(labels, marked, threshold) for marked in (probabilities >= threshold, labels | True))
        assert row["model"]["estimate"] == pytest.approx(model, abs=1e-12)
        assert row["read_all"]["estimate"] == pytest.approx(read_all, abs=1e-12)
        assert row["gain"]["estimate"] == pytest.approx(model - read_all, abs=1e-12)


def test_at_the_base_rate_reading_all_is_worth_nothing(oof: pd.DataFrame) -> None:
    oof["label"] = (np.arange(len(oof)) % 10 == 0).astype(int)
    row = decision_curve(oof, OPTIONS)[9]
    assert row["threshold"] == 0.1
    assert row["read_all"]["estimate"] == pytest.approx(0, abs=1e-12)


def test_the_perfect_model_finds_every_match_at_every_threshold(oof: pd.DataFrame) -> None:
    curve = decision_curve(oof.assign(probability=oof["label"].astype(float)), OPTIONS)
    assert [row["model"]["estimate"] for row in curve] == pytest.approx([oof["label"].mean()] * len(curve))
    assert useful_thresholds(curve) == THRESHOLDS.tolist()


def test_a_model_that_knows_nothing_is_useful_nowhere(oof: pd.DataFrame) -> None:
    """Marking all pairs is as good as reading all; marking none as reading none."""
    for constant in (0.0, 1.0):
        assert useful_thresholds(decision_curve(oof.assign(probability=constant), OPTIONS)) == []


def test_intervals_hold_their_estimates_and_draw_whole_clusters(oof: pd.DataFrame) -> None:
    curve = decision_curve(oof, OPTIONS)
    for row in curve:
        for name in ("model", "read_all", "gain"):
            assert row[name]["low"] <= row[name]["estimate"] <= row[name]["high"]
    pairs_alone = decision_curve(oof.assign(cluster=np.arange(len(oof)).astype(str)), OPTIONS)
    assert pairs_alone[9]["model"]["low"] != curve[9]["model"]["low"]


def test_one_cluster_is_too_few(oof: pd.DataFrame) -> None:
    with pytest.raises(MentallamError, match="two clusters"):
        decision_curve(oof.assign(cluster="one"), OPTIONS)
