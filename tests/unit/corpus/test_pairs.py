import logging

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.corpus.pairs import Expectation, check_counts, grid_cells, pairs_of_annotations, pairs_of_labels
from mentallam.corpus.readers import (
    ANNOTATION_COLUMNS,
    CRITERION_COLUMNS,
    POST_COLUMNS,
    SPECIAL_CASE,
    Corpus,
    read_corpus,
)
from mentallam.errors import MentallamError
from tests.unit.corpus.files import write_csv, write_table

SYMPTOMS = ("DEPRESSED_MOOD", "ANHEDONIA", "FATIGUE")
POST_IDS = [f"s_1_{number}" for number in range(5)]
CRITERION_IDS = ["A.1", "A.2", "A.6"]
POSTS = pd.DataFrame({"post_id": ["p0"]})
CRITERIA = pd.DataFrame({"criterion_id": ["A.1"]})


def as_dict(pairs: pd.DataFrame, column: str) -> dict[tuple[str, str], object]:
    values = dict(zip(zip(pairs["post_id"], pairs["criterion_id"], strict=True), pairs[column], strict=True))
    assert len(values) == len(pairs)
    return values


def test_labels_of_a_small_corpus(corpus: Corpus) -> None:
    assert corpus.pairs.to_numpy().tolist() == [
        ["s_1_1", "A.2", 0, True, ""],  # an explicit negative is negative
        ["s_1_1", "A.6", 1, False, "s_1_1_2"],  # status 0 and 1: the maximum counts
        ["s_1_2", "A.2", 0, False, ""],
        ["s_1_2", "A.6", 0, False, ""],
        ["s_2_7", "A.2", 0, False, ""],  # SPECIAL_CASE is no criterion
        ["s_2_7", "A.6", 0, False, ""],
    ]
    assert corpus.pairs["label"].dtype == "int8"
    assert corpus.pairs["explicit_negative"].dtype == bool


@settings(max_examples=50, deadline=None)
@given(
    st.permutations(POST_IDS),
    st.lists(
        st.tuples(
            st.sampled_from(POST_IDS),
            st.sampled_from(["first", "second"]),
            st.sampled_from([*SYMPTOMS, SPECIAL_CASE]),
            st.integers(0, 1),
        ),
        min_size=1,
    ),
)
def test_redsm5_loses_and_invents_no_label(
    tmp_path_factory: pytest.TempPathFactory, post_ids: list[str], rows: list[tuple[str, str, str, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "redsm5"
    folder.mkdir(exist_ok=True)
    write_csv(folder / "redsm5_posts.csv", POST_COLUMNS, [(post_id, "A post.") for post_id in post_ids])
    annotations = [(post_id, s, "A post.", symptom, str(status), "") for post_id, s, symptom, status in rows]
    write_csv(folder / "redsm5_annotations.csv", ANNOTATION_COLUMNS, annotations)
    write_csv(folder / "criteria.csv", CRITERION_COLUMNS, list(zip(CRITERION_IDS, SYMPTOMS, "xyz", strict=True)))
    pairs = read_corpus("redsm5", folder, folder / "criteria.csv").pairs

    told: dict[tuple[str, str], set[int]] = {(p, c): set() for p in post_ids for c in CRITERION_IDS}
    shown: dict[tuple[str, str], set[str]] = {pair: set() for pair in told}
    for post_id, sentence_id, symptom, status in rows:
        if symptom != SPECIAL_CASE:
            pair = post_id, CRITERION_IDS[SYMPTOMS.index(symptom)]
            told[pair].add(status)
            shown[pair] |= {sentence_id} if status else set()
    assert as_dict(pairs, "label") == {pair: int(1 in statuses) for pair, statuses in told.items()}
    assert as_dict(pairs, "explicit_negative") == {pair: statuses == {0} for pair, statuses in told.items()}
    assert as_dict(pairs, "evidence") == {pair: " ".join(sorted(ids)) for pair, ids in shown.items()}
    assert list(as_dict(pairs, "label")) == list(told)  # in the order of posts and criteria


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.sampled_from(POST_IDS), st.sampled_from(CRITERION_IDS)),
        st.sampled_from(["yes", "Yes", "no", "NO", "1", "0"]),
        min_size=1,
    ).flatmap(lambda labels: st.permutations(list(labels.items()))),
    st.sampled_from([".csv", ".parquet", ".jsonl"]),
)
def test_pairs_loses_and_invents_no_label(
    tmp_path_factory: pytest.TempPathFactory, labels: list[tuple[tuple[str, str], str]], ending: str
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"pairs{ending}"
    folder.mkdir(exist_ok=True)
    post_ids, criterion_ids = ({pair[place] for pair, _ in labels} for place in (0, 1))
    write_csv(folder / "posts.csv", ("post_id", "post"), [(post_id, "A post.") for post_id in post_ids])
    write_csv(folder / "criteria.csv", ("criterion_id", "criterion"), [(name, "x") for name in criterion_ids])
    write_table(
        folder / f"groundtruth{ending}",
        ("post_id", "criterion_id", "label"),
        [(*pair, label) for pair, label in labels],
    )
    pairs = read_corpus("pairs", folder, missing_pairs="allowed").pairs
    assert as_dict(pairs, "label") == {pair: int(label in ("yes", "Yes", "1")) for pair, label in labels}
    assert not pairs["explicit_negative"].any()
    assert set(pairs["evidence"]) == {""}


@pytest.mark.parametrize("pair", [("p0", "A.7"), ("p9", "A.1")])
def test_what_belongs_to_no_pair_fails(pair: tuple[str, str]) -> None:
    row = pd.DataFrame({"post_id": pair[:1], "criterion_id": pair[1:], "sentence_id": "s", "status": 1, "label": 1})
    with pytest.raises(MentallamError, match="1 annotations"):
        pairs_of_annotations(POSTS, CRITERIA, row)
    with pytest.raises(MentallamError, match="unknown post or criterion"):
        pairs_of_labels(POSTS, CRITERIA, row)


ids = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4, unique=True)


