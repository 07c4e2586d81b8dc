"""The audit's facts about a corpus small enough to count by hand."""

import json
from typing import Any

import pytest

from mentallam.corpus.audit import audit_facts
from tests.unit.audited import CRITERIA, FOLDS, NOT_COUNTED, PAIRS, POSTS, STATISTICS, TOKENS, folds_of


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, STATISTICS, [TOKENS, NOT_COUNTED])


def test_counts(facts: dict[str, Any]) -> None:
    assert facts["counts"] == {
        "posts": 4,
        "criteria": 3,
        "pairs": 11,
        "missing_pairs": 1,
        "positives": 4,
        "base_rate": pytest.approx(4 / 11),
        "posts_without_criterion": 1,
        "explicit_negatives": 2,
    }
    assert [
        (row["criterion_id"], row["pairs"], row["positive"], row["explicit_negative"], row["rate"])
        for row in facts["criteria"]
    ] == [("A", 4, 2, 1, 0.5), ("B", 4, 2, 1, 0.5), ("C", 3, 0, 0, 0.0)]


def test_criteria_keep_the_columns_of_their_table(facts: dict[str, Any]) -> None:
    columns = ["criterion_id", "symptom", "criterion"]
    assert [{name: row[name] for name in columns} for row in facts["criteria"]] == CRITERIA.to_dict("records")


def test_co_occurrence(facts: dict[str, Any]) -> None:
    found = facts["co_occurrence"]
    assert found["posts"] == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found["jaccard"][0] == [1.0, pytest.approx(1 / 3), 0.0]
    assert found["lift"][0] == [2.0, 1.0, None]  # by chance 2 * 2 / 4 = 1 post; none matches C
    assert found["jaccard"][2][2] is None


def test_duplicates_and_whether_they_straddle(facts: dict[str, Any]) -> None:
    assert facts["duplicates"] == {"posts": 2, "n_groups": 1, "n_straddling": 1, "groups": [["s_1_1", "s_2_1"]]}
    same_fold = folds_of(PAIRS, ["s_1_1", "s_2_1"], ["s_1_2", "s_2_2"])
    assert audit_facts(POSTS, CRITERIA, PAIRS, same_fold, STATISTICS, [])["duplicates"]["n_straddling"] == 0


def test_authors_who_are_known_in_part_or_not_at_all(facts: dict[str, Any]) -> None:
    assert facts["authors"] == {
        "authors": 2,
        "posts_without_author": 0,
        "most_posts": 2,
        "posts_per_author": {"1": 0, "2": 2},
    }
    column = POSTS.assign(author=["x", "x", "x", None])
    assert audit_facts(column, CRITERIA, PAIRS, FOLDS, STATISTICS, [])["authors"] == {
        "authors": 1,
        "posts_without_author": 1,
        "most_posts": 3,
        "posts_per_author": {"1": 0, "2": 0, "3": 1},
    }
    anonymous = POSTS.assign(author=None)
    assert audit_facts(anonymous, CRITERIA, PAIRS, FOLDS, STATISTICS, [])["authors"] is None


def test_fold_balance(facts: dict[str, Any]) -> None:
    found = facts["folds"]
    assert (found["posts"], found["groups"]) == ([2, 2], [2, 2])
    assert found["positives"] == [[2, 0], [1, 1], [0, 0]]
    assert found["deviations"] == [[0.5, -0.5], [0.0, 0.0], [0.0, 0.0]]
    assert found["largest"] == {"deviation": 0.5, "fold": 1, "criterion_id": "A"}
    assert found["without_positives"] == ["A", "C"]


def test_a_criterion_that_a_fold_never_asks(facts: dict[str, Any]) -> None:
    pairs = PAIRS[(PAIRS["criterion_id"] != "C") | (PAIRS["post_id"] == "s_1_1")]
    folds = folds_of(pairs, ["s_1_1", "s_1_2"], ["s_2_1", "s_2_2"])
    found = audit_facts(POSTS, CRITERIA, pairs, folds, STATISTICS, [])
    assert found["folds"]["deviations"][2] == [0.0, None]


def test_facts_are_json(facts: dict[str, Any]) -> None:
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
