"""Pages whose ids, labels, wordings and names all try to run a script."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from mentallam.config import Config
from mentallam.corpus.audit import audit_facts
from mentallam.evaluation.checks import make_checks
from mentallam.evaluation.findings import CheckedRun
from mentallam.reports.audit_figures import audit_figures
from mentallam.reports.audit_page import render_audit
from mentallam.reports.figures import report_figures
from mentallam.reports.model_card import render_model_card
from mentallam.reports.report import render_report
from mentallam.reports.report_page import render_report_page
from tests.unit.audited import CRITERIA, FOLDS, NOT_COUNTED, PAIRS, POSTS, STATISTICS, TOKENS
from tests.unit.predictions import ALONE

OWNED = "owned"
_RUN = f"document.title='{OWNED}'"
PAYLOAD = (
    f'<script>{_RUN}</script></script><script>{_RUN}</script>"\'><img src=x onerror="{_RUN}">'
    f'<svg onload={_RUN}><a href="javascript:{_RUN}">a</a>[a](javascript:{_RUN})![a](x" onerror="{_RUN})'
    f"`|</style></title>${{{_RUN}}}{{{{ 7*7 }}}}\u2028&lt;b&gt;<!--<script>"
)

# The fixtures that `hostile_report` takes, in its order.
REPORT_INPUTS = ("summary", "uncertainty", "data_statistics", "training_config", "criteria", "oof", "baselines")


def hostile(value: Any, texts: Mapping[str, str]) -> Any:
    """Return a value with every text in it replaced, also keys, cells and the texts of a table."""
    if isinstance(value, str):
        return texts.get(value, value)
    if isinstance(value, Mapping):
        return {hostile(key, texts): hostile(each, texts) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(hostile(each, texts) for each in value)
    if isinstance(value, pd.DataFrame):
        return value.map(lambda cell: hostile(cell, texts))
    return value


def hostile_report(
    summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    config: Config,
    criteria: pd.DataFrame,
    oof: pd.DataFrame,
    baselines: pd.DataFrame,
) -> tuple[str, str, str, dict[str, Figure]]:
    """Return report, page, model card and figures."""
    texts = {text: f"{text} {PAYLOAD}" for column in criteria for text in criteria[column]}
    texts |= {data_statistics["corpus"]: PAYLOAD, summary["cv_run_id"]: PAYLOAD}
    summary, uncertainty, statistics, criteria, oof, baselines = (
        hostile(each, texts) for each in (summary, uncertainty, data_statistics, criteria, oof, baselines)
    )
    statistics["counts"]["override_reason"] = PAYLOAD
    statistics["placeholder_posts"] = {PAYLOAD: 1}
    config = replace(config, model=replace(config.model, name=PAYLOAD))
    figures = report_figures(oof, criteria, True, baselines)
    checks = make_checks(CheckedRun(summary, uncertainty, statistics, config))
    report = render_report(summary, uncertainty, statistics, config, criteria, checks, "ensemble", None, ALONE)
    card = render_model_card(summary, uncertainty, statistics, config, "ensemble", None, ALONE)
    return report, render_report_page(report, figures, True), card, figures


def hostile_audit() -> str:
    """Return the data audit's page."""
    ids = {text: f"{text} {PAYLOAD}" for table in (POSTS, CRITERIA) for column in table for text in table[column]}
    posts, criteria, pairs, folds, statistics, tokens = (
        hostile(each, ids)
        for each in (POSTS, CRITERIA, PAIRS, FOLDS, {**STATISTICS, "corpus": PAYLOAD}, [TOKENS, NOT_COUNTED])
    )
    tokens[0]["tokenizer"] = tokens[1]["not_counted"] = PAYLOAD
    statistics["placeholder_posts"] = {PAYLOAD: 1}
    facts = audit_facts(posts, criteria, pairs, folds, statistics, tokens)
    return render_audit(facts, audit_figures(facts))
