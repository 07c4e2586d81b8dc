"""What the page of the data audit shows, and what it must never contain."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mentallam import __version__
from mentallam.corpus.audit import audit_facts
from mentallam.reports.audit_figures import MOST_CELLS_WITH_TEXT, audit_figures
from mentallam.reports.audit_page import render_audit
from tests.unit.audited import (
    CRITERIA,
    EVIL,
    FOLDS,
    NOT_COUNTED,
    PAIRS,
    POSTS,
    SECRET,
    STATISTICS,
    TOKENS,
    folds_of,
)
from tests.unit.seen import Page


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, STATISTICS, [TOKENS, NOT_COUNTED])


@pytest.fixture(scope="module")
def page(facts: dict[str, Any]) -> str:
    return render_audit(facts, audit_figures(facts))


def test_the_page_tells_the_figures(page: str) -> None:
    text = Page(page).text
    for words in (
        "Data audit: three posts",
        "SYNTHETIC. A program generated these posts",
        "Research screening, never a diagnosis",
        "data hash " + "ab" * 32,
        "2, grouped by post_id, seed 42",
        f"mentallam {__version__}",
        "4 positive pairs",
        "11 pairs; 1 more have no label",
        "36.4% base rate",
        "4 SPECIAL_CASE annotations",
        "html entities 7 any step 8",
        "The environment expects 9 posts, 9 criteria, 81 pairs. "
        "The difference was accepted for this reason: a <b>test</b>",
        "2 posts share their cleaned text with another; groups: 1. Groups that straddle folds: 1",
        "s_1_1, s_2_1",
        "Words per post: mean 4.0, median 4.0, from 3 to 6.",
        "Authors with posts in more than one fold: 1 of 2.",
        "tiny: mean 260.5 tokens per post, median 4.0, maximum 1,000.",
        "256 200 3 75.0% 300 (configured) 244 2 50.0% 512 456 1 25.0% 1,024 968 0 0.0%",
        "Tokens of big were not counted: its <tokenizer> is not here.",
        "is 50.0 percentage points: criterion A, fold 1",
        "At least one fold holds out no positive pair of these criteria: A, C.",
        "Placeholders of deleted posts, left out of posts and pairs: 1,234 ([removed] 1,200, [<b>gone</b>] 34).",
        "The largest fold is fold 1. It holds out 3 posts: 75.0% of all posts, against 50.0% with equal folds.",
        "There is no positive pair in the held-out part of these folds: 0, 1.",
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
    assert "no positive pair in the" not in text


def test_the_page_loads_nothing(page: str) -> None:
    found = Page(page).tags
    assert not [tag for tag in found if {"src", "href", "srcset", "data", "action"} & tag[1].keys()]
    assert not {"link", "iframe", "img", "object", "embed", "base"} & {tag for tag, _ in found}
    policy = [attributes["content"] for _, attributes in found if attributes.get("http-equiv")]
    hashes = r"'sha256-[\w+/]{43}=' 'sha256-[\w+/]{43}='"
    wanted = rf"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    assert len(policy) == 1 and re.fullmatch(wanted, str(policy[0]))
    assert page.count("plotly.js v") == 1


def test_no_word_of_a_post_is_in_page_or_plots(facts: dict[str, Any], page: str) -> None:
    assert SECRET.lower() not in page.lower()
    assert SECRET not in json.dumps(facts)
    for figure in audit_figures(facts).values():
        assert SECRET not in figure.to_json()


def test_what_users_write_cannot_become_markup(facts: dict[str, Any], page: str) -> None:
    assert "alert(1)" in Page(page).text  # The page shows it as text.
    assert "<script>alert" not in page
    assert [tag for tag, _ in Page(page).tags].count("script") == 2
    for name in ("class_balance", "co_occurrence", "fold_balance"):  # plotly renders HTML in labels
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
        ({"posts": None, "pairs": 12}, "The counts are those that the environment expects: 12 pairs."),
        ({"posts": None, "pairs": None}, "The environment expects no particular counts."),
    ],
)
def test_only_counts_that_were_expected_are_called_so(expected: dict[str, int | None], words: str) -> None:
    counts = {"expected": expected, "found": {}, "override_reason": None}
    facts = audit_facts(POSTS, CRITERIA, PAIRS, FOLDS, {**STATISTICS, "counts": counts}, [])
    assert words in Page(render_audit(facts, audit_figures(facts))).text


def test_a_corpus_without_authors() -> None:
    statistics = {**STATISTICS, "n_authors_straddling_folds": None}
    facts = audit_facts(POSTS.assign(author=None), CRITERIA, PAIRS, FOLDS, statistics, [])
    assert "Neither a column nor the post ids name authors" in Page(render_audit(facts, audit_figures(facts))).text


def test_the_page_says_where_numbers_do_not_fit_into_cells(facts: dict[str, Any]) -> None:
    n, words = MOST_CELLS_WITH_TEXT + 1, "(shown when the mouse is over a cell)"
    assert words not in Page(render_audit(facts, {})).text
    for many in ({"criteria": facts["criteria"][:1] * n}, {"folds": {**facts["folds"], "posts": [2] * n}}):
        assert Page(render_audit({**facts, **many}, {})).text.count(words) == 1
