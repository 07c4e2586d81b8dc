"""Figures with a row per criterion: confusion, and F1 with intervals next to the baselines' F1."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd
from plotly.graph_objects import Figure
from sklearn.metrics import confusion_matrix

from mentallam.evaluation.metrics import criterion_metrics, pair_metrics
from mentallam.evaluation.resampling import Interval
from mentallam.evaluation.trivial import always
from mentallam.reports.style import (
    BLUE,
    COMPARED_COLOURS,
    GREY,
    GRID_LINES,
    INK,
    PALE,
    ROW_HEIGHT,
    SKY,
    axis_names,
    colour_bar,
    criteria_down,
    new_figure,
)

FINE_TUNED = "model"
"""The name of the fine-tuned model among the models of `criterion_f1`."""

ALL_CRITERIA = {"criterion_id": "all", "symptom": "all criteria"}
MARKS = (("circle", BLUE), *zip(("diamond", "square", "triangle-up", "x"), COMPARED_COLOURS, strict=True))
"""Symbol and colour of the fine-tuned model, then of the baselines."""

CELLS = ("true negative", "false positive", "false negative", "true positive")
"""The cells of scikit-learn's confusion matrix, row by row."""

SHOWN_CELLS = {
    "TP": "true positive",
    "FN": "false negative",
    "FP": "false positive",
    "TN": "true negative",
}
"""Axis name and cell, from left to right: first the two cells of label 1, then the two of label 0."""


def confusion(pairs: pd.DataFrame, criteria: pd.DataFrame) -> Figure:
    """Draw the confusion matrix of all criteria and of each one as a row of four cells.

    The colour is the cell's share of the pairs with the same true label.

    Args:
        pairs: criterion_id, label, probability, prediction; one row per pair.
        criteria: Columns criterion_id, symptom, criterion.

    Raises:
        MentallamError: A criterion is not in `criteria`.
    """
    by_criterion = {str(criterion_id): rows for criterion_id, rows in pairs.groupby("criterion_id")}
    listed = criterion_metrics(pairs, criteria)
    rows = [ALL_CRITERIA, *listed]
    counts = [_cells(pairs), *(_cells(by_criterion[row["criterion_id"]]) for row in listed)]
    # The empty first line keeps the title below the names: within a page, plotly puts it next to them otherwise.
    figure = new_figure("<br>confusion matrix (pairs)", "", height=170 + ROW_HEIGHT * len(rows))
    figure.add_heatmap(
        x=list(SHOWN_CELLS),
        y=[row["criterion_id"] for row in rows],
        z=[_shares(cells) for cells in counts],
        text=[[str(cells[name]) for name in SHOWN_CELLS.values()] for cells in counts],
        texttemplate="%{text}",
        textfont_color=INK,
        customdata=[[[escape(row["symptom"]), name] for name in SHOWN_CELLS.values()] for row in rows],
        hovertemplate="%{customdata[0]}<br>%{text} %{customdata[1]}s, %{z:.1%} of the pairs with this label"
        "<extra></extra>",
        colorscale=[[0, PALE], [1, SKY]],
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar=colour_bar("share of the true label"),
    )
    figure.update_xaxes(type="category")
    return criteria_down(figure, rows)