@given(ids, ids, st.lists(st.tuples(st.text("ab", max_size=3), st.text("ab", max_size=3)), max_size=8))
def test_a_pair_stands_in_one_cell_of_the_grid_or_in_none(
    post_ids: list[str], criterion_ids: list[str], asked: list[tuple[str, str]]
) -> None:
    grid = [(post_id, criterion_id) for post_id in post_ids for criterion_id in criterion_ids]
    asked = [*grid, *asked]
    cells = grid_cells(
        *(pd.Series([pair[place] for pair in asked], dtype="str") for place in (0, 1)),
        pd.DataFrame({"post_id": post_ids}, dtype="str"),
        pd.DataFrame({"criterion_id": criterion_ids}, dtype="str"),
    )
    assert cells.tolist() == [grid.index(pair) if pair in grid else -1 for pair in asked]


def test_both_ways_of_labelling_give_columns_of_the_same_types() -> None:
    posts, criteria = (
        pd.DataFrame({name: [f"{name}_{number}" for number in range(3)]}, dtype="str")
        for name in ("post_id", "criterion_id")
    )
    rows = pd.DataFrame({"post_id": ["post_id_2", "post_id_1"], "criterion_id": "criterion_id_1"}, dtype="str")
    annotated = pairs_of_annotations(posts, criteria, rows.assign(sentence_id=["s2", "s1"], status=[1, 0]))
    labelled = pairs_of_labels(posts, criteria, rows.assign(label=[1, 0]))
    pd.testing.assert_series_equal(annotated.dtypes, labelled.dtypes)
    text = str(posts["post_id"].dtype)  # pandas 2 keeps text as objects
    assert annotated.dtypes.astype(str).tolist() == [text, text, "int8", "bool", text]
    assert labelled.to_numpy().tolist() == [
        ["post_id_1", "criterion_id_1", 0, False, ""],
        ["post_id_2", "criterion_id_1", 1, False, ""],
    ]
    assert annotated.iloc[[4, 7]].to_numpy().tolist() == [
        ["post_id_1", "criterion_id_1", 0, True, ""],
        ["post_id_2", "criterion_id_1", 1, False, "s2"],
    ]
    assert not annotated.drop(index=[4, 7])[["label", "explicit_negative"]].to_numpy().any()


