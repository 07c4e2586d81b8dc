"""The common style of all figures: colours, axes, legend, names of criteria.

The colours are from the Okabe-Ito palette (Okabe and Ito 2008, "Color Universal Design"), which colour-blind readers
can tell apart; lines differ in dash as well. Names and ids come from users, and plotly reads its labels as HTML, so
they are escaped. Numbers are passed as plain lists: plotly packs arrays in a format that Kedro-Viz cannot read.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mentallam.evaluation.metrics import criterion_name

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY = "#222222", "#666666"
PALE = "#F2F2F2"
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
GRID_LINES = {"showgrid": True, "gridcolor": "#DDDDDD"}

COMPARED_COLOURS = (VERMILLION, GREEN, PURPLE, ORANGE)
"""The colours of series that a figure compares with a blue one."""

SYNTHETIC_MARK = "SYNTHETIC DATA"
ROW_HEIGHT = 26

_FOLD_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)
_AXIS_NAME_CHARACTERS = 22
_MARK_HEIGHT = 20


def new_figure(x_title: str, y_title: str, height: int) -> go.Figure:
    """Create an empty figure with one pair of axes.

    Args:
        x_title: What the horizontal axis shows, with its unit.
        y_title: What the vertical axis shows, with its unit.
        height: In pixels; the page sets the width.
    """
    return _styled(go.Figure(), x_title, [y_title], height)


def stacked_figure(x_title: str, y_titles: Sequence[str], height: int, heights: Sequence[float]) -> go.Figure:
    """Create an empty figure of panels below one another, which share the horizontal axis.

    Args:
        x_title: What the shared horizontal axis shows, with its unit.
        y_titles: What the vertical axis of each panel shows, from top to bottom.
        height: Of all panels together, in pixels; the page sets the width.
        heights: Each panel's share of the height.
    """
    panels = make_subplots(rows=len(y_titles), shared_xaxes=True, vertical_spacing=0.05, row_heights=list(heights))
    return _styled(panels, x_title, y_titles, height)


def _styled(figure: go.Figure, x_title: str, y_titles: Sequence[str], height: int) -> go.Figure:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 50, "r": 12, "t": 50, "b": 50},
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal", "font_size": 11},
        paper_bgcolor="white",
        plot_bgcolor="white",
        dragmode=False,
    )
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(automargin=True, fixedrange=True, zeroline=False, showgrid=False, title_font_size=13)
    # plotly accepts a row number only in a figure that was made of several panels.
    if len(y_titles) == 1:
        figure.update_xaxes(title_text=x_title)
        figure.update_yaxes(title_text=y_titles[0])
    else:
        figure.update_xaxes(title_text=x_title, row=len(y_titles))
        for row, title in enumerate(y_titles, start=1):
            figure.update_yaxes(title_text=title, row=row)
    return figure


def fold_line(position: int) -> dict[str, Any]:
    """Return the colour, dash and width of a fold's line; the lines of thirty folds all differ.

    Args:
        position: Position of the fold among those drawn, from 0.
    """
    return {
        "color": _FOLD_COLOURS[position % len(_FOLD_COLOURS)],
        "dash": DASHES[position % len(DASHES)],
        "width": 1.6,
    }


def criteria_down(figure: go.Figure, criteria: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Give each criterion a row of the figure, from top to bottom, and return the figure.

    Args:
        figure: A figure whose vertical axis holds criterion ids.
        criteria: Rows with criterion_id and symptom.
    """
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        tickmode="array",
        tickvals=[row["criterion_id"] for row in criteria],
        ticktext=axis_names(criteria),
    )
    return figure


def axis_names(criteria: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the criteria's short names for an axis; tables and the hover text show them in full.

    A name that is too long gives way to the start of `criterion_name`, since the id tells apart names that begin alike.

    Args:
        criteria: Rows with criterion_id and symptom.
    """
    return [
        escape(
            row["symptom"]
            if len(row["symptom"]) <= _AXIS_NAME_CHARACTERS
            else criterion_name(dict(row))[: _AXIS_NAME_CHARACTERS - 1] + "…"
        )
        for row in criteria
    ]


def colour_bar(title: str) -> dict[str, Any]:
    """Return the key of a heat map's colours, above the map: beside it, the key would be as wide as a phone."""
    return {
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "thickness": 10,
    }


def write_instead(figure: go.Figure, sentence: str) -> None:
    """Write a sentence in the middle of a figure that has nothing to draw."""
    figure.add_annotation(text=sentence, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")


def mark_synthetic(figure: go.Figure) -> None:
    """Mark the figure itself as drawn from synthetic data, since readers also see it outside its page."""
    place = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -54}
    figure.add_annotation(text=SYNTHETIC_MARK, showarrow=False, font={"size": 11, "color": VERMILLION}, **place)
    # The mark goes below the title of the axis, where the figure has no space for it yet.
    figure.update_layout(height=figure.layout.height + _MARK_HEIGHT, margin_b=figure.layout.margin.b + _MARK_HEIGHT)
