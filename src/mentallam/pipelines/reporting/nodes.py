"""Nodes of the reporting pipeline that combine several functions or write to MLflow."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from mentallam import registry, tracking
from mentallam.classifier.learned_baselines import DESCRIPTIONS
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.evaluation import uncertainty as intervals
from mentallam.evaluation.aggregate import summarise, threshold_summary
from mentallam.evaluation.baseline_scores import summarise_baselines
from mentallam.evaluation.checks import make_checks
from mentallam.evaluation.decision import describe
from mentallam.evaluation.findings import WARNING, CheckedRun
from mentallam.evaluation.oof import read_baselines, read_tables
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.model_folders import split_parts
from mentallam.reported_runs import load_reported_run
from mentallam.reports.figures import REPORT_FIGURES, report_figures
from mentallam.reports.model_card import render_model_card
from mentallam.reports.outcome import baseline_f1, baselines_by_f1, result_lines
from mentallam.reports.page import render_figures_page
from mentallam.reports.print_figures import render_figures
from mentallam.reports.printed_table import FORMATS
from mentallam.reports.report import render_report
from mentallam.reports.report_page import render_report_page
from mentallam.reports.tables import REPORT_TABLES
from mentallam.serving.pyfunc import save_pyfunc
from mentallam.spreadsheets import marked

logger = logging.getLogger(__name__)


def summarise_run(
    oof_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
    training_config: Config,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Compute the cross-validation summary and the table of thresholds."""
    summary = summarise(oof_predictions, cv_outcome, data_statistics, criteria, training_config.decision)
    summary["learned_baselines"] = summarise_baselines(baseline_predictions, oof_predictions, criteria, DESCRIPTIONS)
    return summary, threshold_summary(summary, describe(training_config.decision))


def estimate_uncertainty(
    oof_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    training_config: Config,
    options: UncertaintyOptions,
    repeats: str,
) -> dict[str, Any]:
    """Estimate intervals, differences to the baselines and, if repeats are named, the spread between seeds."""
    baselines = {str(model): table for model, table in baseline_predictions.groupby("model")}
    estimated = intervals.estimate_uncertainty(oof_predictions, baselines, options, training_config.decision)
    if not (others := read_tables(repeats)):
        return {**estimated, "seeds": None}
    of_others = read_baselines(others, baselines)
    compared = {name: [baselines[name], *tables] for name, tables in of_others.items()}
    runs = {"this run": oof_predictions, **others}
    return {**estimated, "seeds": intervals.seed_spread(runs, options, compared)}


def check_run(
    cv_summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    candidates: dict[str, Any],
) -> dict[str, Any]:
    """Make the coded checks of docs/checks.md."""
    return make_checks(CheckedRun(cv_summary, uncertainty, data_statistics, training_config, candidates))


def draw_figures(
    oof_predictions: pd.DataFrame,
    baseline_predictions: pd.DataFrame,
    uncertainty: dict[str, Any],
    criteria: pd.DataFrame,
    data_statistics: dict[str, Any],
    training_config: Config,
    *fold_histories: pd.DataFrame | None,
) -> dict[str, Figure]:
    """Draw the figures of the report, named figure_<name>."""
    figures = report_figures(
        oof_predictions,
        criteria,
        data_statistics["synthetic"],
        baselines=baseline_predictions,
        f1_intervals=intervals.f1_intervals(uncertainty),
        confidence=uncertainty["method"]["confidence"],
        history=pd.concat([table for table in fold_histories if table is not None], ignore_index=True),
        decision_curve=uncertainty["decision_curve"],
        calibrated=training_config.decision.calibration != "none",
    )
    return {f"figure_{name}": figure for name, figure in figures.items()}


def write_report(
    cv_summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    criteria: pd.DataFrame,
    checks: dict[str, Any],
    ensemble: dict[str, Any] | None,
    candidates: dict[str, Any],
    options: registry.RegistryOptions,
) -> str:
    """Write the Markdown report for the use that the registry is configured for."""
    return render_report(
        cv_summary, uncertainty, data_statistics, training_config, criteria, checks, options.use, ensemble, candidates
    )


def write_page(report: str, data_statistics: dict[str, Any], *figures: Figure) -> str:
    """Write the report and its figures, in the order of `REPORT_FIGURES`, as one HTML page."""
    return render_report_page(report, dict(zip(REPORT_FIGURES, figures, strict=True)), data_statistics["synthetic"])


def write_model_card(
    cv_summary: dict[str, Any],
    uncertainty: dict[str, Any],
    data_statistics: dict[str, Any],
    training_config: Config,
    ensemble: dict[str, Any] | None,
    candidates: dict[str, Any],
    options: registry.RegistryOptions,
) -> str:
    """Write the model card for the use that the registry is configured for."""
    return render_model_card(
        cv_summary, uncertainty, data_statistics, training_config, options.use, ensemble, candidates
    )


def warn_of_checks(checks: dict[str, Any], report_page: str) -> None:
    """Log the checks that warn, and how many passed.

    Args:
        checks: As `check_run` returns them.
        report_page: Not read; it makes this node wait for the report, so that its lines are among a run's last.
    """
    for check in checks["checks"]:
        if check["status"] == WARNING:
            logger.warning("%s %s", check["code"], check["title"])
    counts = (checks[name] for name in ("passed", "warnings", "not_checked"))
    logger.info("checks: %s passed, %s warned, %s not checked; the report says what was found and what to do", *counts)