def criterion_f1(
    oof: pd.DataFrame,
    criteria: pd.DataFrame,
    baselines: pd.DataFrame | None = None,
    intervals: Mapping[str, Mapping[str, Interval]] | None = None,
    confidence: float = 0.95,
) -> Figure:
    """Draw F1 of each criterion and of all pairs, for the model, each baseline, and answering yes to everything.

    Args:
        oof: The out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        baselines: The columns of the out-of-fold table and `model`, over the same pairs; None without baselines.
        intervals: Interval of F1 by model (`FINE_TUNED` or a baseline's name) and criterion_id (or "all"); a dot
            without an entry has no interval.
        confidence: Confidence of the intervals, for the legend.

    Raises:
        MentallamError: A criterion is not in `criteria`, or a value is out of range.
    """
    tables = {FINE_TUNED: oof}
    if baselines is not None:
        tables |= {str(model): table for model, table in baselines.groupby("model", sort=False)}
    rows = [{**ALL_CRITERIA, "n_positive": int(oof["label"].sum())}, *criterion_metrics(oof, criteria)]
    gap = 0.7 / len(tables)
    figure = new_figure("F1 (0 to 1)", "", height=150 + round(len(rows) * (18 + 14 * len(tables))))
    for position, (model, table) in enumerate(tables.items()):
        symbol, colour = MARKS[position % len(MARKS)]
        offset = (position - (len(tables) - 1) / 2) * gap
        _add_model(
            figure,
            escape(model),
            _f1(table, criteria),
            (intervals or {}).get(model, {}),
            [(row_number + offset, row) for row_number, row in enumerate(rows)],
            {"symbol": symbol, "color": colour, "size": 9},
            confidence,
        )
    all_positive = _f1(always(oof, 1), criteria)
    figure.add_scatter(
        x=[all_positive[row["criterion_id"]] for row in rows],
        y=list(range(len(rows))),
        name="yes to everything",
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 12 + 4 * len(tables), "color": GREY, "line": {"width": 2}},
        customdata=[escape(row["symptom"]) for row in rows],
        hovertemplate="%{customdata}<br>yes to everything: F1 %{x:.3f}<extra></extra>",
    )
    figure.update_xaxes(range=[-0.02, 1.02], dtick=0.2, **GRID_LINES)
    figure.update_yaxes(
        range=[len(rows) - 0.4, -0.6],
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[f"{name}<br>n+ = {row['n_positive']}" for name, row in zip(axis_names(rows), rows, strict=True)],
    )
    return figure


def _add_model(
    figure: Figure,
    model: str,
    f1: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
    places: Sequence[tuple[float, Mapping[str, Any]]],
    marker: Mapping[str, Any],
    confidence: float,
) -> None:
    """Draw a model's dots, each on the line of its interval.

    The intervals are a separate trace: error bars start at the dot, and a bootstrap interval need not contain it.
    """
    drawn = [(place, row, value) for place, row in places if (value := f1.get(row["criterion_id"])) is not None]
    known = [(place, intervals[row["criterion_id"]]) for place, row, _ in drawn if row["criterion_id"] in intervals]
    if known:
        figure.add_scatter(
            x=[end for _, interval in known for end in (interval["low"], interval["high"], None)],
            y=[end for place, _ in known for end in (place, place, None)],
            mode="lines",
            line={"color": marker["color"], "width": 2},
            legendgroup=model,
            showlegend=False,
            hoverinfo="skip",
        )
    figure.add_scatter(
        x=[value for _, _, value in drawn],
        y=[place for place, _, _ in drawn],
        name=model + _promise(len(known), len(drawn), confidence),
        legendgroup=model,
        mode="markers",
        marker=marker,
        customdata=[[escape(row["symptom"]), _bounds(intervals.get(row["criterion_id"]))] for _, row, _ in drawn],
        hovertemplate="%{customdata[0]}<br>" + model + ": F1 %{x:.3f}%{customdata[1]}<extra></extra>",
    )


def _promise(known: int, drawn: int, confidence: float) -> str:
    """Return what a legend says of the intervals of a model's dots; baselines have one of all criteria alone."""
    if not known:
        return ""
    where = " of all criteria" if known == 1 < drawn else ""
    return f" ({100 * confidence:g} % interval{where})"


def _f1(table: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, float | None]:
    """Return F1 by criterion_id, and of all pairs under "all"; None without a positive pair."""
    pooled = pair_metrics(table["label"], table["probability"], table["prediction"])["f1"]
    by_criterion = {row["criterion_id"]: row["f1"] for row in criterion_metrics(table, criteria)}
    return {ALL_CRITERIA["criterion_id"]: pooled} | by_criterion


def _cells(pairs: pd.DataFrame) -> dict[str, int]:
    counts = confusion_matrix(pairs["label"], pairs["prediction"], labels=[0, 1]).ravel().tolist()
    return dict(zip(CELLS, counts, strict=True))


def _shares(cells: Mapping[str, int]) -> list[float | None]:
    """Return each shown cell's share of the pairs with its true label; None where there are no such pairs."""
    shown = [cells[name] for name in SHOWN_CELLS.values()]
    positive, negative = sum(shown[:2]), sum(shown[2:])
    return [n / total if total else None for n, total in zip(shown, [positive] * 2 + [negative] * 2, strict=True)]


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"