def test_two_labels_of_a_pair_fail() -> None:
    rows = pd.DataFrame({"post_id": ["p0", "p0"], "criterion_id": "A.1", "label": [1, 0]})
    with pytest.raises(MentallamError, match="has a label already"):
        pairs_of_labels(POSTS, CRITERIA, rows)


def test_counts_as_expected_pass_and_need_no_reason(corpus: Corpus) -> None:
    pairs = corpus.pairs
    counts = {"posts": 3, "criteria": 2, "pairs": 6, "positive": 1, "explicit_negative": 1}
    expectation = Expectation(**counts, override_reason="not needed")
    assert check_counts(corpus.posts, corpus.criteria, pairs, expectation) == {
        "expected": counts, "found": counts, "override_reason": None
    }  # fmt: skip


def test_what_is_not_expected_is_not_compared(corpus: Corpus) -> None:
    expectation = Expectation(posts=None, criteria=None, pairs=None, override_reason="not needed")
    counts = check_counts(corpus.posts, corpus.criteria, corpus.pairs, expectation)
    assert set(counts["expected"].values()) == {None}
    assert counts["found"]["posts"] == 3
    assert counts["override_reason"] is None


def test_lost_labels_are_noticed(corpus: Corpus) -> None:
    fewer = corpus.pairs.assign(label=0)
    with pytest.raises(MentallamError, match=r"hold 0 positive \(expected 1\);"):
        check_counts(corpus.posts, corpus.criteria, fewer, Expectation(posts=3, criteria=2, pairs=6, positive=1))


def test_other_counts_fail_and_say_how_to_override(corpus: Corpus) -> None:
    pairs = corpus.pairs
    with pytest.raises(MentallamError) as caught:
        check_counts(corpus.posts, corpus.criteria, pairs, Expectation(posts=1484, criteria=2, pairs=13356))
    message = caught.value.message
    assert "3 posts (expected 1484), 6 pairs (expected 13356)" in message
    assert "criteria (expected" not in message
    assert "expectation.override_reason=" in message


def test_every_count_that_differs_is_named() -> None:
    pairs = pd.DataFrame({"label": [1, 1, 0, 0, 0], "explicit_negative": [False, False, True, False, False]})
    posts, criteria = pd.DataFrame(index=range(5)), pd.DataFrame(index=range(1))
    found = {"posts": 5, "criteria": 1, "pairs": 5, "positive": 2, "explicit_negative": 1}
    for name, count in found.items():
        with pytest.raises(MentallamError, match=f"^the data hold {count} {name} .expected {count + 1}.; if that"):
            check_counts(posts, criteria, pairs, Expectation.model_validate({**found, name: count + 1}))
    assert check_counts(posts, criteria, pairs, Expectation.model_validate(found))["found"] == found


@pytest.mark.parametrize("reason", ["", None])
def test_an_empty_reason_is_none(corpus: Corpus, reason: str | None) -> None:
    pairs = corpus.pairs
    with pytest.raises(MentallamError):
        check_counts(
            corpus.posts,
            corpus.criteria,
            pairs,
            Expectation(posts=1, criteria=2, pairs=6, override_reason=reason),
        )


def test_an_override_is_recorded_and_logged(corpus: Corpus, caplog: pytest.LogCaptureFixture) -> None:
    pairs = corpus.pairs
    expectation = Expectation(posts=1484, criteria=2, pairs=6, override_reason="the public preview")
    with caplog.at_level(logging.WARNING):
        counts = check_counts(corpus.posts, corpus.criteria, pairs, expectation)
    assert counts["override_reason"] == "the public preview"
    assert counts["found"]["posts"] == 3
    assert "3 posts (expected 1484); accepted because: the public preview" in caplog.text


def test_a_misspelt_expectation_fails() -> None:
    with pytest.raises(ValueError, match="extra"):
        Expectation.model_validate({"posts": 1, "criteria": 1, "pairs": 1, "overide_reason": "typo"})
