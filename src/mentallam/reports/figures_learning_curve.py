"""The figure of performance by the size of the training set."""

from collections.abc import Mapping
from html import escape
from typing import Any

from plotly.graph_objects import Figure

from mentallam.evaluation.metrics import METRICS_BY_NAME
from mentallam.reports.figures_criteria import MARKS
from mentallam.reports.style import DASHES, GRID_LINES, mark_synthetic, stacked_figure

PANELS = ("f1", "average_precision")
"""The metrics of the panels, from top to bottom."""


def size_curve(curve: Mapping[str, Any]) -> Figure:
    """Draw F1 and average precision of each classifier against the number of training posts, with intervals.

    Args:
        curve: As `evaluation.learning_curve.learning_curve` returns it.
    """
    posts = [row["posts"] for row in curve["sizes"]]
    titles = [f"{METRICS_BY_NAME[name].label} (0 to 1)" for name in PANELS]
    figure = stacked_figure("training posts (mean over folds)", titles, height=620, heights=[0.5, 0.5])
    offset = 0.008 * max(posts)  # the intervals of two classifiers at one size would cover each other
    for place, (model, rows) in enumerate(curve["curves"].items()):
        symbol, colour = MARKS[place % len(MARKS)]
        x = [size + place * offset for size in posts]
        for panel, name in enumerate(PANELS, start=1):
            ends = [(at, row[name]) for at, row in zip(x, rows, strict=True) if row[name]["low"] is not None]
            group: dict[str, Any] = {"legendgroup": model, "row": panel, "col": 1}
            figure.add_scatter(
                x=[end for at, _ in ends for end in (at, at, None)],
                y=[end for _, bounds in ends for end in (bounds["low"], bounds["high"], None)],
                mode="lines",
                line={"color": colour, "width": 1.6},
                showlegend=False,
                hoverinfo="skip",
                **group,
            )
            figure.add_scatter(
                x=x,
                y=[row[name]["estimate"] for row in rows],
                name=f"{escape(model)} ({100 * curve['method']['confidence']:g} % interval)",
                showlegend=panel == 1,
                mode="lines+markers",
                line={"color": colour, "width": 2, "dash": ("solid", *DASHES)[place % (1 + len(DASHES))]},
                marker={"symbol": symbol, "size": 9},
                customdata=[row["size"] for row in rows],
                hovertemplate="%{customdata} % of the training posts: %{y:.3f}<extra></extra>",
                **group,
            )
    figure.update_layout(showlegend=True)
    figure.update_xaxes(rangemode="tozero", **GRID_LINES)
    figure.update_yaxes(rangemode="tozero", nticks=6, **GRID_LINES)
    if curve["synthetic"]:
        mark_synthetic(figure)
    return figure