def attach_report(
    cv_summary: dict[str, Any],
    thresholds: dict[str, Any],
    uncertainty: dict[str, Any],
    checks: dict[str, Any],
    label_audit: pd.DataFrame,
    report: str,
    report_page: str,
    model_card: str,
    partial: bool,
    *figures: Figure,
) -> None:
    """Attach all outputs to the parent run; log the pooled metrics, the interval of F1 and the baselines' F1.

    A report of some folds stays in the data folder.
    """
    if partial:
        logger.info(
            "a report of %s of %s folds is not attached to the run", cv_summary["n_folds"], cv_summary["planned_folds"]
        )
        return
    run = tracking.Run(cv_summary["cv_run_id"])
    run.log_dict(cv_summary, "reporting/cv_summary.json")
    run.log_dict(thresholds, "reporting/thresholds.json")
    run.log_dict(uncertainty, "reporting/uncertainty.json")
    run.log_dict(checks, "reporting/checks.json")
    run.log_text(report, "reporting/report.md")
    run.log_text(marked(label_audit).to_csv(index=False), "reporting/label_audit.csv")
    run.log_text(report_page, "reporting/report.html")
    run.log_text(model_card, tracking.MODEL_CARD)
    page = render_figures_page("Figures of all folds", dict(zip(REPORT_FIGURES, figures, strict=True)))
    run.log_text(page, "reporting/figures.html")
    # `tracking.POOLED_F1` is one of these.
    pooled = {f"pooled_{name}": value for name, value in cv_summary["pooled"].items()}
    bounds = {f"pooled_f1_{bound}": uncertainty["headline"]["f1"][bound] for bound in ("low", "high")}
    baselines = {name: found["estimate"] for name, found in baseline_f1(uncertainty).items()}
    pooled |= {f"baseline_{name}_pooled_f1": f1 for name, f1 in baselines.items()}
    if ranked := baselines_by_f1(uncertainty):
        pooled["best_baseline_f1"] = baselines[ranked[0]]
        run.set_tags({"mentallam.best_baseline": ranked[0]})
    run.log_metrics({**pooled, **bounds, "selection_optimism": cv_summary["selection_optimism"]})
    run.describe("\n\n".join(result_lines(cv_summary, uncertainty)))


def print_figures(wanted: bool, *figures: Figure) -> dict[str, bytes]:
    """Draw the figures for a paper, in the order of `REPORT_FIGURES`, if that is wanted."""
    return render_figures(dict(zip(REPORT_FIGURES, figures, strict=True))) if wanted else {}


def attach_for_paper(
    cv_summary: dict[str, Any], partial: bool, printed_figures: dict[str, bytes], *table_texts: str
) -> None:
    """Attach tables and figures for a paper to the parent run, except those of a report of some folds.

    The tables come in the order of `REPORT_TABLES`, each in all formats.
    """
    if partial:
        return
    run = tracking.Run(cv_summary["cv_run_id"])
    files = [f"{name}.{ending}" for name in REPORT_TABLES for ending in FORMATS]
    run.log_files(dict(zip(files, table_texts, strict=True)), "reporting/tables")
    if printed_figures:
        run.log_files(printed_figures, "reporting/figures/print")


def register_model(
    cv_summary: dict[str, Any],
    training_config: Config,
    model_card: str,
    oof_predictions: pd.DataFrame,
    options: registry.RegistryOptions,
    uncertainty_options: UncertaintyOptions,
    base_models: str,
    experiment: str,
    partial: bool,
) -> None:
    """Offer the model of this cross-validation to the registry, unless the registry is off or folds are missing."""
    if options.use == "none" or partial:
        return
    try:
        parts = registry.model_parts(experiment, cv_summary["cv_run_id"], options.use)
    except MentallamError as error:  # the report is whole, and a refit may come later
        logger.warning("nothing is registered: %s; then `kedro run --pipeline reporting` again", error.message)
        return
    folds = {fold["fold"]: fold for fold in cv_summary["folds"]}
    best = folds[cv_summary["best_fold"]]
    candidate = registry.Candidate(
        **{name: cv_summary[name] for name in ("cv_run_id", "data_hash", "synthetic")},
        f1=cv_summary["pooled"]["f1"],
        dev_f1=best["dev_f1"],
    )
    ensemble, checkpoints = split_parts(parts)

    def save_model(folder: Path, model_id: str) -> None:
        numbered = dict(enumerate(checkpoints))
        save_pyfunc(folder, numbered, Path(base_models), training_config.inference, model_id, ensemble)

    def difference_to(cv_run_id: str) -> dict[str, Any]:
        champion = load_reported_run("the champion's cv_run_id", cv_run_id)
        found = intervals.compare_tables(oof_predictions, champion.oof, uncertainty_options)
        difference: dict[str, Any] = found["difference"]["f1"]
        return difference

    logger.info(registry.offer(candidate, options, model_card, save_model, difference_to))
