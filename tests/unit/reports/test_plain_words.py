"""The opening summary, word for word: every case has to read as English."""

from typing import Any

import pytest

from mentallam.config import Config
from mentallam.evaluation.findings import NOT_CHECKED, PASSED, WARNING
from mentallam.reports.plain_words import plain_words

Facts = dict[str, Any]


def check(code: str, title: str, status: str) -> Facts:
    return {"code": code, "title": title, "status": status}


@pytest.fixture
def summary() -> Facts:
    """Return what the summary in words reads of a cross-validation's summary."""
    return {
        **{"synthetic": False, "n_folds": 5, "planned_folds": 5, "n_posts": 1484, "n_pairs": 13356},
        **{"n_positive": 1292, "n_marked": 1400, "n_found": 800, "per_criterion": [{}] * 9},
        "pooled": {"precision": 800 / 1400, "recall": 800 / 1292, "f1": 0.594},
        "baselines": {"all_positive": {"f1": 0.176}},
        "learned_baselines": {"tfidf": {"pooled": {"f1": 0.405}}},
    }


@pytest.fixture
def uncertainty() -> Facts:
    return {
        "method": {"confidence": 0.95},
        "headline": {"f1": {"estimate": 0.594, "low": 0.57, "high": 0.618}},
        "baselines": {"tfidf": {"difference": {"f1": {"estimate": 0.189, "low": 0.16, "high": 0.22}}}},
    }


@pytest.fixture
def data_statistics() -> Facts:
    return {"corpus": "ReDSM5", "n_authors": 742}


@pytest.fixture
def checks() -> Facts:
    return {"checks": [check("MC001", "a baseline is at least as good", PASSED)]}


@pytest.fixture
def said(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> "list[str]":
    """Return the paragraphs of the unchanged fixtures."""
    return plain_words(summary, uncertainty, data_statistics, training_config, checks)


def test_a_clear_result(said: list[str]) -> None:
    assert said == [
        "**The question.** Does a post match a criterion? The data are 1,484 posts by 742 authors from the corpus "
        '"ReDSM5", each paired with 9 criteria. '
        "Of the 13,356 labelled pairs, 1,292 (9.7 %) are matches. The base model "
        "`tiny` was fine-tuned 5 times, each time without some of the posts, and then labelled the posts that it had "
        "not seen.",
        "**The result.** The models mark 1,400 pairs as matches, and 800 of them are labelled as such (precision "
        "0.571). They find 800 of the 1,292 matching pairs (recall 0.619). F1, which is high only if both are, is "
        "0.594 (95 % interval 0.570 to 0.618).",
        "**Compared with simpler means.** Marking every pair reaches an F1 of 0.176. A classifier that only counts "
        "words reaches 0.405 on the same pairs and folds. The models' F1 minus this one is 0.189 (95 % interval 0.160 "
        "to 0.220). The models beat counting words on these posts.",
        "**What to doubt.** None of the 1 checks below raises a warning. No check can tell how the models do on posts "
        "from elsewhere.",
        "A match is a statement about the wording of a post. It is never a diagnosis of the person who wrote it.",
    ]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.001, 0.2, "The models beat counting words on these posts."),
        (0.0, 0.2, "The interval includes 0, so it is not shown that the models beat counting words."),
        (-0.2, 0.0, "The interval includes 0, so it is not shown that the models beat counting words."),
        (-0.2, -0.001, "Counting words is better on these posts."),
    ],
)
def test_the_verdict_follows_the_interval(
    summary: Facts,
    uncertainty: Facts,
    data_statistics: Facts,
    training_config: Config,
    checks: Facts,
    low: float,
    high: float,
    verdict: str,
) -> None:
    uncertainty["baselines"]["tfidf"]["difference"]["f1"] |= {"low": low, "high": high}
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert said[2].endswith(f". {verdict}")


