"""The figures of a cross-validation's report and of a single fold's run, by name.

Each is a plotly figure and a pure function of the tables that a run saves. No figure contains a word of a post, and
none has a point per pair.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure

from mentallam.evaluation.resampling import Interval
from mentallam.reports.figures_criteria import confusion, criterion_f1
from mentallam.reports.figures_net_benefit import net_benefit
from mentallam.reports.figures_scores import precision_recall, reliability, roc, score_histograms, threshold_curves
from mentallam.reports.figures_training import learning_curves
from mentallam.reports.style import mark_synthetic


@dataclass(frozen=True)
class _Tables:
    """The tables that the figures are drawn from, with the arguments of `report_figures`."""

    oof: pd.DataFrame
    criteria: pd.DataFrame
    baselines: pd.DataFrame | None = None
    f1_intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    confidence: float = 0.95
    history: pd.DataFrame | None = None
    decision_curve: Sequence[Mapping[str, Any]] = ()
    calibrated: bool = True


_DRAW: Mapping[str, Callable[[_Tables], Figure]] = {
    "precision_recall": lambda run: precision_recall(run.oof),
    "roc": lambda run: roc(run.oof),
    "reliability": lambda run: reliability(run.oof, run.calibrated),
    "net_benefit": lambda run: net_benefit(run.decision_curve, run.confidence),
    "confusion": lambda run: confusion(run.oof, run.criteria),
    "threshold_curves": lambda run: threshold_curves(run.oof),
    "criterion_f1": lambda run: criterion_f1(run.oof, run.criteria, run.baselines, run.f1_intervals, run.confidence),
    "learning_curves": lambda run: learning_curves(run.history),
    "score_histograms": lambda run: score_histograms(run.oof, run.calibrated),
}

REPORT_FIGURES = tuple(_DRAW)
"""The names of `report_figures`, from which the pipelines name datasets and files."""


def report_figures(
    oof: pd.DataFrame,
    criteria: pd.DataFrame,
    synthetic: bool,
    baselines: pd.DataFrame | None = None,
    f1_intervals: Mapping[str, Mapping[str, Interval]] | None = None,
    confidence: float = 0.95,
    history: pd.DataFrame | None = None,
    decision_curve: Sequence[Mapping[str, Any]] = (),
    calibrated: bool = True,
) -> dict[str, Figure]:
    """Draw the figures of the report, named and ordered as in `REPORT_FIGURES`.

    Args:
        oof: The out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        synthetic: Whether the data are synthetic; every figure then says so.
        baselines: The columns of the out-of-fold table and `model`, over the same pairs; None without baselines.
        f1_intervals: Interval of F1 by model (as `evaluation.uncertainty.f1_intervals` names them) and criterion_id;
            None draws no intervals.
        confidence: Confidence of these intervals.
        history: Columns fold, step, metric, value, of all folds; None if no history was saved.
        decision_curve: As `evaluation.net_benefit.decision_curve` returns it; empty where it was not computed.
        calibrated: Whether the probabilities were calibrated; axes say so.

    Raises:
        MentallamError: A criterion is not in `criteria`, or a value is out of range.
    """
    tables = _Tables(oof, criteria, baselines, f1_intervals or {}, confidence, history, decision_curve, calibrated)
    return _drawn(REPORT_FIGURES, tables, synthetic)


def fold_figures(predictions: pd.DataFrame, criteria: pd.DataFrame, synthetic: bool) -> dict[str, Figure]:
    """Draw the figures of one fold's run, which don't need the other folds: precision and recall, and confusion.

    Args:
        predictions: The fold's rows of the out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        synthetic: Whether the data are synthetic; every figure then says so.

    Raises:
        MentallamError: A criterion is not in `criteria`, or a value is out of range.
    """
    return _drawn(("precision_recall", "confusion"), _Tables(predictions, criteria), synthetic)


def _drawn(names: Iterable[str], tables: _Tables, synthetic: bool) -> dict[str, Figure]:
    figures = {name: _DRAW[name](tables) for name in names}
    if synthetic:
        for figure in figures.values():
            mark_synthetic(figure)
    return figures
