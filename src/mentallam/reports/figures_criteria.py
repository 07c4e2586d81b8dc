"""Figures with a row per criterion: confusion, and F1 with intervals against the baselines."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, TypedDict

import pandas as pd
from plotly.graph_objects import Figure
from sklearn.metrics import confusion_matrix

from mentallam.evaluation.metrics import criterion_metrics, pair_metrics
from mentallam.evaluation.trivial import always
from mentallam.reports.style import (
    BLUE,
    GREEN,
    GREY,
    GRID,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    ROW_HEIGHT,
    SKY,
    VERMILLION,
    colour_bar,
    criteria_down,
    new_figure,
    short_names,
)

OWN_MODEL = "model"
"""The fine-tuned classifier among the models of `criterion_f1`."""

ALL = {"criterion_id": "all", "name": "all criteria"}
BASELINE_MARKS = (("diamond", VERMILLION), ("square", GREEN), ("triangle-up", PURPLE), ("x", ORANGE))
CELLS = ("true negative", "false positive", "false negative", "true positive")
"""In the order of scikit-learn's confusion matrix, row by row."""

SHOWN_CELLS = ("true positive", "false negative", "false positive", "true negative")


class Interval(TypedDict):
    """A figure and the two ends of its interval."""

    estimate: float
    low: float
    high: float


def confusion(pairs: pd.DataFrame, criteria: pd.DataFrame) -> Figure:
    """The confusion matrix of all criteria and of each, as a row of four cells; colour is the share of the true label.

    Args:
        pairs: criterion_id, label, probability, prediction; one row per pair.
        criteria: Columns criterion_id, symptom, criterion.

    Raises:
        MentallamError: A criterion that `criteria` does not list.
    """
    rows = _rows(pairs, criteria)
    by_criterion = {str(criterion_id): own for criterion_id, own in pairs.groupby("criterion_id")}
    counts = [_cells(pairs)] + [_cells(by_criterion[row["criterion_id"]]) for row in rows]
    shares = [
        [cells[name] / n if (n := _same_label(cells, name)) else None for name in SHOWN_CELLS] for cells in counts
    ]
    rows = [ALL, *rows]
    # On a line of its own: within a page plotly puts the title of a named axis beside the names, not below them.
    figure = new_figure("<br>confusion matrix (pairs)", "", height=170 + ROW_HEIGHT * len(rows))
    figure.add_heatmap(
        x=["TP", "FN", "FP", "TN"],
        y=[row["criterion_id"] for row in rows],
        z=shares,
        text=[[str(cells[name]) for name in SHOWN_CELLS] for cells in counts],
        texttemplate="%{text}",
        textfont_color=INK,
        customdata=[[[escape(row["name"]), name] for name in SHOWN_CELLS] for row in rows],
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
    """F1 of every criterion and of all pairs: the model, each baseline, and answering yes to everything.

    Args:
        oof: The out-of-fold table.
        criteria: Columns criterion_id, symptom, criterion.
        baselines: The columns of the out-of-fold table and `model`, over the same pairs; None without baselines.
        intervals: `OWN_MODEL` or a baseline's name to criterion_id (or "all") to the interval of its F1; what
            is missing is drawn without interval.
        confidence: Of the intervals, for the legend.

    Raises:
        MentallamError: A criterion that `criteria` does not list, or a value out of range.
    """
    tables = {OWN_MODEL: oof}
    if baselines is not None:
        tables |= {str(name): own for name, own in baselines.groupby("model", sort=False)}
    rows = [{**ALL, "n_positive": int(oof["label"].sum())}, *_rows(oof, criteria)]
    marks = [("circle", BLUE), *BASELINE_MARKS]
    gap = 0.7 / len(tables)
    figure = new_figure("F1 (0 to 1)", "", height=150 + round(len(rows) * (18 + 14 * len(tables))))
    for position, (model, table) in enumerate(tables.items()):
        symbol, colour = marks[position % len(marks)]
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
    figure.add_scatter(
        x=_all_positive_f1(oof, criteria, rows),
        y=list(range(len(rows))),
        name="yes to everything",
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 12 + 4 * len(tables), "color": GREY, "line": {"width": 2}},
        customdata=[escape(row["name"]) for row in rows],
        hovertemplate="%{customdata}<br>yes to everything: F1 %{x:.3f}<extra></extra>",
    )
    figure.update_xaxes(range=[-0.02, 1.02], dtick=0.2, **GRID)
    figure.update_yaxes(
        range=[len(rows) - 0.4, -0.6],
        tickmode="array",
        tickvals=list(range(len(rows))),
        ticktext=[f"{name}<br>n+ = {row['n_positive']}" for name, row in zip(short_names(rows), rows, strict=True)],
    )
    return figure


def _add_model(
    figure: Figure,
    model: str,
    f1: Mapping[str, float],
    intervals: Mapping[str, Interval],
    places: Sequence[tuple[float, Mapping[str, Any]]],
    marker: Mapping[str, Any],
    confidence: float,
) -> None:
    """A model's dots, each on the line of its interval.

    The interval is a line of its own, not error bars, which are drawn from the dot: an interval of the bootstrap need
    not hold the estimate.
    """
    drawn = [(place, row, f1[row["criterion_id"]]) for place, row in places if row["criterion_id"] in f1]
    known = [(place, intervals[row["criterion_id"]]) for place, row, _ in drawn if row["criterion_id"] in intervals]
    if known:
        figure.add_scatter(
            x=[end for _, own in known for end in (own["low"], own["high"], None)],
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
        name=model + (f" ({100 * confidence:g} % interval)" if known else ""),
        legendgroup=model,
        mode="markers",
        marker=marker,
        customdata=[[escape(row["name"]), _spelt(intervals.get(row["criterion_id"]))] for _, row, _ in drawn],
        hovertemplate="%{customdata[0]}<br>" + model + ": F1 %{x:.3f}%{customdata[1]}<extra></extra>",
    )


def _rows(pairs: pd.DataFrame, criteria: pd.DataFrame) -> list[dict[str, Any]]:
    """The criteria that have pairs: criterion_id, name, n_positive."""
    return [{**row, "name": row["symptom"]} for row in criterion_metrics(pairs, criteria)]


def _f1(table: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, float]:
    pooled = pair_metrics(table["label"], table["probability"], table["prediction"])["f1"]
    return {"all": pooled} | {row["criterion_id"]: row["f1"] for row in criterion_metrics(table, criteria)}


def _all_positive_f1(oof: pd.DataFrame, criteria: pd.DataFrame, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    f1 = _f1(always(oof, 1), criteria)
    return [f1[row["criterion_id"]] for row in rows]


def _cells(pairs: pd.DataFrame) -> dict[str, int]:
    counts = confusion_matrix(pairs["label"], pairs["prediction"], labels=[0, 1]).ravel().tolist()
    return dict(zip(CELLS, counts, strict=True))


def _same_label(cells: Mapping[str, int], name: str) -> int:
    """Pairs that share the true label of a cell."""
    is_positive = name in ("true positive", "false negative")
    return sum(cells[other] for other in (SHOWN_CELLS[:2] if is_positive else SHOWN_CELLS[2:]))


def _spelt(interval: Interval | None) -> str:
    return "" if interval is None else f" ({interval['low']:.3f} to {interval['high']:.3f})"
