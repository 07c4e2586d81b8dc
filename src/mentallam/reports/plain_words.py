"""The summary that opens the report: what was asked, on which data, the result, against what, and what to doubt."""

from collections.abc import Mapping
from typing import Any

from mentallam.config import Config
from mentallam.evaluation.findings import NOT_CHECKED, WARNING, interval_in_words
from mentallam.markdown import as_code, as_text

COUNTS_WORDS = "tfidf"
"""The learned baseline that a summary compares with: it counts words and reads nothing else."""


def plain_words(
    summary: Mapping[str, Any],
    uncertainty: Mapping[str, Any],
    data_statistics: Mapping[str, Any],
    config: Config,
    checks: Mapping[str, Any],
) -> list[str]:
    """Summarise a cross-validation for a reader who knows none of its terms.

    Args:
        summary: As `aggregate.summarise` returns it, with `learned_baselines`.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        data_statistics: Statistics of the corpus, as data_processing saves them.
        config: The configuration of the run.
        checks: As `checks.make_checks` returns them.

    Returns:
        Paragraphs of Markdown.
    """
    return [
        f"**The question.** {_question(summary, data_statistics)} {_method(summary, config)}",
        f"**The result.** {_result(summary, uncertainty)}",
        *([f"**Compared with simpler means.** {_comparison(summary, uncertainty)}"] if summary["n_positive"] else []),
        f"**What to doubt.** {_doubts(checks)}",
        "A match is a statement about the wording of a post. It is never a diagnosis of the person who wrote it.",
    ]


def _question(summary: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    posts, criteria, authors = summary["n_posts"], len(summary["per_criterion"]), data["n_authors"]
    by = f" by {_counted(authors, 'author')}" if authors is not None and not _is_partial(summary) else ""
    corpus = as_text(data["corpus"])
    asked = (
        f'Does a post match a criterion? The data are {_counted(posts, "post")}{by} from the corpus "{corpus}", '
        f"{'' if posts == 1 else 'each '}paired with {'one criterion' if criteria == 1 else f'{criteria} criteria'}. "
        f"Of the {_counted(summary['n_pairs'], 'labelled pair')}, {_matches(summary)}."
    )
    if summary["synthetic"]:
        asked += " The posts are synthetic: a program invented them, so no figure below says anything about people."
    if _is_partial(summary):
        finished = summary["n_folds"]
        asked += (
            f" Only {finished} of {summary['planned_folds']} folds {_are(finished)} finished, so these counts and all "
            f"figures cover the posts of {'this fold' if finished == 1 else 'these folds'} alone."
        )
    return asked


def _method(summary: Mapping[str, Any], config: Config) -> str:
    times = {1: "once", 2: "twice, each time"}.get(summary["n_folds"], f"{summary['n_folds']} times, each time")
    return (
        f"The base model {as_code(config.model.name)} was fine-tuned {times} without some of the posts, and then "
        "labelled the posts that it had not seen."
    )


def _result(summary: Mapping[str, Any], uncertainty: Mapping[str, Any]) -> str:
    marked, found, positive = summary["n_marked"], summary["n_found"], summary["n_positive"]
    marks = f"The models mark {_counted(marked, 'pair')} as {'a match' if marked == 1 else 'matches'}"
    if not positive:
        return f"{marks}. Since no pair is labelled as a match, nothing shows whether the models find matches."
    if not marked:
        return f"The models mark no pair as a match, so they {_find(0, positive)}, and F1 is 0."
    f1 = uncertainty["headline"]["f1"]
    stated = f"{summary['pooled']['f1']:.3f}"
    if f1["low"] is not None:
        stated = interval_in_words(f1, uncertainty["method"]["confidence"])
    return (
        f"{marks}, and {_labelled_so(found, marked)} (precision {summary['pooled']['precision']:.3f}). They "
        f"{_find(found, positive)} (recall {summary['pooled']['recall']:.3f}). F1, which is high only if both are, is "
        f"{stated}."
    )


def _comparison(summary: Mapping[str, Any], uncertainty: Mapping[str, Any]) -> str:
    all_positive = summary["baselines"]["all_positive"]["f1"]
    missed = ", which the models do not reach" if summary["pooled"]["f1"] < all_positive else ""
    everything = f"Marking every pair reaches an F1 of {all_positive:.3f}{missed}."
    if COUNTS_WORDS not in summary["learned_baselines"]:
        return f"{everything} No classifier that counts words was fitted, so it is unknown whether the models beat one."
    words = summary["learned_baselines"][COUNTS_WORDS]["pooled"]["f1"]
    difference = uncertainty["baselines"][COUNTS_WORDS]["difference"]["f1"]
    reaches = f"{everything} A classifier that only counts words reaches {words:.3f} on the same pairs and folds"
    if difference["low"] is None:
        return f"{reaches}."
    gain = interval_in_words(difference, uncertainty["method"]["confidence"])
    if difference["low"] > 0:
        verdict = "The models beat counting words on these posts"
    elif difference["high"] < 0:
        verdict = "Counting words is better on these posts"
    else:
        verdict = "The interval includes 0, so it is not shown that the models beat counting words"
    return f"{reaches}. The models' F1 minus this one is {gain}. {verdict}."


def _doubts(checks: Mapping[str, Any]) -> str:
    warnings = [check for check in checks["checks"] if check["status"] == WARNING]
    missing = [check["code"] for check in checks["checks"] if check["status"] == NOT_CHECKED]
    total = len(checks["checks"])
    if not warnings:
        said = f"None of the {total} checks below raises a warning."
    else:
        listed = "; ".join(f"{check['title']} ({check['code']})" for check in warnings)
        raised = "raises" if len(warnings) == 1 else "raise"
        said = f"{len(warnings)} of the {total} checks below {raised} a warning: {listed}."
    if missing:
        said += f" {len(missing)} could not be made: {', '.join(missing)}."
    return f"{said} No check can tell how the models do on posts from elsewhere."


def _is_partial(summary: Mapping[str, Any]) -> bool:
    return bool(summary["n_folds"] < summary["planned_folds"])


def _matches(summary: Mapping[str, Any]) -> str:
    positive = summary["n_positive"]
    if not positive:
        return "none is a match"
    share = f"{100 * positive / summary['n_pairs']:.1f} %"
    return f"{positive:,} ({share}) {_are(positive)} {'a match' if positive == 1 else 'matches'}"


def _labelled_so(found: int, marked: int) -> str:
    if marked == 1:
        return "it is labelled as such" if found else "it is not labelled as such"
    number = {0: "none", marked: "all"}.get(found, f"{found:,}")
    return f"{number} of them {_are(found)} labelled as such"


def _find(found: int, positive: int) -> str:
    if positive == 1:
        return "find the only matching pair" if found else "do not find the only matching pair"
    if found == positive:
        return f"find all {positive:,} matching pairs"
    return (
        f"find {found:,} of the {positive:,} matching pairs"
        if found
        else f"find none of the {positive:,} matching pairs"
    )


def _are(number: int) -> str:
    return "is" if number in (0, 1) else "are"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
