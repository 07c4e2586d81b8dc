"""What a run says at its end: what came out, where to look, what to try next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentallam.reports.rounding import figure

_ALL_POSITIVE = "all_positive"
_SENTENCE = "I have been awake until four every night this month."


def outcome_in_words(
    summary: Mapping[str, Any],
    uncertainty: Mapping[str, Any],
    report: Path,
    model_card: Path,
    log: Path,
    runs: str,
    env: str,
    elapsed: str,
) -> str:
    """Return the last lines of a run that made a report.

    Args:
        summary: As `aggregate.summarise` returns it.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
        report: The report's page.
        model_card: The model card.
        log: The full log.
        runs: The address of the list of runs, once `kedro mlflow ui` or a server shows it.
        env: The option that names the environment, with a blank before it, or nothing.
        elapsed: How long the run took.
    """
    look = {
        f"{report}": "the report; its first page says what to doubt",
        f"{model_card}": "the model card: what is served, and for what",
        f"kedro mlflow ui{env}": f"the runs, at {runs}",
    }
    predict = [f'mentallam predict{env} "{_SENTENCE}"', f"kedro run{env} --pipeline inference --params input=posts.csv"]
    if _is_partial(summary):
        predict = [f"kedro run{env}    # goes on with the other folds"]  # no model has been registered
    lines = [
        "",
        *result_lines(summary, uncertainty),
        "",
        "Look at",
        *_aligned(look),
        "Try",
        *(f"  {command}" for command in [*predict, f"kedro viz{env}"]),
        "",
        f"Done after {elapsed}; the full log is {log}",
    ]
    return "\n".join(lines)


def result_lines(summary: Mapping[str, Any], uncertainty: Mapping[str, Any]) -> list[str]:
    """Return F1 of the model, of the best baseline and of yes to every pair, a line each, and a warning if need be.

    Args:
        summary: As `aggregate.summarise` returns it.
        uncertainty: As `uncertainty.estimate_uncertainty` returns it.
    """
    rows = [(uncertainty["headline"]["f1"], _model(summary))]
    baselines = baseline_f1(uncertainty)
    if ranked := baselines_by_f1(uncertainty):
        rows.append((baselines[ranked[0]], f"the best of {len(ranked)} baselines, {ranked[0]}"))
    rows.append((baselines[_ALL_POSITIVE], "yes to every pair"))
    warning = ["SYNTHETIC DATA: invented posts, so the figures say nothing about people."]
    return [
        *(warning if summary["synthetic"] else []),
        *(f"F1 {_with_interval(f1, uncertainty)}: {name}" for f1, name in rows),
    ]


def baseline_f1(uncertainty: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return F1 of each baseline, pooled over all pairs, with its interval."""
    return {name: found["headline"]["f1"] for name, found in uncertainty["baselines"].items()}


def baselines_by_f1(uncertainty: Mapping[str, Any]) -> list[str]:
    """Return the baselines whose F1 is defined, the best first, without yes to every pair, which reads nothing."""
    f1 = {name: found["estimate"] for name, found in baseline_f1(uncertainty).items() if name != _ALL_POSITIVE}
    return sorted((name for name in f1 if f1[name] is not None), key=lambda name: -float(f1[name]))


def batch_in_words(summary: Mapping[str, Any], predictions: Path | str, summary_file: Path | str) -> str:
    """Return the last lines of a run that answered posts.

    Args:
        summary: As `serving.summary.summarise_batch` returns it.
        predictions: The file of the answers, or its address.
        summary_file: The file of the summary, or its address.
    """
    counts, speed = summary["counts"], f"{summary['posts_per_second']:.3g} posts per second"
    answered = f"{counts['posts']} posts, {counts['pairs']} pairs, {counts['matched_pairs']} of them yes; {speed}"
    lines = [
        "",
        answered,
        *(["SYNTHETIC: the model was trained on invented posts."] if summary["model"]["synthetic"] else []),
        summary["notice"],
        "",
        "Look at",
        *_aligned(
            {
                f"{predictions}": "an answer per post and criterion, without the text",
                f"{summary_file}": "counts and rates, beside those of the training posts",
            }
        ),
    ]
    return "\n".join(lines)


def _model(summary: Mapping[str, Any]) -> str:
    partly = f" of {summary['planned_folds']}" if _is_partial(summary) else ""
    return f"the model, on {summary['n_pairs']} held-out pairs of {summary['n_folds']}{partly} folds"


def _is_partial(summary: Mapping[str, Any]) -> bool:
    return bool(summary["n_folds"] < summary["planned_folds"])


def _with_interval(f1: Mapping[str, Any], uncertainty: Mapping[str, Any]) -> str:
    if f1["low"] is None:
        return figure(f1["estimate"])
    confidence = f"{100 * uncertainty['method']['confidence']:g}"
    return f"{figure(f1['estimate'])} ({confidence} % interval {figure(f1['low'])} to {figure(f1['high'])})"


def _aligned(rows: Mapping[str, str]) -> list[str]:
    width = max(map(len, rows))
    return [f"  {name:{width}}  {meaning}" for name, meaning in rows.items()]
