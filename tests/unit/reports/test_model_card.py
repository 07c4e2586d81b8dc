from collections.abc import Callable
from typing import Any

import pytest

from mentallam.config import Config
from mentallam.reports.model_card import render_model_card
from tests.unit.predictions import ALONE

Facts = dict[str, Any]
Render = Callable[[str], str]


@pytest.fixture
def render(summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config) -> Render:
    """Return a function that renders the fixtures for a use, with the test's changes."""
    return lambda use: render_model_card(summary, uncertainty, data_statistics, training_config, use, None, ALONE)


def row_of(card: str, start: str) -> str:
    [row] = [line for line in card.splitlines() if line.startswith(f"| {start} |")]
    return row


def test_a_served_fold_without_a_dev_f1_is_reported(render: Render, summary: Facts) -> None:
    for fold in summary["folds"]:
        fold["dev_f1"] = None
    assert "Served is **fold 3** of 5, the first, since no dev split has both labels; threshold" in render("best_fold")


def test_the_best_fold_and_its_threshold_are_named(render: Render) -> None:
    card = render("best_fold")
    assert "Served is **fold 3** of 5, the one with the best F1 on its dev split (0.700); threshold 0.490" in card
    assert "this order is mostly noise. The pooled figures belong to all folds" in card
    assert "fold 0 0.40, fold 1 0.43, fold 2 0.46, fold 3 0.49, fold 4 0.52." in card
    assert "`tiny` with a classification head and DoRA adapters of rank 8" in card
    assert "0:05:06 (h:mm:ss) over all folds" in card
    assert "never a diagnosis" in card and "not\nmeasured" in card


def test_an_ensemble_has_the_mean_threshold_and_the_figures_of_its_members(render: Render) -> None:
    card = render("ensemble")
    assert (
        "all 5 folds' models**: the calibrated mean of their log-odds, compared with the mean of their thresholds (0.46"
        in card
    )
    assert "the ensemble itself\nhas not been scored" in card and "Two of its folds" not in card
    assert "Served is **fold" not in card


def test_a_refit_has_been_scored_on_no_post(render: Render, summary: Facts) -> None:
    for fold, epoch in zip(summary["folds"], (1, 9, 2, 4, 2), strict=True):
        fold["best_epoch"] = epoch
    card = render("refit")
    assert "trained on all posts** for 2 epochs, the median of the folds. It has been scored on no post" in card


def test_the_card_says_among_how_many_it_was_chosen(
    summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config
) -> None:
    facts = (summary, uncertainty, data_statistics, training_config, "ensemble", None)
    alone = render_model_card(*facts, {"n": 1, "f1": {summary["cv_run_id"]: 0.5}})
    assert "the only finished cross-validation of these data" in alone
    f1 = {summary["cv_run_id"]: 0.5, "b": 0.25, "c": 0.75}
    card = render_model_card(*facts, {"n": 4, "f1": f1})
    assert "**One of 4 finished cross-validations of the same data**" in card
    assert "of the 3 that have a report: 0.250 to 0.750, standard deviation 0.250; this one 0.500." in card


def test_data_and_figures_are_the_summarys(render: Render, summary: Facts) -> None:
    card = render("best_fold")
    assert f"{summary['n_posts']} posts in {summary['n_groups']} groups" in card
    assert f"540 pairs, of which {summary['n_positive']} are positive. 9 of 45 authors have posts" in card
    assert row_of(card, "F1").startswith(f"| F1 | {summary['pooled']['f1']:.3f} (")
    assert f") | {summary['metrics']['f1']['mean']:.3f} ±" in row_of(card, "F1")
    worst = summary["per_criterion"][0]
    assert f"| {worst['n_positive']} | {worst['precision']:.3f} |" in row_of(card, "A.1 DEPRESSED_MOOD")
    assert row_of(card, "Matthews correlation").split(" | ")[1].startswith(f"{summary['pooled']['mcc']:.3f} (")
    assert f"| Brier score (less is better) | {summary['pooled']['brier']:.3f} (" in card


def test_intervals_stand_beside_the_figures_they_belong_to(render: Render, summary: Facts, uncertainty: Facts) -> None:
    uncertainty["method"]["confidence"] = 0.9
    card = render("best_fold")
    f1 = uncertainty["headline"]["f1"]
    assert f"| F1 | {summary['pooled']['f1']:.3f} ({f1['low']:.3f} to {f1['high']:.3f}) |" in card
    assert "with a 90 % interval" in card
    first = uncertainty["per_criterion"][0]["f1"]
    assert row_of(card, "A.1 DEPRESSED_MOOD").endswith(f"({first['low']:.3f} to {first['high']:.3f}) |")


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_are_marked(render: Render, summary: Facts, synthetic: bool) -> None:
    summary["synthetic"] = synthetic
    card = render("best_fold")
    for words in ("SYNTHETIC DATA", "the sample (synthetic)", "The data are invented"):
        assert (words in card) == synthetic
