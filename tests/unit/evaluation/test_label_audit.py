import io

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from mentallam.evaluation.label_audit import AUDIT_COLUMNS, audit_labels

RATES = {"A.1": 0.1, "A.2": 0.4, "A.9": 0.04}


@pytest.fixture
def truth() -> pd.DataFrame:
    """Return predictions that separate well, on three criteria of different rates; all labels are right."""
    rng = np.random.default_rng(7)
    frames = []
    for criterion_id, rate in RATES.items():
        label = (np.arange(400) < 400 * rate).astype(int)
        logit = 6 * (label - 0.5) + rng.normal(scale=0.5, size=400)
        frame = pd.DataFrame({"criterion_id": criterion_id, "label": label, "probability": expit(logit)})
        frame["post_id"] = [f"s_{number}_0" for number in range(400)]
        frame["explicit_negative"] = False
        frames.append(frame.assign(fold=np.arange(400) % 5))
    return pd.concat(frames).sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def planted(truth: pd.DataFrame) -> pd.DataFrame:
    """Two positive and four negative pairs of each criterion, whose labels a test reverses."""
    parts = [
        rows[rows["label"] == label].sample(count, random_state=1)
        for _, rows in truth.groupby("criterion_id")
        for label, count in ((1, 2), (0, 4))
    ]
    return pd.concat(parts)


def test_planted_label_errors_come_first(truth: pd.DataFrame, planted: pd.DataFrame) -> None:
    wrong = truth.copy()
    wrong.loc[planted.index, "label"] = 1 - planted["label"]
    found = audit_labels(wrong)
    assert list(found.columns) == AUDIT_COLUMNS
    keys = ["post_id", "criterion_id"]
    # Confident learning lists only the errors it is sure of: hardly any right label, and not every wrong one.
    n_right = len(found) - len(found.merge(planted, on=keys))
    assert n_right <= 1
    assert len(found.head(10).merge(planted, on=keys)) == 10
    assert found.groupby("criterion_id").size().min() >= 3
    assert found["quality"].is_monotonic_increasing and found["quality"].between(0, 1).all()
    for row in found.head(10).itertuples():
        assert row.looks == ("unmatched" if row.label == 1 else "matched")
        assert (row.probability > 0.5) == (row.looks == "matched")
    assert found["looks"].head(10).nunique() == 2


def test_a_negative_that_an_annotator_judged_speaks_against_the_model(
    truth: pd.DataFrame, planted: pd.DataFrame
) -> None:
    wrong = truth.copy()
    wrong.loc[planted.index, "label"] = 1 - planted["label"]
    judged = planted.index[planted["label"] == 1]
    wrong.loc[judged, "explicit_negative"] = True
    found = audit_labels(wrong).merge(wrong[["post_id", "criterion_id", "explicit_negative"]])
    assert found["explicit_negative"].any() and not found["explicit_negative"].all()
    assert (found["speaks_against"] == np.where(found["explicit_negative"], "model", "label")).all()


def test_right_labels_are_not_suspected(truth: pd.DataFrame) -> None:
    assert len(audit_labels(truth)) <= 2


def test_each_criterion_is_audited_separately(truth: pd.DataFrame, planted: pd.DataFrame) -> None:
    """Another criterion's labels and probabilities change nothing."""
    wrong = truth.copy()
    wrong.loc[planted.index, "label"] = 1 - planted["label"]
    alone = audit_labels(wrong[wrong["criterion_id"] == "A.9"])
    among = audit_labels(wrong)
    among = among[among["criterion_id"] == "A.9"].reset_index(drop=True)
    assert len(alone) >= 3
    pd.testing.assert_frame_equal(alone, among)


def test_the_order_of_the_rows_does_not_matter(truth: pd.DataFrame, planted: pd.DataFrame) -> None:
    truth.loc[planted.index, "label"] = 1 - planted["label"]
    pd.testing.assert_frame_equal(audit_labels(truth), audit_labels(truth.sample(frac=1, random_state=5)))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("others", [0, 1])
def test_a_criterion_that_lacks_pairs_of_a_label_is_left_out_and_named(
    truth: pd.DataFrame, label: int, others: int, caplog: pytest.LogCaptureFixture
) -> None:
    rows = truth.index[truth["criterion_id"] == "A.2"]
    truth.loc[rows, "label"] = label
    truth.loc[rows[:others], "label"] = 1 - label
    assert "A.2" not in set(audit_labels(truth)["criterion_id"])
    assert "labels of A.2 can't be audited" in caplog.text


def test_nothing_to_audit_is_an_empty_list_with_a_header(truth: pd.DataFrame) -> None:
    found = audit_labels(truth.assign(label=0))
    assert len(found) == 0
    assert list(pd.read_csv(io.StringIO(found.to_csv(index=False))).columns) == AUDIT_COLUMNS


def test_two_pairs_of_a_label_are_enough(truth: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    rows = truth[truth["criterion_id"] == "A.9"]
    positive = rows.index[rows["label"] == 1][:2]
    assert len(audit_labels(rows.assign(label=rows.index.isin(positive).astype(int)))) < len(rows)
    assert not caplog.records


def test_a_label_that_the_model_is_seldom_sure_of_is_not_the_most_suspicious() -> None:
    """The model gives this criterion's positive labels 0.45 on average and its negative labels 0.97.

    The probabilities 0.02 of a positive and 0.3 of a negative label are doubtful alike, but only one of them is far
    from the average of its label.
    """
    matched, unmatched = [0.45] * 18 + [0.05, 0.02], [0.03] * 176 + [0.5, 0.6, 0.62, 0.7]
    oof = pd.DataFrame({"label": [1] * 20 + [0] * 180, "probability": matched + unmatched, "criterion_id": "A.1"})
    found = audit_labels(
        oof.assign(post_id=[f"s_{number}_0" for number in range(200)], fold=0, explicit_negative=False)
    )
    assert found["probability"].tolist() == [0.7, 0.62, 0.6, 0.02]
    # Cleanlab's adjusted self-confidence only shifts the two labels against each other.
    assert found["quality"].iloc[-1] > 0.3
