"""What each check looks for: one function per check, from the saved results to a finding.

A finding is plain text with its figures. `checks` gives the functions their codes, and says what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mentallam.config import Config
from mentallam.evaluation.few_positives import FEW
from mentallam.evaluation.metrics import criterion_name
from mentallam.evaluation.thresholds import GRID

PASSED, WARNING, NOT_CHECKED = "passed", "warning", "not checked"

FEW_CLUSTERS = 30
"""Tests and intervals from fewer clusters reject too often (Cameron, Gelbach and Miller 2008, 5 to 30 clusters)."""

FAR_BETTER = 0.1
"""The gain in a criterion's F1 from which on a baseline's lead is named, whatever its interval."""

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


def interval_in_words(interval: Mapping[str, Any], confidence: float) -> str:
    """Write an interval such as `0.640 (95 % interval 0.531 to 0.742)`; its bounds must be defined."""
    bounds = f"{interval['low']:.3f} to {interval['high']:.3f}"
    return f"{interval['estimate']:.3f} ({100 * confidence:g} % interval {bounds})"


def baselines(run: CheckedRun) -> Finding:
    """Judge the paired difference in F1 to every baseline."""
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


def seeds(run: CheckedRun) -> Finding:
    """Compare the spread of F1 between seeds with the difference to the closest baseline."""
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


def criteria_lost(run: CheckedRun) -> Finding:
    """Name the criteria on which a learned baseline's F1 is far above the model's."""
    learned = run.summary["learned_baselines"]
    if not learned:
        return Finding(NOT_CHECKED, "no baseline that reads posts was fitted")
    lost = []
    for number, row in enumerate(run.summary["per_criterion"]):
        f1 = {name: each["per_criterion"][number]["f1"] for name, each in learned.items()}
        best = max(f1, key=lambda name: f1[name] or 0.0)
        if None not in (row["f1"], f1[best]) and f1[best] >= row["f1"] + FAR_BETTER:
            lost.append(
                {"criterion": criterion_name(row), "f1": row["f1"], "baseline": _shown(best), "baseline_f1": f1[best]}
            )
    named = ", ".join("{criterion} ({f1:.3f}, {baseline} {baseline_f1:.3f})".format_map(each) for each in lost)
    return _judged(
        bool(lost),
        f"the F1 of a baseline is {FAR_BETTER:g} or more above the model's on: {named}",
        f"no learned baseline's F1 is {FAR_BETTER:g} or more above the model's on any criterion",
        criteria=lost,
    )


def few_positives(run: CheckedRun) -> Finding:
    """Name the criteria with few positive pairs."""
    few = set(run.summary["few_positives"])
    rows = [row for row in run.summary["per_criterion"] if row["criterion_id"] in few]
    named = ", ".join(f"{criterion_name(row)} ({row['n_positive']})" for row in rows)
    return _judged(
        bool(rows),
        f"positive pairs are few in {len(rows)} of {len(run.summary['per_criterion'])} criteria: {named}",
        f"every criterion has {FEW} positive pairs or more",
        n_positive={row["criterion_id"]: row["n_positive"] for row in rows},
    )


def authors(run: CheckedRun) -> Finding:
    """Count the authors in more than one fold."""
    if run.data["n_authors"] is None:
        return Finding(NOT_CHECKED, "nothing names the authors of all posts")
    straddling, authors = run.data["n_authors_straddling_folds"], run.data["n_authors"]
    return _judged(
        straddling > 0,
        f"{straddling} of {authors} authors have posts in more than one fold, so models were scored on authors from "
        "whose other posts they had learnt",
        f"none of the {authors} authors has posts in more than one fold",
        straddling=straddling,
        authors=authors,
    )


def truncation(run: CheckedRun) -> Finding:
    """Compare how many positive and other pairs belong to truncated posts."""
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


def candidates(run: CheckedRun) -> Finding:
    """Count the cross-validations of the same data."""
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


def dev_split(run: CheckedRun) -> Finding:
    """Find the dev split with the fewest positive pairs."""
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


def slope(run: CheckedRun) -> Finding:
    """Judge the calibration slope by its interval."""
    slope = run.uncertainty["calibration"]["slope"]
    if slope["low"] is None:
        return Finding(NOT_CHECKED, "the slope is not defined for these pairs")
    reading = "too extreme" if slope["estimate"] < 1 else "not extreme enough"
    sentence = f"the calibration slope is {_in_words(run, slope)}"
    return _judged(
        not slope["low"] <= 1 <= slope["high"], f"{sentence}: the probabilities are {reading}", sentence, slope=slope
    )


def synthetic(run: CheckedRun) -> Finding:
    """Tell whether the data are synthetic."""
    return _judged(
        run.summary["synthetic"],
        "a program invented the posts, so the figures say nothing about people",
        "the corpus is declared to hold real posts",
    )


def fold_balance(run: CheckedRun) -> Finding:
    """Find uneven folds, and parts without a pair of a label."""
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


def finished(run: CheckedRun) -> Finding:
    """Count the finished folds."""
    finished, planned = run.summary["n_folds"], run.summary["planned_folds"]
    return _judged(
        finished < planned,
        f"{finished} of {planned} folds are finished, so the posts of the others are in no figure",
        f"all {planned} folds are finished",
        finished=finished,
        planned=planned,
    )


def random_model(run: CheckedRun) -> Finding:
    """Tell whether the base model was trained."""
    model = run.config.model
    return _judged(
        model.source == "random",
        f"the base model {model.name} has random weights: it has read no text before the training",
        f"the base model {model.name} has trained weights",
    )


def thresholds(run: CheckedRun) -> Finding:
    """Find folds whose threshold separates nothing."""
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


def calibration_error(run: CheckedRun) -> Finding:
    """Judge the calibration error by what chance shows."""
    check = run.uncertainty["calibration"]
    error, limit = check["ece"], check["ece_if_calibrated"]["p95"]
    sentence = (
        f"the expected calibration error is {error:.3f}; by chance alone it is up to {limit:.3f} in 95 % of cases"
    )
    return _judged(error > limit, sentence, sentence, error=error, p95=limit)


def duplicates(run: CheckedRun) -> Finding:
    """Count the sets of near-duplicates in more than one fold."""
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


def clusters(run: CheckedRun) -> Finding:
    """Count the authors, groups or posts that intervals and tests resample."""
    drawn = run.uncertainty["clusters"]
    resampled = f"intervals and tests resample {drawn['n']} {drawn['unit']}s"
    return _judged(
        drawn["n"] < FEW_CLUSTERS,
        f"{resampled}; with fewer than {FEW_CLUSTERS} they are too narrow",
        resampled,
        **drawn,
    )


def sample(run: CheckedRun) -> Finding:
    """Tell whether the models learnt from all posts."""
    fraction = run.config.training.sample_fraction
    return _judged(
        fraction < 1,
        f"each model learnt from {_percent(fraction)} of its fold's posts (training.sample_fraction)",
        "each model learnt from all posts of its fold",
        sample_fraction=fraction,
    )


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
