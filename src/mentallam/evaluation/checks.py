"""Coded checks of a cross-validation: what a statistical reviewer would ask, answered from the saved figures.

A check is a small function from the results to a finding; `CHECKS` lists them in the order in which they are shown. A
code is never given to another check. docs/checks.md explains each one, and a test holds the page equal to the list.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mentallam.config import Config
from mentallam.evaluation.few_positives import FEW
from mentallam.evaluation.metrics import criterion_name
from mentallam.evaluation.thresholds import GRID

PASSED, WARNING, NOT_CHECKED = "passed", "warning", "not checked"

FEW_CLUSTERS = 30
"""Tests and intervals from fewer clusters reject too often (Cameron, Gelbach and Miller 2008, 5 to 30 clusters)."""

MOST_CUT = 0.05
"""The largest share of the positive pairs that may belong to truncated posts."""


@dataclass(frozen=True)
class CheckedRun:
    """What the checks look at.

    Attributes:
        summary: As `aggregate.summarise` returns it, with `learned_baselines`.
        uncertainty: As the node `estimate_uncertainty` returns it: `uncertainty.estimate_uncertainty`, and `seeds`.
        data: Statistics of the corpus, as data_processing saves them.
        config: The configuration of the run.
        candidates: As `reported_runs.find_candidates` returns it; None where nobody has counted them.
    """

    summary: dict[str, Any]
    uncertainty: dict[str, Any]
    data: dict[str, Any]
    config: Config
    candidates: dict[str, Any] | None = None


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        status: `PASSED`, `WARNING` or `NOT_CHECKED`.
        sentence: The finding with its figures, or why nothing could be checked; plain text, not Markdown.
        figures: The figures that decided, by name.
    """

    status: str
    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        code: Its code.
        title: What is the case where the check warns, as a clause.
        look: From the results to a finding.
        advice: What to do about a warning, as Markdown.
        if_not_checked: What to do so that it can be checked, as Markdown; empty where it always can.
    """

    code: str
    title: str
    look: Callable[[CheckedRun], Finding]
    advice: str
    if_not_checked: str = ""


def make_checks(run: CheckedRun) -> dict[str, Any]:
    """Make all checks.

    Returns:
        JSON-serialisable: cv_run_id; `passed`, `warnings` and `not_checked`, the numbers of checks; and `checks`, in
        the order of `CHECKS`: code, title, status, finding (a sentence), figures, what_to_do (Markdown, empty where
        the check passed) and page, the place that explains the check.
    """
    rows = []
    for check in CHECKS:
        found = check.look(run)
        what_to_do = {WARNING: check.advice, NOT_CHECKED: check.if_not_checked}.get(found.status, "")
        rows.append(
            {
                **{"code": check.code, "title": check.title, "status": found.status, "finding": found.sentence},
                **{"figures": dict(found.figures), "what_to_do": what_to_do},
                "page": f"docs/checks.md#{check.code.lower()}",
            }
        )
    statuses = [row["status"] for row in rows]
    return {
        "cv_run_id": run.summary["cv_run_id"],
        "passed": statuses.count(PASSED),
        "warnings": statuses.count(WARNING),
        "not_checked": statuses.count(NOT_CHECKED),
        "checks": rows,
    }


def interval_in_words(interval: Mapping[str, Any], confidence: float) -> str:
    """Write an interval such as `0.640 (95 % interval 0.531 to 0.742)`; its bounds must be defined."""
    bounds = f"{interval['low']:.3f} to {interval['high']:.3f}"
    return f"{interval['estimate']:.3f} ({100 * confidence:g} % interval {bounds})"


def _judged(warns: bool, warning: str, passed: str, **figures: Any) -> Finding:
    return Finding(WARNING, warning, figures) if warns else Finding(PASSED, passed, figures)


def _in_words(run: CheckedRun, interval: Mapping[str, Any]) -> str:
    return interval_in_words(interval, run.uncertainty["method"]["confidence"])


def _shown(baseline: str) -> str:
    return baseline.replace("_", "-")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _folds(numbers: list[int]) -> str:
    return f"{'fold' if len(numbers) == 1 else 'folds'} {', '.join(map(str, numbers))}"


def _baselines(run: CheckedRun) -> Finding:
    differences = {
        name: other["difference"]["f1"]
        for name, other in run.uncertainty["baselines"].items()
        if other["difference"]["f1"]["low"] is not None
    }
    if not differences:
        return Finding(NOT_CHECKED, "the difference in F1 to a baseline is not defined without a positive pair")
    closest = min(differences, key=lambda name: differences[name]["low"])
    unbeaten = [_shown(name) for name, difference in differences.items() if difference["low"] <= 0]
    gain = f"the model's F1 minus that of {_shown(closest)} is {_in_words(run, differences[closest])}"
    figures = {"baseline": closest, "difference": differences[closest]}
    if not unbeaten and not run.summary["learned_baselines"]:
        return Finding(
            NOT_CHECKED, "no baseline that reads posts was fitted; those that read nothing are beaten", figures
        )
    return _judged(
        bool(unbeaten),
        f"no gain is shown over {', '.join(unbeaten)}: {gain}",
        f"the model beats every baseline: {gain}",
        **figures,
    )


def _seeds(run: CheckedRun) -> Finding:
    if not run.uncertainty["seeds"]:
        return Finding(NOT_CHECKED, "one training shows no spread between seeds")
    spread = run.uncertainty["seeds"]["metrics"]["f1"]["std_between_seeds"]
    defined = {
        name: other["difference"]["f1"]["estimate"]
        for name, other in run.uncertainty["baselines"].items()
        if other["difference"]["f1"]["estimate"] is not None
    }
    if spread is None or not defined:
        return Finding(NOT_CHECKED, "F1 is not defined in every repeat")
    closest = min(defined, key=lambda name: abs(defined[name]))
    against = f"the F1 of {_shown(closest)} differs from the model's by {defined[closest]:.3f}"
    return _judged(
        spread >= abs(defined[closest]),
        f"the standard deviation of F1 between seeds is {spread:.3f}, and {against}: another seed may reverse the "
        "order",
        f"the standard deviation of F1 between seeds is {spread:.3f}, and {against}",
        std_between_seeds=spread,
        baseline=closest,
        difference=defined[closest],
    )


def _few_positives(run: CheckedRun) -> Finding:
    few = set(run.summary["few_positives"])
    rows = [row for row in run.summary["per_criterion"] if row["criterion_id"] in few]
    named = ", ".join(f"{criterion_name(row)} ({row['n_positive']})" for row in rows)
    return _judged(
        bool(rows),
        f"positive pairs are few in {len(rows)} of {len(run.summary['per_criterion'])} criteria: {named}",
        f"every criterion has {FEW} positive pairs or more",
        n_positive={row["criterion_id"]: row["n_positive"] for row in rows},
    )


def _authors(run: CheckedRun) -> Finding:
    if run.data["n_authors"] is None:
        return Finding(NOT_CHECKED, "nothing names the authors of all posts")
    straddling, authors = run.data["n_authors_straddling_folds"], run.data["n_authors"]
    return _judged(
        straddling > 0,
        f"{straddling} of {authors} authors have posts in more than one fold, so a model was scored on posts of "
        "authors whose style it had learnt",
        f"none of the {authors} authors has posts in more than one fold",
        straddling=straddling,
        authors=authors,
    )


def _truncation(run: CheckedRun) -> Finding:
    positive, pairs = run.summary["n_positive"], run.summary["n_pairs"]
    cut = next((row for row in run.summary["slices"] if row["slice"] == "truncated posts"), None)
    if cut is None:
        return Finding(PASSED, "no post was truncated", {"positive": 0.0})
    if not positive:
        return Finding(NOT_CHECKED, "no pair is positive")
    share = cut["n_positive"] / positive
    other = (cut["n"] - cut["n_positive"]) / max(1, pairs - positive)
    sentence = (
        f"{cut['n_posts']} posts were truncated; they hold {_percent(share)} of the positive pairs and "
        f"{_percent(other)} of the others"
    )
    return _judged(share > MOST_CUT, sentence, sentence, positive=share, unmatched=other)


def _candidates(run: CheckedRun) -> Finding:
    if run.candidates is None:
        return Finding(NOT_CHECKED, "the other cross-validations of these data were not counted for this report")
    scores = [score for score in run.candidates["f1"].values() if score is not None]
    spread = f", whose pooled F1 reaches from {min(scores):.3f} to {max(scores):.3f}" if len(scores) > 1 else ""
    return _judged(
        run.candidates["n"] > 1,
        f"this is one of {run.candidates['n']} cross-validations of the same data{spread}; the best of several is in "
        "part the luckiest",
        "this is the only cross-validation of these data",
        candidates=run.candidates["n"],
    )


def _dev_split(run: CheckedRun) -> Finding:
    positive = {fold["fold"]: fold["dev_positive"] for fold in run.summary["folds"]}
    if None in positive.values():
        return Finding(NOT_CHECKED, "the folds were trained by a version that did not count the pairs of the dev split")
    fewest = min(positive, key=lambda fold: positive[fold])
    named = f"the dev split of fold {fewest} has the fewest positive pairs, {positive[fewest]}"
    return _judged(
        positive[fewest] < FEW,
        f"{named}; epoch, calibration and threshold were chosen on so few",
        named,
        positive={str(fold): number for fold, number in positive.items()},
    )


def _slope(run: CheckedRun) -> Finding:
    slope = run.uncertainty["calibration"]["slope"]
    if slope["low"] is None:
        return Finding(NOT_CHECKED, "the slope is not defined for these pairs")
    reading = "too extreme" if slope["estimate"] < 1 else "not extreme enough"
    sentence = f"the calibration slope is {_in_words(run, slope)}"
    return _judged(
        not slope["low"] <= 1 <= slope["high"], f"{sentence}: the probabilities are {reading}", sentence, slope=slope
    )


def _synthetic(run: CheckedRun) -> Finding:
    return _judged(
        run.summary["synthetic"],
        "a program invented the posts, so the figures say nothing about people",
        "the corpus is declared to hold real posts",
    )


def _fold_balance(run: CheckedRun) -> Finding:
    folds, found = run.data["folds"], []
    if folds["balance"]["uneven"]:
        balance = folds["balance"]
        found.append(
            f"fold {balance['fold']} holds out {_percent(balance['share'])} of the posts instead of "
            f"{_percent(balance['equal_share'])}"
        )
    for label in ("positive", "negative"):
        for part, numbers in folds[f"without_{label}s"].items():
            if numbers:
                found.append(f"no {part.replace('_', '-')} pair of {_folds(numbers)} is {label}")
    return _judged(
        bool(found),
        "; ".join(found),
        "every part of every fold has positive and negative pairs, and the folds are of even size",
        **{name: folds[name] for name in ("balance", "without_positives", "without_negatives")},
    )


def _finished(run: CheckedRun) -> Finding:
    finished, planned = run.summary["n_folds"], run.summary["planned_folds"]
    return _judged(
        finished < planned,
        f"{finished} of {planned} folds are finished, so the posts of the others are in no figure",
        f"all {planned} folds are finished",
        finished=finished,
        planned=planned,
    )


def _random_model(run: CheckedRun) -> Finding:
    model = run.config.model
    return _judged(
        model.source == "random",
        f"the base model {model.name} has random weights: it has read no text before the training",
        f"the base model {model.name} has trained weights",
    )


def _thresholds(run: CheckedRun) -> Finding:
    at_edge = {
        fold["fold"]
        for fold in run.summary["folds"]
        if fold["n_marked"] in (0, fold["n_pairs"]) or fold["threshold"] in (GRID[0], GRID[-1])
    }
    return _judged(
        bool(at_edge),
        f"the threshold of {_folds(sorted(at_edge))} is at an end of the grid, or marks all held-out pairs or none",
        "every fold marks some of its held-out pairs and not all",
        marked={str(fold["fold"]): fold["n_marked"] / fold["n_pairs"] for fold in run.summary["folds"]},
    )


def _calibration_error(run: CheckedRun) -> Finding:
    check = run.uncertainty["calibration"]
    error, limit = check["ece"], check["ece_if_calibrated"]["p95"]
    sentence = (
        f"the expected calibration error is {error:.3f}; by chance alone it is up to {limit:.3f} in 95 % of cases"
    )
    return _judged(error > limit, sentence, sentence, error=error, p95=limit)


def _duplicates(run: CheckedRun) -> Finding:
    duplicates = run.data["duplicates"]
    if duplicates["handling"] == "ignore":
        return Finding(NOT_CHECKED, "near-duplicate posts were not looked for")
    straddling = duplicates["sets_straddling_folds"]
    return _judged(
        straddling > 0,
        f"{straddling} of {duplicates['sets']} sets of near-duplicate posts are in more than one fold, so a model was "
        "scored on posts that it had all but read",
        "no set of near-duplicate posts that was found is in more than one fold",
        straddling=straddling,
        sets=duplicates["sets"],
    )


def _clusters(run: CheckedRun) -> Finding:
    clusters = run.uncertainty["clusters"]
    resampled = f"intervals and tests resample {clusters['n']} {clusters['unit']}s"
    return _judged(
        clusters["n"] < FEW_CLUSTERS,
        f"{resampled}; with fewer than {FEW_CLUSTERS} they are too narrow",
        resampled,
        **clusters,
    )


def _sample(run: CheckedRun) -> Finding:
    fraction = run.config.training.sample_fraction
    return _judged(
        fraction < 1,
        f"each model learnt from {_percent(fraction)} of its fold's posts (training.sample_fraction)",
        "each model learnt from all posts of its fold",
        sample_fraction=fraction,
    )


CHECKS = (
    Check(
        "MC001",
        "a baseline is at least as good",
        _baselines,
        "Claim no gain from fine-tuning on these data. More posts, more epochs or a larger base model may bring one; "
        "compare again over several seeds.",
        "Fit the baselines: `overrides=baselines.models=[tfidf,embedding]`.",
    ),
    Check(
        "MC002",
        "seeds matter as much as the model",
        _seeds,
        "Report the mean over the seeds with the spread between them, never the best seed; add seeds before a "
        "comparison.",
        "Train with other seeds, `mentallam seeds 42 142 242` (docs/evaluation.md, Repeats with other seeds).",
    ),
    Check(
        "MC003",
        f"some criteria have fewer than {FEW} positive pairs",
        _few_positives,
        "Do not rank these criteria or compare their F1. Read their intervals as too narrow, and annotate more posts "
        "for them.",
    ),
    Check(
        "MC004",
        "authors straddle folds",
        _authors,
        "Group the folds by author, `--params folds.group_by=author`, and train again.",
        "Name the authors: a column `author` in the posts, or ids of the form `s_<author>_<n>`.",
    ),
    Check(
        "MC005",
        "truncation hits positive pairs",
        _truncation,
        "Raise `model.max_length`, so that the evidence at the end of long posts is read. The section Where the "
        "errors are compares truncated with whole posts.",
        "Finish a fold that has positive pairs.",
    ),
    Check(
        "MC006",
        "this run is one of several on the same data",
        _candidates,
        "State how many runs there were, and their spread. Choose between them by the paired interval, "
        '`kedro run --pipeline compare --params "first=RUN_ID,second=RUN_ID"`, or fix the recipe and report its mean.',
        "Count the finished runs with this data hash in MLflow, and state their number.",
    ),
    Check(
        "MC007",
        "the dev splits are small",
        _dev_split,
        "Lower `folds.dev_splits`, so that more posts choose, or annotate more posts. Read the dev F1 as noise.",
        "Train again.",
    ),
    Check(
        "MC008",
        "the calibration slope is not 1",
        _slope,
        "Do not read the probabilities as such, nor the net benefit. Look at the section Calibration; a larger dev "
        "split fits the calibration better.",
        "Finish a fold that has positive pairs.",
    ),
    Check(
        "MC009",
        "the data are synthetic",
        _synthetic,
        "Use the figures to test the software, and quote none of them as a result.",
    ),
    Check(
        "MC010",
        "the folds are unbalanced",
        _fold_balance,
        "Read the pooled figures rather than means over folds. Fewer folds (`MENTALLAM_CV_FOLDS`), another "
        "`folds.seed` or smaller groups balance them.",
    ),
    Check(
        "MC011",
        "the cross-validation is not finished",
        _finished,
        "Finish it with the command that began it, then run `kedro run --pipeline reporting`.",
    ),
    Check(
        "MC012",
        "the base model is random",
        _random_model,
        "Use the figures to test the software, and quote none of them as a result.",
    ),
    Check(
        "MC013",
        "a threshold marks all pairs or none",
        _thresholds,
        "Look at the threshold curves of these folds. The scores of their dev splits did not separate the labels: "
        "train for longer, or check the learning curves.",
    ),
    Check(
        "MC014",
        "the calibration error exceeds chance",
        _calibration_error,
        "Do not read the probabilities as such. The reliability diagram shows where they are off.",
    ),
    Check(
        "MC015",
        "near-duplicates straddle folds",
        _duplicates,
        "Keep near-duplicates in one fold, `--params folds.duplicates=group`, and train again.",
        "Look for them: `--params folds.duplicates=group`.",
    ),
    Check(
        "MC016",
        f"fewer than {FEW_CLUSTERS} groups are resampled",
        _clusters,
        "Read intervals and p-values as too optimistic; collect posts of more authors.",
    ),
    Check(
        "MC017",
        "the models learnt from a sample",
        _sample,
        "Train with `training.sample_fraction=1` before you report a result.",
    ),
)
"""Every check, in the order in which they are shown."""
