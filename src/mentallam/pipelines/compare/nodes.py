"""Nodes of compare: load two tracked runs and compare them."""

from typing import Any

from mentallam.errors import MentallamError
from mentallam.evaluation import comparison
from mentallam.evaluation.comparison import ReportedRun
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.reported_runs import load_reported_run
from mentallam.reports.comparison_report import render_comparison


def load_first(run_id: str | None) -> ReportedRun:
    """Load the first run from MLflow."""
    return _load("first", run_id)


def load_second(run_id: str | None) -> ReportedRun:
    """Load the second run from MLflow."""
    return _load("second", run_id)


def compare_runs(first: ReportedRun, second: ReportedRun, options: UncertaintyOptions) -> tuple[dict[str, Any], str]:
    """Compare the runs; return the comparison as a table of figures and as Markdown."""
    compared = comparison.compare_runs(first, second, options)
    return compared, render_comparison(compared)


def _load(option: str, run_id: str | None) -> ReportedRun:
    if run_id is None:
        raise MentallamError('compare needs two runs: --params "first=RUN_ID,second=RUN_ID"')
    return load_reported_run(option, str(run_id))
