"""The report of a cross-validation, written for a reader who was not there."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mentallam.config import DecisionConfig
from mentallam.evaluation.decision import describe
from mentallam.evaluation.metrics import criterion_name

TEMPLATE = "report.md.j2"


def render_report(
    summary: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    criteria: pd.DataFrame,
) -> str:
    """Write the Markdown report; its pictures are the files `<name>.png` of `plots.oof_figures` beside it.

    Args:
        summary: As `aggregate.summarise` returns it.
        data_statistics: Of the corpus, as data_processing saves it.
        training_config: The composed configuration of the run: its `training.select_by` and `decision` are put into
            words, and all of it is printed.
        criteria: Columns criterion_id, symptom, criterion.

    Returns:
        Markdown without a word of any post.
    """
    return (
        markdown_environment()
        .get_template(TEMPLATE)
        .render(
            summary=summary,
            data=data_statistics,
            decision_rule=describe(DecisionConfig(**training_config["decision"])),
            select_by=training_config["training"]["select_by"],
            training_config=yaml.safe_dump(training_config, sort_keys=False, allow_unicode=True),
            wording=dict(zip(criteria["criterion_id"], criteria["criterion"], strict=True)),
        )
    )


def markdown_environment() -> Environment:
    """Jinja set up for Markdown: nothing is HTML-escaped, and a misspelt name in the template is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=_figure, spread=_spread, duration=_duration, cell=_cell, criterion_name=criterion_name
    )
    return environment


def _figure(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"


def _spread(metric: dict[str, Any], n_folds: int) -> str:
    """Mean ± standard deviation, and of how many folds where the metric is not defined in all."""
    if metric["mean"] is None:
        return "not defined"
    deviation = "" if metric["std"] is None else f" ± {metric['std']:.3f}"
    folds = "" if metric["n"] == n_folds else f" ({metric['n']} of {n_folds} folds)"
    return f"{metric['mean']:.3f}{deviation}{folds}"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _cell(text: str) -> str:
    """Text that cannot break out of its table cell."""
    return " ".join(text.split()).replace("|", "\\|")