def test_an_unfinished_study_of_invented_posts_with_one_criterion(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    summary |= {
        "synthetic": True,
        "n_folds": 1,
        "n_posts": 1,
        "n_pairs": 1,
        "n_positive": 1,
        "n_marked": 1,
        "n_found": 1,
    }
    summary["per_criterion"] = [{}]
    uncertainty["headline"]["f1"] = {"estimate": 1.0, "low": None, "high": None}
    uncertainty["baselines"]["tfidf"]["difference"]["f1"]["low"] = None
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert said[0] == (
        '**The question.** Does a post match a criterion? The data are 1 post from the corpus "ReDSM5", paired with '
        "one criterion. Of the 1 labelled pair, 1 (100.0 %) is a match. The posts are synthetic: a program invented "
        "them, so no figure below says anything about people. Only 1 of 5 folds is finished, so these counts and all "
        "figures cover the posts of this fold alone. The base model `tiny` was fine-tuned once without some of the "
        "posts, and then labelled the posts that it had not seen."
    )
    assert said[1] == (
        "**The result.** The models mark 1 pair as a match, and it is labelled as such (precision 0.571). They find "
        "the only matching pair (recall 0.619). F1, which is high only if both are, is 0.594."
    )
    assert said[2].endswith("counts words reaches 0.405 on the same pairs and folds.")


def test_no_positive_pair_leaves_no_figure_and_no_comparison(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    summary |= {"n_positive": 0, "n_found": 0, "n_marked": 12}
    summary["pooled"] = {"precision": None, "recall": None, "f1": None}
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert "Of the 13,356 labelled pairs, none is a match." in said[0]
    assert said[1] == (
        "**The result.** The models mark 12 pairs as matches. Since no pair is labelled as a match, nothing shows "
        "whether the models find matches."
    )
    assert said[2].startswith("**What to doubt.**")


@pytest.mark.parametrize(
    ("marked", "found", "positive", "words"),
    [
        (
            1,
            0,
            61,
            "mark 1 pair as a match, and it is not labelled as such (precision 0.571). They find none of the 61 "
            "matching",
        ),
        (
            9,
            0,
            61,
            "mark 9 pairs as matches, and none of them is labelled as such (precision 0.571). They find none of the 61",
        ),
        (9, 1, 61, "and 1 of them is labelled as such (precision 0.571). They find 1 of the 61 matching pairs (recall"),
        (9, 9, 61, "and all of them are labelled as such (precision 0.571). They find 9 of the 61 matching pairs"),
        (
            70,
            61,
            61,
            "and 61 of them are labelled as such (precision 0.571). They find all 61 matching pairs (recall 0.619).",
        ),
        (
            1,
            0,
            1,
            "and it is not labelled as such (precision 0.571). They do not find the only matching pair (recall 0.619).",
        ),
    ],
)
def test_counts_of_marked_and_found_pairs(
    summary: Facts,
    uncertainty: Facts,
    data_statistics: Facts,
    training_config: Config,
    checks: Facts,
    marked: int,
    found: int,
    positive: int,
    words: str,
) -> None:
    summary |= {"n_marked": marked, "n_found": found, "n_positive": positive}
    assert words in plain_words(summary, uncertainty, data_statistics, training_config, checks)[1]


def test_models_that_do_not_reach_marking_everything(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    summary["pooled"]["f1"] = 0.17
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert "Marking every pair reaches an F1 of 0.176, which the models do not reach. A classifier" in said[2]


def test_a_model_that_marks_nothing(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    summary |= {"n_marked": 0, "n_found": 0}
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert said[1] == (
        "**The result.** The models mark no pair as a match, so they find none of the 1,292 matching pairs, and F1 is "
        "0."
    )


def test_without_a_baseline_that_counts_words_nothing_is_claimed(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    summary["learned_baselines"] = {}
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert said[2] == (
        "**Compared with simpler means.** Marking every pair reaches an F1 of 0.176. No classifier that counts words "
        "was fitted, so it is unknown whether the models beat one."
    )


def test_unknown_authors_are_not_counted(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config, checks: Facts
) -> None:
    data_statistics |= {"n_authors": None, "corpus": "my | corpus"}
    said = plain_words(summary, uncertainty, data_statistics, training_config, checks)
    assert r'The data are 1,484 posts from the corpus "my \| corpus", each' in said[0]


@pytest.mark.parametrize(
    ("statuses", "words"),
    [
        ((PASSED, PASSED, PASSED), "None of the 3 checks below raises a warning. No check can"),
        ((WARNING, PASSED, PASSED), "1 of the 3 checks below raises a warning: title 0 (MC000). No check can"),
        (
            (WARNING, NOT_CHECKED, WARNING),
            "2 of the 3 checks below raise a warning: title 0 (MC000); title 2 (MC002). 1 could not be made: MC001. No",
        ),
        ((NOT_CHECKED, NOT_CHECKED, PASSED), "raises a warning. 2 could not be made: MC000, MC001. No check can"),
    ],
)
def test_the_doubts_are_those_of_the_checks(
    summary: Facts,
    uncertainty: Facts,
    data_statistics: Facts,
    training_config: Config,
    statuses: tuple[str, ...],
    words: str,
) -> None:
    checks = {"checks": [check(f"MC00{n}", f"title {n}", status) for n, status in enumerate(statuses)]}
    assert words in plain_words(summary, uncertainty, data_statistics, training_config, checks)[3]
