"""Nodes of the reporting pipeline: each hands its datasets to the evaluation wing or to the tracking."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from mentallam import registry, tracking
from mentallam.config import DecisionConfig, from_dict
from mentallam.evaluation.aggregate import summarise, threshold_summary
from mentallam.evaluation.decision import describe
from mentallam.evaluation.model_card import render_model_card
from mentallam.evaluation.oof import out_of_fold_table
from mentallam.evaluation.plots import oof_figures
from mentallam.evaluation.report import render_report
from mentallam.serving.pyfunc import save_pyfunc

logger = logging.getLogger(__name__)


def collect_predictions(*fold_predictions: pd.DataFrame) -> pd.DataFrame:
    """Put the folds' predictions, in the order of the folds, into the out-of-fold table."""
    return out_of_fold_table(fold_predictions)


def summarise_run(
    oof_predictions: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
    training_config: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the cross-validation summary and the table of thresholds."""
    summary = summarise(oof_predictions, cv_outcome, data_statistics, criteria)
    return summary, threshold_summary(summary, describe(DecisionConfig(**training_config["decision"])))


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


def write_model_card(
    cv_summary: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: dict[str, Any],
    options: registry.RegistryOptions,
) -> str:
    """Write the model card."""
    return render_model_card(cv_summary, data_statistics, training_config, options.use)


def attach_report(
    cv_summary: dict[str, Any],
    thresholds: dict[str, Any],
    report: str,
    model_card: str,
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
    run.log_text(model_card, "reporting/model_card.md")
    for name, figure in oof_figures(oof_predictions, criteria).items():
        run.log_figure(figure, f"reporting/{name}.png")
    pooled = {f"pooled_{name}": value for name, value in cv_summary["pooled"].items()}
    run.log_metrics({**pooled, "selection_optimism": cv_summary["selection_optimism"]})


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
