"""The audit's figures against corpora small enough to count by hand, and what its page must never hold."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam import __version__
from mentallam.corpus.audit import audit_facts
from mentallam.corpus.folds import FoldSplit
from mentallam.reports.audit_figures import audit_figures
from mentallam.reports.audit_page import render_audit
from tests.unit.seen import Page

SECRET = "Marzipan"
EVIL = "<script>alert(1)</script>&\"'"
STATISTICS = {
    "corpus": "three posts",
    "synthetic": True,
    "data_hash": "ab" * 32,
    "posts_cleaned": {"html_entities": 7, "any": 8},
    "words_per_post": {"mean": 4.0, "min": 3, "q25": 3.0, "q50": 4.0, "q75": 5.0, "max": 6},
    "counts": {"expected": {"posts": 9, "criteria": 9, "pairs": 81}, "found": {}, "override_reason": "a <b>test</b>"},
    "annotations": {"rows": 9, "special_case": 4, "contradictory": 2},
    "placeholder_posts": {"[removed]": 1200, "[<b>gone</b>]": 34},
    "folds": {
        "n_folds": 2,
        "seed": 42,
        "group_by": "post_id",
        "balance": {"fold": 1, "posts": 3, "share": 0.75, "equal_share": 0.5, "uneven": True},
        "without_positives": {"train": [], "dev": [], "held_out": [0, 1]},
    },
    "n_authors": 2,
    "n_authors_straddling_folds": 1,
    "n_posts": 4,
    "n_pairs": 11,
    "n_unlabelled": 1,
    "n_positive": 4,
    "base_rate": 4 / 11,
    "n_without_symptom": 1,
    "criteria": {
        "A": {"symptom": "FIRST", "positive": 2, "explicit_negative": 1},
        "B": {"symptom": "SECOND", "positive": 2, "explicit_negative": 1},
        "C": {"symptom": "THIRD", "positive": 0, "explicit_negative": 0},
    },
}
TOKENS = {
    "tokenizer": "tiny",
    "max_length": 300,
    "not_counted": None,
    "tokens_per_post": {"mean": 260.5, "min": 3, "q25": 3.0, "q50": 4.0, "q75": 5.0, "max": 1000},
    "histogram": {"edges": [3, 4, 5], "posts": [2, 2]},
    "truncated": [
        {"max_length": 128, "room": 0, "posts": 4},
        {"max_length": 256, "room": 200, "posts": 3},
        {"max_length": 300, "room": 244, "posts": 2},
        {"max_length": 512, "room": 456, "posts": 1},
        {"max_length": 1024, "room": 968, "posts": 0},
    ],
}
NOT_COUNTED = {"tokenizer": "big", "max_length": 512, "not_counted": "its <tokenizer> is not here"}

POSTS = pd.DataFrame(
    {
        "post_id": ["s_1_1", "s_1_2", "s_2_1", "s_2_2"],
        "text": [f"one two {SECRET}", f"{SECRET} again and again", f"one two {SECRET}", "a b c d e f"],
        "author": ["1", "1", "2", "2"],
    }
)
CRITERIA = pd.DataFrame(
    {
        "criterion_id": ["A", "B", "C"],
        "symptom": ["FIRST", "SECOND", EVIL],
        "criterion": ["The first.", EVIL, "The third."],
    }
)
PAIRS = pd.DataFrame(
    [
        *[("s_1_1", "A", 1, False), ("s_1_1", "B", 1, False), ("s_1_1", "C", 0, False)],
        *[("s_1_2", "A", 1, False), ("s_1_2", "B", 0, True)],  # without C
        *[("s_2_1", "A", 0, True), ("s_2_1", "B", 1, False), ("s_2_1", "C", 0, False)],
        *[("s_2_2", "A", 0, False), ("s_2_2", "B", 0, False), ("s_2_2", "C", 0, False)],
    ],
    columns=["post_id", "criterion_id", "label", "explicit_negative"],
).astype({"label": "int8"})


def folds_of(pairs: pd.DataFrame, *held_out: Sequence[str]) -> list[FoldSplit]:
    """As much of the folds as the audit reads."""
    folds: list[Any] = []
    for number, post_ids in enumerate(held_out):
        labels = pairs[pairs["post_id"].isin(post_ids)].groupby("criterion_id")["label"].agg(["sum", "size"])
        counted = {str(name): {"positive": int(s), "negative": int(n - s)} for name, s, n in labels.itertuples()}
        folds.append(
            {
                "fold": number,
                "held_out": list(post_ids),
                "groups": {"held_out": len(post_ids)},
                "label_distribution": {"held_out": counted},
            }
        )
    return folds


FOLDS = folds_of(PAIRS, ["s_1_1", "s_1_2"], ["s_2_1", "s_2_2"])


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, STATISTICS, [TOKENS, NOT_COUNTED])


@pytest.fixture(scope="module")
def page(facts: dict[str, Any]) -> str:
    return render_audit(facts, audit_figures(facts))


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
    facts = audit_facts(anonymous, CRITERIA, PAIRS, FOLDS, {**STATISTICS, "n_authors_straddling_folds": None}, [])
    assert facts["authors"] is None
    assert (
        "Neither a column nor the ids of the posts name authors" in Page(render_audit(facts, audit_figures(facts))).text
    )


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


def test_the_page_tells_the_figures(page: str) -> None:
    text = Page(page).text
    for words in (
        "Data audit: three posts",
        "SYNTHETIC. A program invented these posts",
        "Research screening, never a diagnosis",
        "data hash " + "ab" * 32,
        "2, grouped by post_id, seed 42",
        f"mentallam {__version__}",
        "4 positive pairs",
        "11 pairs; 1 more have no label",
        "36.4% base rate",
        "4 SPECIAL_CASE annotations",
        "html entities 7 any step 8",
        "Expected were 9 posts, 9 criteria, 81 pairs. The difference was accepted because: a <b>test</b>",
        "2 posts share their cleaned text with another; groups: 1. Groups that straddle folds: 1",
        "s_1_1, s_2_1",
        "Authors with posts in more than one fold: 1 of 2.",
        "tiny: 260.5 tokens a post in the mean",
        "256 200 3 75.0% 300 (configured) 244 2 50.0% 512 456 1 25.0% 1,024 968 0 0.0%",
        "Tokens of big were not counted: its <tokenizer> is not here.",
        "by 50.0 percentage points: criterion A, fold 1",
        "Some fold holds out no positive of: A, C.",
        "Placeholders of deleted posts, left out of posts and pairs: 1,234 ([removed] 1,200, [<b>gone</b>] 34).",
        "The largest fold, 1, holds out 3 posts: 75.0% of all, where equal folds would have 50.0%.",
        "No positive pair at all in the held-out part of fold 0, 1.",
    ):
        assert words in text
    assert "128" not in text


def test_a_corpus_of_people_is_not_marked_synthetic() -> None:
    folds = {"n_folds": 2, "seed": 42, "group_by": "post_id"}
    statistics = {**STATISTICS, "synthetic": False, "annotations": {"rows": 0}, "placeholder_posts": {}, "folds": folds}
    facts = audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, statistics, [])
    text = Page(render_audit(facts, audit_figures(facts))).text
    assert "SYNTHETIC" not in text
    assert "SPECIAL_CASE" not in text
    assert "Placeholders" not in text
    assert "The largest fold" not in text
    assert "No positive pair at all" not in text


def test_the_page_loads_nothing(page: str) -> None:
    found = Page(page).tags
    assert not [tag for tag in found if {"src", "href", "srcset", "data", "action"} & tag[1].keys()]
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in found}
    policy = [attributes["content"] for _, attributes in found if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"]
    assert page.count("plotly.js v") == 1


def test_no_word_of_a_post_is_in_page_or_plots(facts: dict[str, Any], page: str) -> None:
    assert SECRET.lower() not in page.lower()
    assert SECRET not in json.dumps(facts)
    for figure in audit_figures(facts).values():
        assert SECRET not in figure.to_json()


def test_what_users_write_cannot_become_markup(facts: dict[str, Any], page: str) -> None:
    assert "alert(1)" in Page(page).text  # it is shown, as text
    assert "<script>alert" not in page
    assert [tag for tag, _ in Page(page).tags].count("script") == 2
    for name in ("class_balance", "co_occurrence", "fold_balance"):  # plotly draws HTML that it finds in labels
        assert "<script>alert" not in audit_figures(facts)[name].to_json()


def test_a_statistics_block_about_duplicates_is_shown_whatever_is_in_it() -> None:
    block = {"near_groups": 3, "near": [f"p{n}" for n in range(30)], "pairs": [["p1", EVIL]], "none": []}
    facts = audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, {**STATISTICS, "duplicates": block}, [])
    text = Page(render_audit(facts, audit_figures(facts))).text
    assert "near groups 3" in text
    assert "p24 and 5 more" in text and "p25" not in text
    assert f"pairs p1, {EVIL}" in text
    assert "none none" in text


@pytest.mark.parametrize("n_criteria", [1, 2, 38])
def test_any_number_of_criteria_and_no_positives(n_criteria: int) -> None:
    criteria = pd.DataFrame({name: [f"c{k}" for k in range(n_criteria)] for name in ("criterion_id", "symptom")})
    criteria["criterion"] = "A very long wording " * 20
    grid = pd.MultiIndex.from_product([POSTS["post_id"], criteria["criterion_id"]], names=["post_id", "criterion_id"])
    pairs = grid.to_frame(index=False).assign(label=np.int8(0), explicit_negative=False)
    folds = folds_of(pairs, ["s_1_1", "s_1_2"], ["s_2_1", "s_2_2"])
    counts = {criterion_id: {"positive": 0, "explicit_negative": 0} for criterion_id in criteria["criterion_id"]}
    statistics = {**STATISTICS, "criteria": counts}
    facts = audit_facts(POSTS.assign(text=["a", "b", "c", "d"]), criteria, pairs, folds, statistics, [])
    assert len(facts["co_occurrence"]["posts"]) == n_criteria
    text = Page(render_audit(facts, audit_figures(facts))).text
    assert "No two posts have the same cleaned text" in text
    assert f"c{n_criteria - 1}" in text


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"posts": None, "pairs": 12}, "As the profile expects: 12 pairs."),
        ({"posts": None, "pairs": None}, "The profile expects no particular counts."),
    ],
)
def test_only_counts_that_were_expected_are_called_so(expected: dict[str, int | None], words: str) -> None:
    counts = {"expected": expected, "found": {}, "override_reason": None}
    facts = audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, {**STATISTICS, "counts": counts}, [])
    assert words in Page(render_audit(facts, audit_figures(facts))).text
