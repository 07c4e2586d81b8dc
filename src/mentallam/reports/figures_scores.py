"""Figures of scores and thresholds: precision and recall, ROC, reliability, threshold curves, histograms."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from plotly.graph_objects import Figure
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from mentallam.evaluation.arrays import Probabilities
from mentallam.evaluation.calibration import reliability as reliability_bins
from mentallam.evaluation.metrics import pair_metrics
from mentallam.evaluation.thresholds import GRID as THRESHOLDS
from mentallam.evaluation.thresholds import sweep
from mentallam.reports.style import (
    BLUE,
    GREY,
    GRID_LINES,
    INK,
    ORANGE,
    fold_line,
    new_figure,
    stacked_figure,
    write_instead,
)

POOLED_LINE = {"color": INK, "width": 3}
CHANCE_LINE = {"color": GREY, "dash": "dot", "width": 1}
POINTS_HOVER = "recall %{x:.3f}, precision %{y:.3f}"

HISTOGRAM_BINS = 25
PATTERNS = ("", "/", ".")
"""Fills of the kinds of pairs, which can be told apart in grey."""

ROOT_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)
"""What an axis of a square-root scale names."""

SHARE_AXIS = {"range": [-0.01, 1.02], "dtick": 0.2, **GRID_LINES}


def precision_recall(pairs: pd.DataFrame) -> Figure:
    """Draw precision against recall of every fold and of all folds pooled; dots mark the chosen thresholds.

    Args:
        pairs: fold, label, probability, threshold, prediction; one row per pair.
    """
    figure = new_figure("recall (0 to 1)", "precision (0 to 1)", height=520)
    for name, rows, line in _folds_and_pooled(pairs):
        if rows["label"].any():
            precision, recall, _ = precision_recall_curve(rows["label"], rows["probability"], drop_intermediate=True)
            score = average_precision_score(rows["label"], rows["probability"])
            figure.add_scatter(
                x=recall.tolist(),
                y=precision.tolist(),
                name=f"{name}: AP {score:.3f}",
                mode="lines",
                line={**line, "shape": "hv"},
                hovertemplate=POINTS_HOVER,
            )
    base_rate = float(pairs["label"].mean())
    if base_rate:
        points = _points_in_use(pairs)
        _add_points(figure, points, points["recall"], points["precision"], POINTS_HOVER)
        figure.add_scatter(
            x=[0, 1],
            y=[base_rate, base_rate],
            name=f"chance: {base_rate:.3f}",
            mode="lines",
            line=CHANCE_LINE,
            hoverinfo="skip",
        )
    else:
        write_instead(figure, "No pair is positive.")
    figure.update_xaxes(**SHARE_AXIS)
    figure.update_yaxes(**SHARE_AXIS)
    return figure


def roc(pairs: pd.DataFrame) -> Figure:
    """Draw recall against the false positive rate of every fold and of all folds pooled; dots mark chosen thresholds.

    Args:
        pairs: fold, label, probability, threshold, prediction; one row per pair.
    """
    figure = new_figure("false positive rate (0 to 1)", "recall (0 to 1)", height=520)
    hover = "false positive rate %{x:.3f}, recall %{y:.3f}"
    for name, rows, line in _folds_and_pooled(pairs):
        if rows["label"].nunique() > 1:
            false_positive_rate, recall, _ = roc_curve(rows["label"], rows["probability"])
            figure.add_scatter(
                x=false_positive_rate.tolist(),
                y=recall.tolist(),
                name=f"{name}: AUC {roc_auc_score(rows['label'], rows['probability']):.3f}",
                mode="lines",
                line=line,
                hovertemplate=hover,
            )
    if pairs["label"].nunique() > 1:
        points = _points_in_use(pairs)
        _add_points(figure, points, points["false_positive_rate"], points["recall"], hover)
        figure.add_scatter(x=[0, 1], y=[0, 1], name="chance", mode="lines", line=CHANCE_LINE, hoverinfo="skip")
    else:
        write_instead(figure, "All pairs have the same label.")
    figure.update_xaxes(**SHARE_AXIS)
    figure.update_yaxes(**SHARE_AXIS)
    return figure


def reliability(pairs: pd.DataFrame, calibrated: bool = True) -> Figure:
    """Draw the observed share of positives against the probability, in the bins of the calibration error.

    Both axes have a square-root scale: where one pair in ten is positive, most bins lie below 0.05, and a plain scale
    would put them into one corner. The lower panel shows how many pairs have which probability. The intervals are
    binomial 95 % intervals of Wilson (1927). They treat pairs as independent, which the pairs of one post are not
    quite, so they are somewhat too narrow.

    Args:
        pairs: label, probability; one row per pair, of all folds.
        calibrated: Whether the probabilities were calibrated; the axis says so.

    Raises:
        MentallamError: There is no pair, or a value is out of range.
    """
    bins = reliability_bins(pairs["label"], pairs["probability"])
    positives = (bins["n"] * bins["observed"]).round().astype(int)
    intervals = [
        binomtest(k, n).proportion_ci(0.95, method="wilson")
        for k, n in zip(positives.tolist(), bins["n"].tolist(), strict=True)
    ]
    low, high = ([float(end) for end in ends] for ends in zip(*intervals, strict=True))
    fewest, most = int(bins["n"].min()), int(bins["n"].max())
    scale = "(0 to 1, square-root scale)"
    y_titles = [f"observed share {scale}", "pairs"]
    figure = stacked_figure(f"{_probability(calibrated)} {scale}", y_titles, 640, [0.78, 0.22])
    top, bottom = ({"row": row, "col": 1} for row in (1, 2))
    figure.add_scatter(
        x=[0, 1], y=[0, 1], name="perfect calibration", mode="lines", line=CHANCE_LINE, hoverinfo="skip", **top
    )
    observed = np.sqrt(bins["observed"])
    figure.add_scatter(
        x=np.sqrt(bins["probability"]).tolist(),
        y=observed.tolist(),
        error_y={"array": (np.sqrt(high) - observed).tolist(), "arrayminus": (observed - np.sqrt(low)).tolist()},
        customdata=list(
            zip(positives.tolist(), bins["n"].tolist(), low, high, bins["probability"], bins["observed"], strict=True)
        ),
        hovertemplate="predicted %{customdata[4]:.3f}, observed %{customdata[5]:.3f} "
        "(%{customdata[2]:.3f} to %{customdata[3]:.3f})<br>"
        "%{customdata[0]} of %{customdata[1]} pairs<extra></extra>",
        name=f"bins of {fewest}{'' if fewest == most else f' to {most}'} pairs, 95 % interval",
        mode="lines+markers",
        line={"color": BLUE, "width": 1.6},
        marker_size=8,
        **top,
    )
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(np.sqrt(pairs["probability"]), edges)
    figure.add_bar(
        x=((edges[:-1] + edges[1:]) / 2).tolist(),
        y=counts.tolist(),
        width=1 / HISTOGRAM_BINS,
        customdata=np.stack([edges[:-1] ** 2, edges[1:] ** 2], axis=1).tolist(),
        hovertemplate="%{customdata[0]:.3f} to %{customdata[1]:.3f}: %{y} pairs<extra></extra>",
        marker_color=GREY,
        showlegend=False,
        **bottom,
    )
    ticks = {"tickmode": "array", "tickvals": np.sqrt(ROOT_TICKS).tolist(), "ticktext": [f"{t:g}" for t in ROOT_TICKS]}
    figure.update_layout(bargap=0)
    figure.update_xaxes(range=SHARE_AXIS["range"], **ticks, **GRID_LINES)
    figure.update_yaxes(range=SHARE_AXIS["range"], **ticks, **GRID_LINES, **top)
    figure.update_yaxes(rangemode="tozero", nticks=4, **GRID_LINES, **bottom)
    return figure


def _probability(calibrated: bool) -> str:
    return f"{'calibrated' if calibrated else 'uncalibrated'} probability"


def threshold_curves(pairs: pd.DataFrame) -> Figure:
    """Draw precision, recall and F1 against the threshold, per fold and pooled; dots mark the chosen thresholds.

    If a fold has one threshold, its dot lies on the curve. If it has one per criterion, the dot marks their median, and
    a line extends from the lowest to the highest.

    Args:
        pairs: fold, label, probability, threshold, prediction; one row per pair.
    """
    names = {"precision": "precision", "recall": "recall", "f1": "F1"}
    figure = stacked_figure(
        "threshold (probability, 0 to 1)",
        [f"{name} (0 to 1)" for name in names.values()],
        height=760,
        heights=[1 / 3] * 3,
    )
    hovers = {metric: f"threshold %{{x:.2f}}, {name} %{{y:.3f}}" for metric, name in names.items()}
    for name, rows, line in _folds_and_pooled(pairs):
        curve = sweep(rows["label"], rows["probability"], _grid_with(rows["threshold"].unique()))
        # Above the highest probability nothing is predicted; without a gap, the precision would seem to fall to 0.
        curve["precision"] = curve["precision"].where(curve["threshold"] <= rows["probability"].max())
        for panel, (metric, hover) in enumerate(hovers.items(), start=1):
            figure.add_scatter(
                x=curve["threshold"].tolist(),
                y=[None if np.isnan(value) else value for value in curve[metric].tolist()],
                name=name,
                legendgroup=name,
                showlegend=panel == 1,
                mode="lines",
                line=line,
                hovertemplate=hover,
                row=panel,
                col=1,
            )
    points = _points_in_use(pairs)
    for panel, (metric, hover) in enumerate(hovers.items(), start=1):
        _add_points(figure, points, points["threshold"], points[metric], hover, with_range=True, panel=panel)
    figure.update_xaxes(**SHARE_AXIS)
    figure.update_yaxes(**SHARE_AXIS)
    return figure


def score_histograms(pairs: pd.DataFrame, calibrated: bool = True) -> Figure:
    """Draw histograms of the probability: matched pairs, unmatched pairs and, if there are any, explicit negatives.

    Args:
        pairs: label, explicit_negative, probability; one row per pair.
        calibrated: Whether the probabilities were calibrated; the axis says so.
    """
    matched, explicit = pairs["label"] == 1, pairs["explicit_negative"]
    kinds = [("matched", pairs[matched], BLUE), ("unmatched", pairs[~matched], GREY)]
    if explicit.any():
        kinds[1] = ("unmatched, not annotated", pairs[~matched & ~explicit], GREY)
        kinds.append(("explicit negative", pairs[~matched & explicit], ORANGE))
    n = len(kinds)
    figure = stacked_figure(f"{_probability(calibrated)} (0 to 1)", ["pairs"] * n, 150 + 140 * n, [1 / n] * n)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    for panel, (name, rows, colour) in enumerate(kinds, start=1):
        counts, _ = np.histogram(rows["probability"], edges)
        figure.add_bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=counts.tolist(),
            width=1 / HISTOGRAM_BINS,
            customdata=np.stack([edges[:-1], edges[1:]], axis=1).tolist(),
            hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f}: %{y} pairs<extra></extra>",
            name=f"{name}: {len(rows)}",
            marker={"color": colour, "pattern": _pattern(PATTERNS[panel - 1])},
            row=panel,
            col=1,
        )
    figure.update_layout(bargap=0)
    figure.update_xaxes(**SHARE_AXIS)
    figure.update_yaxes(rangemode="tozero", nticks=5, **GRID_LINES)
    return figure


def _pattern(shape: str) -> dict[str, str]:
    """Return a white pattern over the bars' colour; without "overlay" the pattern's colour would replace it."""
    return {"shape": shape, "fillmode": "overlay", "fgcolor": "white"}


def _folds_and_pooled(pairs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, dict[str, object]]]:
    """Yield name, pairs and line of each fold, then of all folds pooled; a single fold is not pooled."""
    folds = pairs["fold"].unique().tolist()
    if len(folds) == 1:
        yield f"fold {folds[0]}", pairs, POOLED_LINE
        return
    for position, fold in enumerate(folds):
        yield f"fold {fold}", pairs[pairs["fold"] == fold], fold_line(position)
    yield "pooled", pairs, POOLED_LINE


def _points_in_use(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per fold: its metrics at the chosen thresholds, and its lowest, median and highest threshold."""
    points = []
    for position, (fold, rows) in enumerate(pairs.groupby("fold")):
        metrics = pair_metrics(rows["label"], rows["probability"], rows["prediction"])
        negative = rows["label"] == 0
        points.append(
            {
                "fold": fold,
                "colour": fold_line(position)["color"] if pairs["fold"].nunique() > 1 else INK,
                "lowest": rows["threshold"].min(),
                "threshold": rows["threshold"].median(),
                "highest": rows["threshold"].max(),
                "false_positive_rate": rows.loc[negative, "prediction"].mean() if negative.any() else None,
                **metrics,
            }
        )
    return pd.DataFrame(points)


