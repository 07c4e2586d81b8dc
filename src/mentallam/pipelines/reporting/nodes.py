"""Nodes of the reporting pipeline: each hands its datasets to the evaluation wing or to the tracking."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from mentallam import registry, tracking
from mentallam.config import DecisionConfig, from_dict
from mentallam.evaluation.aggregate import summarise, threshold_summary
from mentallam.evaluation.baseline_scores import summarise_baselines
from mentallam.evaluation.decision import describe
from mentallam.evaluation.label_audit import audit_labels as audit
from mentallam.evaluation.oof import out_of_fold_table, read_tables
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import estimate_uncertainty as estimate
from mentallam.evaluation.uncertainty import f1_intervals, seed_spread
from mentallam.reports.figures import REPORT_FIGURES, report_figures
from mentallam.reports.model_card import render_model_card
from mentallam.reports.report import render_report
from mentallam.reports.report_page import render_report_page
from mentallam.serving.pyfunc import save_pyfunc

logger = logging.getLogger(__name__)


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
    training_config: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the cross-validation summary and the table of thresholds."""
    summary = summarise(oof_predictions, cv_outcome, data_statistics, criteria)
    summary["learned_baselines"] = summarise_baselines(baseline_predictions, oof_predictions, criteria)
    return summary, threshold_summary(summary, describe(DecisionConfig(**training_config["decision"])))


def estimate_uncertainty(
    oof_predictions: pd.DataFrame, baseline_predictions: pd.DataFrame, options: UncertaintyOptions, repeats: str
) -> dict[str, Any]:
    """Estimate intervals, differences to the baselines and, where repeats are named, the spread between seeds."""
    baselines = {str(model): own for model, own in baseline_predictions.groupby("model")}
    others = read_tables(repeats)
    return {
        **estimate(oof_predictions, baselines, options),
        "seeds": seed_spread({"this run": oof_predictions, **others}, options) if others else None,
    }


def draw_figures(
    oof_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    uncertainty: dict[str, Any],
    criteria: pd.DataFrame,
    data_statistics: dict[str, Any],
    *fold_histories: pd.DataFrame,
) -> dict[str, Figure]:
    """Draw the figures of the report, as figure_<name>."""
    figures = report_figures(
        oof_predictions,
        criteria,
        data_statistics["synthetic"],
        baselines=baseline_predictions,
        f1_intervals=f1_intervals(uncertainty),
        confidence=uncertainty["method"]["confidence"],
        history=pd.concat(fold_histories, ignore_index=True),
    )
    return {f"figure_{name}": figure for name, figure in figures.items()}


def write_report(
    cv_summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    criteria: pd.DataFrame,
) -> str:
    """Write the report."""
    return render_report(cv_summary, uncertainty, data_statistics, training_config, criteria)


def write_page(report: str, data_statistics: dict[str, Any], *figures: Figure) -> str:
    """Put the report and its figures, in the order of `REPORT_FIGURES`, into one HTML page."""
    return render_report_page(report, dict(zip(REPORT_FIGURES, figures, strict=True)), data_statistics["synthetic"])


def write_model_card(
    cv_summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    options: registry.RegistryOptions,
) -> str:
    """Write the model card."""
    return render_model_card(cv_summary, uncertainty, data_statistics, training_config, options.use)


def attach_report(
    cv_summary: dict[str, Any],
    thresholds: dict[str, Any],
    uncertainty: dict[str, Any],
    label_audit: pd.DataFrame,
    report: str,
    report_page: str,
    model_card: str,
    *figures: Figure,
) -> None:
    """Attach all of it to the parent run, and log what only reporting knows: the pooled metrics, and how sure F1 is."""
    run = tracking.Run(cv_summary["cv_run_id"])
    run.log_dict(cv_summary, "reporting/cv_summary.json")
    run.log_dict(thresholds, "reporting/thresholds.json")
    run.log_dict(uncertainty, "reporting/uncertainty.json")
    run.log_text(report, "reporting/report.md")
    run.log_text(label_audit.to_csv(index=False), "reporting/label_audit.csv")
    run.log_text(report_page, "reporting/report.html")
    run.log_text(model_card, tracking.MODEL_CARD)
    for name, figure in zip(REPORT_FIGURES, figures, strict=True):
        run.log_figure(figure, f"reporting/figures/{name}.html")
    pooled = {f"pooled_{name}": value for name, value in cv_summary["pooled"].items()}
    bounds = {f"pooled_f1_{bound}": uncertainty["headline"]["f1"][bound] for bound in ("low", "high")}
    run.log_metrics({**pooled, **bounds, "selection_optimism": cv_summary["selection_optimism"]})


def register_model(
    cv_summary: dict[str, Any],
    training_config: dict[str, Any],
    model_card: str,
    options: registry.RegistryOptions,
    base_models: str,
) -> None:
    """Offer the model of this cross-validation to the registry."""
    if options.use == "none":
        return
    folds = {fold["fold"]: fold for fold in cv_summary["folds"]}
    best = folds[cv_summary["best_fold"]]
    candidate = registry.Candidate(
        **{name: cv_summary[name] for name in ("cv_run_id", "data_hash", "synthetic")},
        f1=cv_summary["pooled"]["f1"],
        dev_f1=best["dev_f1"],
    )
    runs = {fold["fold"]: fold["run_id"] for fold in (folds.values() if options.use == "ensemble" else [best])}

    def save_model(folder: Path, model_id: str) -> None:
        checkpoints = {fold: tracking.download_checkpoint(run_id) for fold, run_id in runs.items()}
        save_pyfunc(folder, checkpoints, Path(base_models), from_dict(training_config).inference, model_id)

    logger.info(registry.offer(candidate, options, model_card, save_model))
