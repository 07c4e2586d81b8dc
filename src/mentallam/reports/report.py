"""The report of a cross-validation as Markdown."""

import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mentallam.config import Config, to_dict
from mentallam.corpus.duplicates import FEWEST_WORDS
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.aggregate import median_epoch
from mentallam.evaluation.decision import describe
from mentallam.evaluation.few_positives import FEW
from mentallam.evaluation.metrics import METRICS, METRICS_BY_NAME, criterion_name, mean_and_std
from mentallam.evaluation.net_benefit import useful_thresholds
from mentallam.markdown import as_code, as_text
from mentallam.reports.plain_words import plain_words
from mentallam.reports.rounding import figure, p_value
from mentallam.reports.tripod import checklist

TEMPLATE, CHECKLIST_TEMPLATE = "report.md.j2", "tripod.md.j2"
_SECTION = re.compile("^## (.+)$", re.MULTILINE)

SHOWN_THRESHOLDS = [round(100 * threshold) - 1 for threshold in (0.05, 0.1, 0.2, 0.3, 0.5)]
"""The rows of the decision curve that the report prints."""


def render_report(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
    checks: dict[str, Any],
    use: str,
    ensemble: dict[str, Any] | None,
    candidates: dict[str, Any],
) -> str:
    """Write the Markdown report; its figures are links into the page of `report_page.render_report_page`.

    Args:
        summary: As `aggregate.summarise` returns it.
        uncertainty: As the node `estimate_uncertainty` returns it: `uncertainty.estimate_uncertainty`, and `seeds`.
        data_statistics: Statistics of the corpus, as data_processing saves them.
        training_config: The configuration of the run: `training.select_by` and `decision` are put into words, and
            all of it is printed.
        criteria: Columns criterion_id, symptom, criterion.
        checks: As `checks.make_checks` returns them.
        use: What is served: ensemble, refit or best_fold.
        ensemble: As `ensemble.calibrate_ensemble` returns it; None where folds are missing.
        candidates: As `reported_runs.find_candidates` returns it.

    Returns:
        Markdown without any text of a post.
    """
    environment = markdown_environment()
    report = environment.get_template(TEMPLATE).render(
        summary=summary,
        uncertainty=uncertainty,
        f1_interval={row["criterion_id"]: row["f1"] for row in uncertainty["per_criterion"]},
        data=data_statistics,
        fewest_words=FEWEST_WORDS,
        decision_rule=describe(training_config.decision),
        select_by=training_config.training.select_by,
        config=training_config,
        training_config=yaml.safe_dump(to_dict(training_config), sort_keys=False, allow_unicode=True),
        wording=wording_by_id(criteria),
        shown_thresholds=SHOWN_THRESHOLDS,
        useful_thresholds=useful_thresholds(uncertainty["decision_curve"]),
        use=use,
        ensemble=ensemble,
        candidates=candidates,
        checks=checks,
        plain_words=plain_words(summary, uncertainty, data_statistics, training_config, checks),
    )
    # The checklist comes last, since it says which sections the report has.
    rows = checklist(_SECTION.findall(report), summary, uncertainty, data_statistics, training_config)
    return f"{report}\n{environment.get_template(CHECKLIST_TEMPLATE).render(rows=rows)}"


def markdown_environment() -> Environment:
    """Set up Jinja for Markdown: a name that a template misspells is an error.

    The filters `text` and `code` keep what comes from users, such as ids, names and wordings, from becoming markup.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=figure,
        p_value=p_value,
        bounds=_bounds,
        low_to_high=_low_to_high,
        percent=_percent,
        undefined=_undefined,
        significant=_significant,
        spread=_spread,
        duration=_duration,
        text=as_text,
        code=as_code,
        coverage=_coverage,
        zip=zip,
        criterion_name=criterion_name,
        mean_threshold=lambda folds: mean_and_std(fold["threshold"] for fold in folds)["mean"],
        median_epoch=median_epoch,
        mean=lambda values: mean_and_std(values)["mean"],
        deviation=lambda values: mean_and_std(values)["std"],
    )
    environment.globals["metrics"] = [metric for metric in METRICS if metric.plain is not None]
    environment.globals["few"] = FEW
    environment.globals["metric"] = METRICS_BY_NAME
    return environment


def _coverage(share: float | None) -> str:
    """Write how often intervals cover; there is no interval, and no coverage, without a positive pair."""
    return "no interval" if share is None else f"{share:.2f}"


def _bounds(interval: dict[str, Any] | None) -> str:
    """Write the bounds of an interval in parentheses; nothing where they are not defined."""
    if interval is None or interval["low"] is None:
        return ""
    return f" ({interval['low']:.2f}{'-' if interval['low'] >= 0 else ' to '}{interval['high']:.2f})"


def _low_to_high(interval: dict[str, Any] | None) -> str:
    """Write the bounds of an interval in words and to three digits; nothing where they are not defined."""
    if interval is None or interval["low"] is None:
        return ""
    return f" ({interval['low']:.3f} to {interval['high']:.3f})"


def _percent(share: float) -> str:
    return f"{100 * share:g}"


def _undefined(intervals: Iterable[dict[str, Any]]) -> float:
    """Return the largest share of resamples in which one of the figures was not defined."""
    return max(float(interval["undefined"]) for interval in intervals)


def _significant(criteria: list[dict[str, Any]], confidence: float) -> tuple[int, int]:
    """Count the criteria that differ after Holm's correction: in favour of the first table, and of the other."""
    found = [
        row["estimate"] for row in criteria if row["p_holm"] is not None and row["p_holm"] <= round(1 - confidence, 9)
    ]
    return sum(difference > 0 for difference in found), sum(difference < 0 for difference in found)


def _spread(metric: dict[str, Any], n_folds: int) -> str:
    """Write mean ± standard deviation, and the number of folds where the metric is not defined in all."""
    if metric["mean"] is None:
        return "not defined"
    deviation = "" if metric["std"] is None else f" ± {metric['std']:.3f}"
    folds = "" if metric["n"] == n_folds else f" ({metric['n']} of {n_folds} folds)"
    return f"{metric['mean']:.3f}{deviation}{folds}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