def _add_points(
    figure: Figure,
    points: pd.DataFrame,
    x: "pd.Series[float]",
    y: "pd.Series[float]",
    hover: str,
    with_range: bool = False,
    panel: int | None = None,
) -> None:
    """Add one dot per fold, in the fold's colour; its number tells it apart where there are no colours."""
    spread = {
        "type": "data",
        "array": (points["highest"] - points["threshold"]).tolist(),
        "arrayminus": (points["threshold"] - points["lowest"]).tolist(),
        "color": INK,
        "thickness": 1,
    }
    figure.add_scatter(
        x=x.tolist(),
        y=y.tolist(),
        error_x=spread if with_range and (points["highest"] > points["lowest"]).any() else None,
        name="chosen",
        showlegend=panel in (None, 1),
        legendgroup="chosen",
        mode="markers+text" if len(points) > 1 else "markers",
        text=points["fold"].astype(str).tolist(),
        textposition="top center",
        textfont={"size": 11, "color": INK, "weight": 700},
        cliponaxis=False,  # a dot in a corner keeps its number
        marker={"size": 11, "color": points["colour"].tolist(), "line": {"color": "white", "width": 1.5}},
        customdata=points[["fold", "threshold"]].to_numpy().tolist(),
        hovertemplate="fold %{customdata[0]}, threshold %{customdata[1]:.2f}<br>" + hover + "<extra></extra>",
        row=panel,
        col=None if panel is None else 1,
    )


def _grid_with(thresholds: Probabilities) -> Probabilities:
    """Return the grid of `thresholds` with the chosen thresholds, so that their dots lie on the curve."""
    return np.union1d(THRESHOLDS, thresholds)
