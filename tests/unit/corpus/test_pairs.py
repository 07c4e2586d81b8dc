import logging

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.corpus.pairs import Expectation, build_pairs, check_counts
from mentallam.corpus.readers import Corpus
from mentallam.errors import MentallamError

SYMPTOMS = ["DEPRESSED_MOOD", "ANHEDONIA", "FATIGUE"]
CRITERIA = pd.DataFrame({"criterion_id": ["A.1", "A.2", "A.6"], "symptom": SYMPTOMS, "criterion": ["x", "y", "z"]})


def annotations_of(rows: list[tuple[str, str, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["post_id", "symptom", "status"])
    return frame.astype({"post_id": str, "symptom": str, "status": "int8"})


def test_labels_of_a_small_corpus(corpus: Corpus) -> None:
    pairs = build_pairs(corpus.posts, corpus.criteria, corpus.annotations)
    assert pairs.to_numpy().tolist() == [
        ["s_1_1", "A.2", 0, True],  # an explicit negative is negative
        ["s_1_1", "A.6", 1, False],  # status 0 and 1: the maximum counts
        ["s_1_2", "A.2", 0, False],
        ["s_1_2", "A.6", 0, False],
        ["s_2_7", "A.2", 0, False],  # SPECIAL_CASE is no criterion
        ["s_2_7", "A.6", 0, False],
    ]
    assert pairs["label"].dtype == "int8"
    assert pairs["explicit_negative"].dtype == bool


@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            st.just([f"p{i}" for i in range(n)]),
            st.lists(
                st.tuples(
                    st.sampled_from([f"p{i}" for i in range(n)]),
                    st.sampled_from([*SYMPTOMS, "SPECIAL_CASE"]),
                    st.integers(0, 1),
                )
            ),
        )
    )
)
def test_no_label_is_lost_or_invented(case: tuple[list[str], list[tuple[str, str, int]]]) -> None:
    post_ids, rows = case
    pairs = build_pairs(pd.DataFrame({"post_id": post_ids}), CRITERIA, annotations_of(rows))
    symptom = pairs["criterion_id"].map(CRITERIA.set_index("criterion_id")["symptom"])
    found = {
        (post_id, name): (label, explicit)
        for post_id, name, label, explicit in zip(
            pairs["post_id"], symptom, pairs["label"], pairs["explicit_negative"], strict=True
        )
    }
    assert len(found) == len(pairs) == len(post_ids) * len(SYMPTOMS)
    for (post_id, name), (label, explicit) in found.items():
        statuses = {status for row_post, row_name, status in rows if (row_post, row_name) == (post_id, name)}
        assert label == (1 in statuses)
        assert explicit == (statuses == {0})


@pytest.mark.parametrize("row", [("p0", "FATIQUE", 1), ("p9", "FATIGUE", 1)])
def test_an_annotation_that_belongs_to_no_pair_fails(row: tuple[str, str, int]) -> None:
    with pytest.raises(MentallamError, match="1 annotations"):
        build_pairs(pd.DataFrame({"post_id": ["p0"]}), CRITERIA, annotations_of([row]))


def test_counts_as_expected_pass_and_need_no_reason(corpus: Corpus) -> None:
    pairs = build_pairs(corpus.posts, corpus.criteria, corpus.annotations)
    expectation = Expectation(posts=3, criteria=2, pairs=6, override_reason="not needed")
    counts = {"posts": 3, "criteria": 2, "pairs": 6}
    assert check_counts(corpus.posts, corpus.criteria, pairs, expectation) == {
        "expected": counts, "found": counts, "override_reason": None
    }  # fmt: skip


def test_other_counts_fail_and_say_how_to_override(corpus: Corpus) -> None:
    pairs = build_pairs(corpus.posts, corpus.criteria, corpus.annotations)
    with pytest.raises(MentallamError) as caught:
        check_counts(corpus.posts, corpus.criteria, pairs, Expectation(posts=1484, criteria=2, pairs=13356))
    message = caught.value.message
    assert "3 posts (expected 1484), 6 pairs (expected 13356)" in message
    assert "criteria (expected" not in message
    assert "expectation.override_reason=" in message


@pytest.mark.parametrize("reason", ["", None])
def test_an_empty_reason_is_none(corpus: Corpus, reason: str | None) -> None:
    pairs = build_pairs(corpus.posts, corpus.criteria, corpus.annotations)
    with pytest.raises(MentallamError):
        check_counts(
            corpus.posts,
            corpus.criteria,
            pairs,
            Expectation(posts=1, criteria=2, pairs=6, override_reason=reason),
        )


def test_an_override_is_recorded_and_logged(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    pairs = build_pairs(corpus.posts, corpus.criteria, corpus.annotations)
    expectation = Expectation(posts=1484, criteria=2, pairs=6, override_reason="the public preview")
    with caplog.at_level(logging.WARNING):
        counts = check_counts(corpus.posts, corpus.criteria, pairs, expectation)
    assert counts["override_reason"] == "the public preview"
    assert counts["found"]["posts"] == 3
    assert "3 posts (expected 1484); accepted because: the public preview" in caplog.text


def test_a_misspelt_expectation_fails() -> None:
    with pytest.raises(ValueError, match="extra"):
        Expectation.model_validate({"posts": 1, "criteria": 1, "pairs": 1, "overide_reason": "typo"})
