"""How the figures of all wings look: colours, axes, legend, names of criteria.

Colours are from the Okabe-Ito palette (Okabe and Ito 2008, "Color Universal Design"), which the colour-blind can tell
apart; lines differ in dash as well. Names and ids come from users, and plotly reads its labels as HTML, so they are
escaped. Numbers are handed over as plain lists: plotly packs arrays in a way that Kedro-Viz cannot read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
INK, GREY = "#222222", "#666666"
PALE = "#F2F2F2"
DASHES = ("dash", "dot", "dashdot", "longdash", "longdashdot")
GRID = {"showgrid": True, "gridcolor": "#DDDDDD"}

LABEL_CHARACTERS = 22  # longer names are cut on axes; tables and the hover text show them whole
ROW_HEIGHT = 26
_MARK_HEIGHT = 20

_FOLD_COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY)


def new_figure(x_title: str, y_title: str, height: int) -> go.Figure:
    """An empty figure with one pair of axes.

    Args:
        x_title: What the horizontal axis shows, with its unit.
        y_title: What the vertical axis shows, with its unit.
        height: In pixels; the width is the page's.
    """
    return _styled(go.Figure(), x_title, [y_title], height)


def stacked_figure(x_title: str, y_titles: Sequence[str], height: int, heights: Sequence[float]) -> go.Figure:
    """An empty figure with panels one below another that share their horizontal axis.

    Args:
        x_title: What the shared horizontal axis shows, with its unit.
        y_titles: What each panel's vertical axis shows, the first on top.
        height: Of all panels together, in pixels; the width is the page's.
        heights: Share of each panel.
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
    # A figure of one panel has no grid of panels to name a row of.
    if len(y_titles) == 1:
        figure.update_xaxes(title_text=x_title)
        figure.update_yaxes(title_text=y_titles[0])
    else:
        figure.update_xaxes(title_text=x_title, row=len(y_titles))
        for row, title in enumerate(y_titles, start=1):
            figure.update_yaxes(title_text=title, row=row)
    return figure


def fold_line(position: int) -> dict[str, Any]:
    """Colour and dash of a fold's line; thirty folds all differ.

    Args:
        position: Of the fold among those drawn, from 0.
    """
    return {
        "color": _FOLD_COLOURS[position % len(_FOLD_COLOURS)],
        "dash": DASHES[position % len(DASHES)],
        "width": 1.6,
    }


def criteria_down(figure: go.Figure, criteria: Sequence[Mapping[str, Any]]) -> go.Figure:
    """One row per criterion, the first on top, under its short name.

    Args:
        figure: Whose vertical axis holds criterion ids.
        criteria: criterion_id and name of each.
    """
    figure.update_yaxes(
        type="category",
        autorange="reversed",
        tickmode="array",
        tickvals=[row["criterion_id"] for row in criteria],
        ticktext=short_names(criteria),
    )
    return figure


def short_names(criteria: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of criteria for an axis; one that is cut starts with its id, as several may begin alike.

    Args:
        criteria: criterion_id and name of each.
    """
    names = []
    for row in criteria:
        name = row["name"]
        if len(name) > LABEL_CHARACTERS:
            name = f"{row['criterion_id']} {name}"[: LABEL_CHARACTERS - 1] + "…"
        names.append(escape(name))
    return names


def colour_bar(title: str) -> dict[str, Any]:
    """The key of a heat map's colours, lying above it: beside it, it would take a phone's width."""
    return {
        "title": {"text": title, "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        "y": 1.02,
        "yanchor": "bottom",
        "thickness": 10,
    }


def say(figure: go.Figure, sentence: str) -> None:
    """Writes a sentence where there is nothing to draw."""
    figure.add_annotation(text=sentence, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper")


def mark_synthetic(figure: go.Figure) -> None:
    """Says on the figure itself that its data are invented: figures are looked at alone, too."""
    place = {"xref": "paper", "x": 1, "xanchor": "right", "yref": "paper", "y": 0, "yanchor": "top", "yshift": -54}
    figure.add_annotation(text="SYNTHETIC DATA", showarrow=False, font={"size": 11, "color": VERMILLION}, **place)
    # Room of its own, below the title of the axis.
    figure.update_layout(height=figure.layout.height + _MARK_HEIGHT, margin_b=figure.layout.margin.b + _MARK_HEIGHT)
