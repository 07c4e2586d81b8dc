"""Pictures of predictions, as matplotlib figures that nobody has to close (pyplot keeps no state of them).

Colours are from the Okabe-Ito palette, which the colour-blind can tell apart; lines differ in style as well.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.metrics import ConfusionMatrixDisplay, average_precision_score, precision_recall_curve

from mentallam.evaluation.checks import checked_pairs
from mentallam.evaluation.metrics import criterion_metrics, criterion_name, pair_metrics
from mentallam.evaluation.thresholds import ThresholdChoice, sweep

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, GREY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
    "#666666",
)
FOLD_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
FOLD_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

LABEL_NAMES = ("unmatched", "matched")


def confusion_matrix_figure(labels: ArrayLike, predictions: ArrayLike, title: str) -> Figure:
    """Confusion matrix in pairs, each cell also as a share of the pairs with its true label.

    Args:
        labels: 0 or 1, shape (n,).
        predictions: 0 or 1, shape (n,).
        title: Heading of the figure.
    """
    figure, axes = _one_panel(title, width=4.8, height=4.8)
    display = ConfusionMatrixDisplay.from_predictions(
        labels, predictions, labels=[0, 1], display_labels=LABEL_NAMES, cmap="Blues", colorbar=False, ax=axes
    )
    counts = display.confusion_matrix
    for (row, column), count in np.ndenumerate(counts):
        share = count / max(counts[row].sum(), 1)
        display.text_[row, column].set(text=f"{count}\n{share:.1%} of row", fontsize=13)
    axes.set(xlabel="predicted label (pairs)", ylabel="true label (pairs)")
    return figure


def precision_recall_figure(labels: ArrayLike, probabilities: ArrayLike, threshold: float, title: str) -> Figure:
    """Precision against recall, with the point at which the threshold works and the level of chance.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: From 0 to 1, shape (n,).
        threshold: The one in use.
        title: Heading of the figure.

    Raises:
        MentallamError: No pair, or a value out of range.
    """
    labels, probabilities = checked_pairs(labels, probabilities)
    figure, axes = _one_panel(title)
    if labels.any():
        _draw_precision_recall(axes, labels, probabilities, "model", color=BLUE)
        point = sweep(labels, probabilities, np.array([threshold])).iloc[0]
        axes.plot(
            point["recall"],
            point["precision"],
            "o",
            color=VERMILLION,
            markersize=9,
            label=f"threshold {threshold:.2f} (F1 {point['f1']:.3f})",
        )
    _finish_precision_recall(figure, axes, labels)
    return figure


def threshold_figure(curve: pd.DataFrame, chosen: ThresholdChoice) -> Figure:
    """Precision, recall and F1 against the threshold, with the chosen one.

    Args:
        curve: As `thresholds.sweep` returns it.
        chosen: The threshold in use and its F1.
    """
    figure, axes = _one_panel("Threshold choice")
    for metric, colour, line in (("precision", SKY, "--"), ("recall", ORANGE, "-."), ("f1", BLUE, "-")):
        axes.plot(curve["threshold"], curve[metric], line, color=colour, label=metric.replace("f1", "F1"))
    axes.axvline(chosen.threshold, color=GREY, linestyle=":", linewidth=1)
    axes.plot(
        chosen.threshold,
        chosen.f1,
        "o",
        color=VERMILLION,
        label=f"chosen: {chosen.threshold:.2f} (F1 {chosen.f1:.3f})",
    )
    axes.set(xlabel="threshold (probability)", ylabel="metric (0 to 1)", xlim=(0, 1), ylim=(0, 1.02))
    _legend_below(figure)
    return figure


def oof_figures(oof: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Figure]:
    """The figures of the report, by the names they are saved under.

    Args:
        oof: The out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.

    Returns:
        oof_precision_recall, oof_confusion and f1_per_criterion.

    Raises:
        MentallamError: A criterion that `criteria` does not list.
    """
    return {
        "oof_precision_recall": fold_precision_recall_figure(oof),
        "oof_confusion": confusion_matrix_figure(
            oof["label"],
            oof["prediction"],
            "Out-of-fold predictions of all folds",
        ),
        "f1_per_criterion": criterion_f1_figure(
            criterion_metrics(oof, criteria),
            pair_metrics(oof["label"], oof["probability"], oof["prediction"])["f1"],
        ),
    }


def fold_precision_recall_figure(oof: pd.DataFrame) -> Figure:
    """Precision against recall for every fold and for all folds' pairs pooled.

    Args:
        oof: The out-of-fold table.
    """
    figure, axes = _one_panel("Out-of-fold precision and recall")
    for position, (fold, own) in enumerate(oof.groupby("fold")):
        if own["label"].any():
            _draw_precision_recall(
                axes,
                own["label"],
                own["probability"],
                f"fold {fold}",
                color=FOLD_COLOURS[position % len(FOLD_COLOURS)],
                linestyle=FOLD_LINES[position % len(FOLD_LINES)],
                linewidth=1.2,
            )
    if oof["label"].any():
        _draw_precision_recall(axes, oof["label"], oof["probability"], "pooled", color="black", linewidth=2.4)
    _finish_precision_recall(figure, axes, oof["label"])
    return figure


def criterion_f1_figure(per_criterion: Sequence[dict[str, Any]], pooled_f1: float) -> Figure:
    """F1 of each criterion as bars, with the number of positive pairs behind each.

    Args:
        per_criterion: As `metrics.criterion_metrics` returns it.
        pooled_f1: F1 over the pairs of all criteria, drawn as a line.
    """
    figure, axes = _one_panel("F1 per criterion, all folds pooled", height=1.6 + 0.42 * len(per_criterion))
    names = [
        f"{criterion_name({**row, 'symptom': row['symptom'].replace('_', ' ').lower()})} (n+ = {row['n_positive']})"
        for row in per_criterion
    ]
    bars = axes.barh(names, [row["f1"] for row in per_criterion], color=SKY, edgecolor=BLUE)
    axes.bar_label(bars, fmt="%.2f", padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})
    axes.axvline(pooled_f1, color=VERMILLION, linestyle="--", zorder=1, label=f"all criteria together: {pooled_f1:.3f}")
    axes.set(xlabel="F1 of the positive class (0 to 1)", xlim=(0, 1.08), xticks=np.linspace(0, 1, 6))
    axes.invert_yaxis()
    _legend_below(figure)
    return figure


def _one_panel(title: str, width: float = 6.4, height: float = 5.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    figure.suptitle(title, wrap=True)
    return figure, axes


def _draw_precision_recall(axes: Axes, labels: ArrayLike, probabilities: ArrayLike, name: str, **line: Any) -> None:
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    score = average_precision_score(labels, probabilities)
    axes.step(recall, precision, where="post", label=f"{name} (average precision {score:.3f})", **line)


def _finish_precision_recall(figure: Figure, axes: Axes, labels: ArrayLike) -> None:
    """The level of chance, axes and legend; or a sentence where there is nothing to draw."""
    base_rate = float(np.asarray(labels, np.float64).mean())
    if base_rate:
        axes.axhline(base_rate, color=GREY, linestyle=":", label=f"chance (base rate {base_rate:.3f})")
        _legend_below(figure)
    else:
        axes.text(0.5, 0.5, "No pair is positive: nothing to draw.", ha="center", va="center")
    axes.set(
        xlabel="recall of the positive class (0 to 1)",
        ylabel="precision of the positive class (0 to 1)",
        xlim=(-0.01, 1.01),
        ylim=(0, 1.02),
    )


def _legend_below(figure: Figure) -> None:
    """Under the axes, where a legend cannot hide a curve."""
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
