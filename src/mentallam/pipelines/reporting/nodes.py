"""Nodes of the reporting pipeline: each hands its datasets to the evaluation wing or to the tracking."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mentallam import tracking
from mentallam.evaluation.aggregate import summarise, threshold_summary
from mentallam.evaluation.baselines import summarise_baselines
from mentallam.evaluation.label_audit import audit_labels as audit
from mentallam.evaluation.oof import out_of_fold_table
from mentallam.evaluation.plots import oof_figures
from mentallam.evaluation.report import render_report


def collect_predictions(*fold_predictions: pd.DataFrame) -> pd.DataFrame:
    """Put the folds' predictions, in the order of the folds, into the out-of-fold table."""
    return out_of_fold_table(fold_predictions)


def audit_labels(oof_predictions: pd.DataFrame) -> pd.DataFrame:
    """List the pairs whose label looks wrong."""
    return audit(oof_predictions)


def summarise_run(
    oof_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the cross-validation summary and the table of thresholds."""
    summary = summarise(oof_predictions, cv_outcome, data_statistics, criteria)
    summary["learned_baselines"] = summarise_baselines(baseline_predictions, oof_predictions, criteria)
    return summary, threshold_summary(summary)


def draw_figures(oof_predictions: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Figure]:
    """Draw the figures of the report."""
    return oof_figures(oof_predictions, criteria)


def write_report(
    cv_summary: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    criteria: pd.DataFrame,
) -> str:
    """Write the report."""
    return render_report(cv_summary, data_statistics, training_config, criteria)


def attach_report(
    cv_summary: dict[str, Any],
    thresholds: dict[str, Any],
    report: str,
    label_audit: pd.DataFrame,
    oof_predictions: pd.DataFrame,
    criteria: pd.DataFrame,
) -> None:
    """Attach all of it to the parent run, and log what only reporting knows: the pooled metrics.

    The figures are drawn again, since a saved picture cannot be read back from the catalog as a figure.
    """
    run = tracking.Run(cv_summary["cv_run_id"])
    run.log_dict(cv_summary, "reporting/cv_summary.json")
    run.log_dict(thresholds, "reporting/thresholds.json")
    run.log_text(report, "reporting/report.md")
    run.log_text(label_audit.to_csv(index=False), "reporting/label_audit.csv")
    for name, figure in oof_figures(oof_predictions, criteria).items():
        run.log_figure(figure, f"reporting/{name}.png")
    pooled = {f"pooled_{name}": value for name, value in cv_summary["pooled"].items()}
    run.log_metrics({**pooled, "selection_optimism": cv_summary["selection_optimism"]})
