"""Every figure of a page is a different number here, so a column that prints another column's figure fails."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

import pandas as pd
import pytest

from mentallam.config import Config
from mentallam.evaluation.metrics import METRICS
from mentallam.reports.comparison_report import render_comparison
from mentallam.reports.model_card import render_model_card
from mentallam.reports.report import render_report
from tests.unit.predictions import ALONE
from tests.unit.seen import tables

Facts = dict[str, Any]

# A heading, or the first cell of a row, to the metric; the first row of the report is bold.
METRIC_OF = {
    "**F1**": "f1",
    **{metric.label + suffix: metric.name for metric in METRICS for suffix in ("", " (less is better)")},
}
N_PAIR_METRICS = sum(metric.plain is not None for metric in METRICS)
# Numbers that name a fold, or that decide what a page says instead of being printed.
KEPT = {"fold", "n_folds", "best_fold", "confidence"}


def distinct(facts: Any, numbers: Iterator[int]) -> Any:
    """Return the facts with a different number in place of every number that a page prints."""
    if isinstance(facts, dict):
        # The n of a mean is its number of folds, which is printed only where it is not n_folds.
        kept = KEPT | ({"n"} if "std" in facts else set())
        return {name: value if name in kept else distinct(value, numbers) for name, value in facts.items()}
    if isinstance(facts, list):
        return [distinct(value, numbers) for value in facts]
    if isinstance(facts, bool) or not isinstance(facts, int | float):
        return facts
    return next(numbers) if isinstance(facts, int) else next(numbers) + 0.25


def numbers_of(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cell)]


def interval(bounds: Facts) -> list[float]:
    return [bounds["low"], bounds["high"]]


def estimate(bounds: Facts) -> list[float]:
    return [bounds["estimate"], *interval(bounds)]


def spread(metric: Facts) -> list[float]:
    return [metric["mean"], metric["std"]]


def columns(table: list[list[str]], skip: tuple[str, ...] = ()) -> dict[str, dict[str, list[float]]]:
    """Return row name to heading to the numbers of the cell, without the first column and those to skip."""
    header, *rows = table
    assert len(set(header)) == len(header), "two columns have the same heading"
    return {
        row[0]: {
            heading: numbers_of(cell) for heading, cell in zip(header[1:], row[1:], strict=True) if heading not in skip
        }
        for row in rows
    }


@pytest.fixture
def numbers() -> Iterator[int]:
    return count(100)


@pytest.fixture
def summary(summary: Facts, numbers: Iterator[int]) -> Facts:
    summary["explicit_negatives"] = {"n": 8, "false_alarms": 2, "rate": 0.25, "rate_of_other_unmatched": 0.1}
    # Answering no to everything finds nothing, so no number of pairs is enough to read.
    summary["baselines"]["all_negative"]["number_needed_to_read"] = 1.5
    summary["slices"].append({**summary["slices"][0], "slice": "truncated posts"})
    return dict(distinct(summary, numbers))


@pytest.fixture
def uncertainty(uncertainty: Facts, numbers: Iterator[int]) -> Facts:
    one = {"mean": 0.61, "std_between_seeds": 0.02, "low": 0.5, "high": 0.7}
    differences = {"tfidf": {"f1": dict(one), "average_precision": dict(one)}}
    uncertainty["seeds"] = {"repeats": ["this run", "b", "c"], "metrics": {"f1": one}, "differences": differences}
    return dict(distinct(uncertainty, numbers))


@pytest.fixture
def data_statistics(data_statistics: Facts, numbers: Iterator[int]) -> Facts:
    return dict(distinct(data_statistics, numbers))


@pytest.fixture
def card(summary: Facts, uncertainty: Facts, data_statistics: Facts, training_config: Config) -> str:
    return render_model_card(summary, uncertainty, data_statistics, training_config, "best_fold", None, ALONE)


@pytest.fixture
def comparison(uncertainty: Facts, numbers: Iterator[int]) -> Facts:
    """Return a result of `compare_runs` with a different number in every place."""
    compared = distinct(uncertainty["baselines"]["tfidf"], numbers)
    return {
        "runs": {name: {"cv_run_id": f"{name}-run", "model": "tiny"} for name in ("first", "second")},
        **{"data_hash": {"first": "ab" * 32, "second": "ab" * 32}, "corpus": "the sample", "synthetic": True},
        **{"clusters": {"unit": "author", "n": 31}, "n_pairs": 32, "method": uncertainty["method"], "differs": []},
        "first": uncertainty["headline"],
        "second": compared.pop("headline"),
        **compared,
    }


def test_the_headline_table(report: str, summary: Facts, uncertainty: Facts) -> None:
    rows = columns(tables(report)["metric"])
    assert len(rows) == N_PAIR_METRICS
    for label, row in rows.items():
        metric = METRIC_OF[label]
        bounds = uncertainty["headline"].get(metric)
        assert row == {
            "mean ± std": spread(summary["metrics"][metric]),
            "pooled": [summary["pooled"][metric], *(interval(bounds) if bounds else [])],
            "all-negative": [summary["baselines"]["all_negative"][metric]],
            "all-positive": [summary["baselines"]["all_positive"][metric]],
            "prior only": [summary["baselines"]["prior_only"][metric]],
        }, label


def test_the_protocol_table(report: str, summary: Facts) -> None:
    rows = columns(tables(report)["protocol"], skip=("threshold of a fold comes from",))
    assert list(rows) == ["dev-split", "cross-fitted", "same-fold"]
    for name, row in rows.items():
        protocol = summary["protocols"][name.replace("-", "_")]
        assert row == {
            "F1, mean ± std": spread(protocol["mean"]["f1"]),
            "F1, pooled": [protocol["pooled"]["f1"]],
            "precision, pooled": [protocol["pooled"]["precision"]],
            "recall, pooled": [protocol["pooled"]["recall"]],
        }, name
    sources = {row[0]: row[1] for row in tables(report)["protocol"][1:]}
    assert sources == {
        "dev-split": "its inner dev split",
        "cross-fitted": "the held-out pairs of the other folds",
        "same-fold": "its held-out pairs",
    }


def test_the_fold_table(report: str, summary: Facts) -> None:
    rows = columns(tables(report)["fold"], skip=("time (h:mm:ss)", "run", "checkpoint"))
    for fold, row in zip(summary["folds"], rows.values(), strict=True):
        assert row == {
            "pairs": [fold["n_pairs"]],
            "n+": [fold["n_positive"]],
            "threshold": [fold["threshold"]],
            "F1": [fold["f1"]],
            "F1 (same fold)": [fold["f1_same_fold"]],
            "dev F1": [fold["dev_f1"]],
            "best epoch": [fold["best_epoch"], fold["epochs"]],
        }
    for fold, cells in zip(summary["folds"], tables(report)["fold"][1:], strict=True):
        hours, minutes, seconds = map(int, cells[8].split(":"))
        assert 3600 * hours + 60 * minutes + seconds == round(fold["seconds"])
        assert cells[0] == str(fold["fold"])
        assert cells[9:] == [f"`{fold['run_id']}`", f"`{fold['checkpoint']}`"]


def test_the_criteria_table(report: str, summary: Facts, uncertainty: Facts, criteria: pd.DataFrame) -> None:
    rows = columns(tables(report)["criterion"], skip=("wording",))
    for criterion, bounds, (name, row) in zip(
        summary["per_criterion"], uncertainty["per_criterion"], rows.items(), strict=True
    ):
        assert name == f"{criterion['criterion_id']} {criterion['symptom']}"
        assert row == {
            "pairs": [criterion["n"]],
            "n+": [criterion["n_positive"]],
            "precision": [criterion["precision"]],
            "recall": [criterion["recall"]],
            "F1": [criterion["f1"], *interval(bounds["f1"])],
            "ROC-AUC": [criterion["roc_auc"]],
        }, name
    assert [row[-1] for row in tables(report)["criterion"][1:]] == criteria["criterion"].tolist()


def test_the_table_of_calibration(report: str, uncertainty: Facts) -> None:
    check = uncertainty["calibration"]
    rows = {row[0]: numbers_of(row[1]) for row in tables(report)["calibration"][1:]}
    assert rows == {
        "expected calibration error": [check["ece"]],
        "slope": estimate(check["slope"]),
        "intercept, at a slope of 1": estimate(check["intercept"]),
        "observed / expected matches": [
            check["observed"],
            pytest.approx(check["expected"], abs=0.06),
            *estimate(check["observed_to_expected"]),
        ],
    }
    by_chance = check["ece_if_calibrated"]
    assert numbers_of(tables(report)["calibration"][1][2]) == [by_chance["mean"], by_chance["p95"], 95]


def test_the_table_of_net_benefit(report: str, uncertainty: Facts) -> None:
    rows = columns(tables(report)["threshold probability"], skip=("false alarms per missed match",))
    shown = [uncertainty["decision_curve"][place] for place in (4, 9, 19, 29, 49)]
    for expected, (threshold, row) in zip(shown, rows.items(), strict=True):
        assert threshold == f"{expected['threshold']:.2f}"
        assert row == {
            "model": estimate(expected["model"]),
            "read all": estimate(expected["read_all"]),
            "model - read all": estimate(expected["gain"]),
        }


def test_criteria_with_few_positives_come_with_their_coverage(report: str, card: str, uncertainty: Facts) -> None:
    for page in (report, card):
        [line] = [line for line in page.splitlines() if line.startswith("A.1 DEPRESSED_MOOD (n+ ")]
        for row, words in zip(uncertainty["per_criterion"], line.split("; "), strict=True):
            assert f"(n+ {row['n_positive']}, {row['simulated_coverage']:.2f})" in words


def test_the_table_of_slices(report: str, summary: Facts) -> None:
    rows = columns(tables(report)["pairs of"])
    assert list(rows) == [part["slice"] for part in summary["slices"]]
    for part, row in zip(summary["slices"], rows.values(), strict=True):
        assert row == {
            "posts": [part["n_posts"]],
            "pairs": [part["n"]],
            "n+": [part["n_positive"]],
            **{heading: [part[METRIC_OF[heading]]] for heading in ("precision", "recall", "F1", "ROC-AUC")},
        }


def test_the_table_of_learned_baselines(report: str, summary: Facts) -> None:
    rows = columns(tables(report)["classifier"])
    for classifier, row in zip([summary, *summary["learned_baselines"].values()], rows.values(), strict=True):
        assert row == {
            **{
                heading: spread(classifier["metrics"][METRIC_OF[heading]])
                for heading in ("F1", "precision", "recall", "ROC-AUC", "average precision")
            },
            "pooled F1": [classifier["pooled"]["f1"]],
        }


def test_the_table_of_differences(report: str, uncertainty: Facts) -> None:
    header, *rows = tables(report)["compared with"]
    assert header[2:6] == ["difference in F1", "p (Holm)", "difference in average precision", "p (descriptive)"]
    for (name, other), row in zip(uncertainty["baselines"].items(), rows, strict=True):
        f1, precision = (other["difference"][metric] for metric in ("f1", "average_precision"))
        assert row[0] == name.replace("_", "-")
        assert [numbers_of(cell) for cell in row[1:6]] == [
            estimate(other["headline"]["f1"]),
            estimate(f1),
            [f1["p_holm"]],
            estimate(precision),
            [precision["p_value"]],
        ]


def test_the_differences_over_seeds(report: str, uncertainty: Facts) -> None:
    _, row = tables(report)["over 3 seeds, compared with"]
    found = uncertainty["seeds"]["differences"]["tfidf"]
    f1, precision = found["f1"], found["average_precision"]
    means = [[of["mean"], *interval(of)] for of in (f1, precision)]
    assert row[0] == "tfidf"
    assert [numbers_of(cell) for cell in row[1:]] == [means[0], [f1["std_between_seeds"]], means[1]]


def test_the_table_of_two_folds_together(
    summary: Facts,
    uncertainty: Facts,
    data_statistics: Facts,
    training_config: Config,
    criteria: pd.DataFrame,
    checks: Facts,
) -> None:
    names = ("f1", "average_precision", "brier", "log_loss", "ece")
    values = iter(range(101, 200))
    ways = {way: {name: next(values) / 1000 for name in names} for way in ("members", "mean_probability", "calibrated")}
    ensemble = {"correlation": 0.345, "two_folds": {"n_pairs": 77, "n_positive": 12, "n_posts": 9, **ways}}
    text = render_report(
        summary, uncertainty, data_statistics, training_config, criteria, checks, "ensemble", ensemble, ALONE
    )
    _, *rows = tables(text)["77 pairs (12 positive) of 9 posts"]
    assert [[numbers_of(cell) for cell in row[1:]] for row in rows] == [
        [[value] for value in of_way.values()] for of_way in ways.values()
    ]
    assert "two folds correlate by 0.345" in text


def test_the_prose_of_the_report(report: str, summary: Facts, uncertainty: Facts, data_statistics: Facts) -> None:
    text = " ".join(report.split())
    duplicates, marked = data_statistics["duplicates"], summary["explicit_negatives"]
    method, seeds = uncertainty["method"], uncertainty["seeds"]["metrics"]["f1"]
    optimism = uncertainty["protocols"]["selection_optimism"]
    macro, coverage = uncertainty["headline"]["macro_f1"], uncertainty["macro_f1_coverage"]
    curve = uncertainty["decision_curve"]
    n_all = summary["n_posts"] * len(summary["per_criterion"])
    undefined = max(row["f1"]["undefined"] for row in uncertainty["per_criterion"])
    for sentence in (
        f"{summary['n_posts']} posts by {data_statistics['n_authors']} authors, 9 criteria, "
        f"{summary['n_pairs']} pairs, of which {summary['n_positive']} are positive "
        f"(base rate {summary['n_positive'] / summary['n_pairs']:.3f}).",
        f"and shuffled with seed {data_statistics['folds']['seed']}.",
        " {posts} posts, {criteria} criteria, {pairs} pairs".format(**data_statistics["counts"]["expected"]),
        f"{n_all - summary['n_pairs']} pairs of these posts and criteria have no label",
        f"more than one fold: {data_statistics['n_authors_straddling_folds']} of {data_statistics['n_authors']}.",
        f"Near-duplicate posts: {duplicates['posts']} in {duplicates['sets']} sets. "
        f"Sets in more than one fold: {duplicates['sets_straddling_folds']}.",
        f"a Jaccard similarity of at least {duplicates['threshold']}, or",
        f"has an accuracy of {summary['baselines']['all_negative']['accuracy']:.3f}",
        f"{summary['macro_f1']['n']} criteria with a positive pair: {summary['macro_f1']['mean']:.3f} "
        f"({macro['low']:.2f}-{macro['high']:.2f}).",
        ", ".join(f"{row['coverage']:.2f} of the studies with {row['posts']:,} posts" for row in coverage) + ".",
        f"with no model it is {summary['baselines']['all_positive']['number_needed_to_read']:.3f}.",
        f"at {len(curve)} of the {len(curve)} thresholds, which lie between {curve[0]['threshold']:.2f} "
        f"and {curve[-1]['threshold']:.2f}.",
        f"Selection optimism: {summary['selection_optimism']:.3f} ({optimism['low']:.2f}-{optimism['high']:.2f})",
        f"The cross-fitted protocol, {summary['cross_fitted_difference']:.3f} against dev-split",
        f"{marked['false_alarms']} of {marked['n']} are false alarms ({marked['rate']:.3f}, against "
        f"{marked['rate_of_other_unmatched']:.3f} of the other unmatched pairs)",
        f"percentiles of {method['resamples']} resamples of the {uncertainty['clusters']['n']} posts "
        f"(cluster bootstrap, seed {method['seed']})",
        f"at most {100 * undefined:.1f} % of the resamples",
        f"mean {seeds['mean']:.3f} ({seeds['low']:.2f}-{seeds['high']:.2f}), "
        f"standard deviation between seeds {seeds['std_between_seeds']:.3f}.",
        f"{method['resamples']} paired permutations",
    ):
        assert sentence in text


def test_the_checklist(report: str, summary: Facts) -> None:
    answers = {row[0]: row[3] for row in tables(report)["item"][1:]}
    truncated = summary["slices"][-1]["n_posts"]
    n_all = summary["n_posts"] * len(summary["per_criterion"])
    for item, words in {
        "7": f"{truncated} of {summary['n_posts']} posts",
        "10": f"{summary['n_posts']} posts, {summary['n_pairs']} pairs, {summary['n_positive']} positive.",
        "11": f"{n_all - summary['n_pairs']} of {n_all} pairs lack a label",
        "12a": f"{summary['n_folds']} folds grouped by post_id;",
        "12b, 12c": "of rank 8;",
        "13": f"base rate {summary['n_positive'] / summary['n_pairs']:.3f};",
        "16": "internal validation only",
    }.items():
        assert words in answers[item], item


def test_the_tables_of_the_model_card(card: str, summary: Facts, uncertainty: Facts) -> None:
    found = tables(card)
    rows = columns(found["metric"])
    assert len(rows) == N_PAIR_METRICS
    for label, row in rows.items():
        metric = METRIC_OF[label]
        bounds = uncertainty["headline"].get(metric)
        assert row == {
            "pooled": [summary["pooled"][metric], *(interval(bounds) if bounds else [])],
            "mean ± std": spread(summary["metrics"][metric]),
            "answering yes to all": [summary["baselines"]["all_positive"][metric]],
        }, label
    for criterion, bounds, row in zip(
        summary["per_criterion"], uncertainty["per_criterion"], columns(found["criterion"]).values(), strict=True
    ):
        assert row == {
            "n+": [criterion["n_positive"]],
            "precision": [criterion["precision"]],
            "recall": [criterion["recall"]],
            "F1": [criterion["f1"], *interval(bounds["f1"])],
        }


def test_the_prose_of_the_model_card(card: str, summary: Facts, data_statistics: Facts) -> None:
    text = " ".join(card.split())
    best = summary["folds"][summary["best_fold"]]
    thresholds = ", ".join(f"fold {fold['fold']} {fold['threshold']:.2f}" for fold in summary["folds"])
    for sentence in (
        f"the best F1 on its dev split ({best['dev_f1']:.3f}); threshold {best['threshold']:.3f}",
        f"{summary['n_posts']} posts in {summary['n_groups']} groups",
        f"9 criteria, {summary['n_pairs']} pairs, of which {summary['n_positive']} are positive",
        f"{data_statistics['n_authors_straddling_folds']} of {data_statistics['n_authors']} authors",
        f"on the held-out fold by the same rule: {summary['selection_optimism']:.3f}.",
        f"Common thresholds: {thresholds}.",
    ):
        assert sentence in text


def test_the_tables_of_a_comparison(comparison: Facts) -> None:
    found = tables(render_comparison(comparison))
    rows = columns(found["metric"])
    assert [METRIC_OF[label] for label in rows] == list(comparison["difference"])
    for label, row in rows.items():
        metric = METRIC_OF[label]
        difference = comparison["difference"][metric]
        assert row == {
            "first": estimate(comparison["first"][metric]),
            "second": estimate(comparison["second"][metric]),
            "first - second": estimate(difference),
            "p (F1 tested, others descriptive)": [difference["p_value"]],
        }, label
    for criterion, (name, row) in zip(comparison["per_criterion"], columns(found["criterion"]).items(), strict=True):
        assert name == criterion["criterion_id"]
        assert row == {
            "n+": [criterion["n_positive"]],
            "first - second": estimate(criterion),
            "p (Holm)": [criterion["p_holm"]],
        }


def test_the_prose_of_a_comparison(comparison: Facts) -> None:
    text = " ".join(render_comparison(comparison).split())
    assert f"{comparison['n_pairs']} pairs of {comparison['clusters']['n']} authors" in text
    assert f"95 % intervals from {comparison['method']['resamples']} resamples" in text
    for name in ("first", "second"):
        assert f"{name}: run `{name}-run`" in text
