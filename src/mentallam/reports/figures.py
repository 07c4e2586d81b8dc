"""All figures of a cross-validation, and those of one fold, by name.

They are plotly figures, and pure functions of the tables that a run leaves. No figure holds a word of a post, and none
has a point per pair.
"""

from collections.abc import Mapping

import pandas as pd
from plotly.graph_objects import Figure

from mentallam.reports.figures_criteria import Interval, confusion, criterion_f1
from mentallam.reports.figures_scores import precision_recall, reliability, roc, score_histograms, threshold_curves
from mentallam.reports.figures_training import learning_curves
from mentallam.reports.style import mark_synthetic

REPORT_FIGURES = (
    "precision_recall",
    "roc",
    "reliability",
    "confusion",
    "threshold_curves",
    "criterion_f1",
    "learning_curves",
    "score_histograms",
)
"""The names of `report_figures`, for those who wire datasets before any figure exists."""


def report_figures(
    oof: pd.DataFrame,
    criteria: pd.DataFrame,
    synthetic: bool,
    baselines: pd.DataFrame | None = None,
    f1_intervals: Mapping[str, Mapping[str, Interval]] | None = None,
    confidence: float = 0.95,
    history: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """The figures of the report, each named as in `REPORT_FIGURES`.

    Args:
        oof: The out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        synthetic: The data are invented; every figure then says so.
        baselines: The columns of the out-of-fold table and `model`, over the same pairs; None without baselines.
        f1_intervals: Model ("model" for the fine-tuned one, or a baseline's name) to criterion_id to the
            interval of its F1; None draws no intervals.
        confidence: Of these intervals.
        history: Columns fold, step, metric, value of all folds; None where none was kept.

    Raises:
        MentallamError: A criterion that `criteria` does not list, or a value out of range.
    """
    figures = {
        "precision_recall": precision_recall(oof),
        "roc": roc(oof),
        "reliability": reliability(oof),
        "confusion": confusion(oof, criteria),
        "threshold_curves": threshold_curves(oof),
        "criterion_f1": criterion_f1(oof, criteria, baselines, f1_intervals or {}, confidence),
        "learning_curves": learning_curves(history),
        "score_histograms": score_histograms(oof),
    }
    if synthetic:
        for figure in figures.values():
            mark_synthetic(figure)
    return figures


def fold_figures(predictions: pd.DataFrame, criteria: pd.DataFrame, synthetic: bool) -> dict[str, Figure]:
    """What one fold's own run shows, before the others are done: its precision and recall, and its confusion.

    Args:
        predictions: The fold's rows of the out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        synthetic: The data are invented; every figure then says so.

    Raises:
        MentallamError: A criterion that `criteria` does not list, or a value out of range.
    """
    figures = {"precision_recall": precision_recall(predictions), "confusion": confusion(predictions, criteria)}
    if synthetic:
        for figure in figures.values():
            mark_synthetic(figure)
    return figures
