"""The decision curve: net benefit against the threshold probability."""

from collections.abc import Mapping, Sequence
from typing import Any

from plotly.graph_objects import Figure

from mentallam.reports.style import BLUE, GREY, GRID_LINES, VERMILLION, new_figure, write_instead

TICKS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
BAND = "rgba(0, 114, 178, 0.2)"
"""`BLUE`, through which the grid shows."""


def net_benefit(curve: Sequence[Mapping[str, Any]], confidence: float) -> Figure:
    """Draw the net benefit of the model, with its band, beside reading all pairs and reading none.

    Args:
        curve: As `evaluation.net_benefit.decision_curve` returns it; empty where it was not computed.
        confidence: Of the intervals.
    """
    x_title = "threshold probability, and the false alarms that a missed match is worth"
    figure = new_figure(x_title, "net benefit (matches per pair)", height=480)
    if not curve:
        write_instead(figure, "The net benefit was not computed.")
        return figure
    thresholds = [row["threshold"] for row in curve]
    model = [row["model"] for row in curve]
    figure.add_scatter(
        x=thresholds + thresholds[::-1],
        y=[bounds["low"] for bounds in model] + [bounds["high"] for bounds in reversed(model)],
        name=f"{100 * confidence:g} % interval",
        mode="lines",
        line_width=0,
        fill="toself",
        fillcolor=BAND,
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=thresholds,
        y=[row["read_all"]["estimate"] for row in curve],
        name="read all",
        mode="lines",
        line={"color": VERMILLION, "dash": "dash", "width": 1.6},
        hovertemplate="threshold %{x:.2f}, net benefit %{y:.4f}",
    )
    figure.add_scatter(
        x=[0, thresholds[-1]],
        y=[0, 0],
        name="read none",
        mode="lines",
        line={"color": GREY, "dash": "dot", "width": 1.6},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=thresholds,
        y=[bounds["estimate"] for bounds in model],
        name="model",
        mode="lines",
        line={"color": BLUE, "width": 2.5},
        customdata=[[bounds["low"], bounds["high"]] for bounds in model],
        hovertemplate="threshold %{x:.2f}, net benefit %{y:.4f} (%{customdata[0]:.4f} to %{customdata[1]:.4f})",
    )
    highest = max(bounds["high"] for bounds in model)
    figure.update_xaxes(
        range=[0, thresholds[-1] + 0.01],
        tickmode="array",
        tickvals=list(TICKS),
        ticktext=[f"{tick:g}<br>{(1 - tick) / tick:.2g}:1" for tick in TICKS],
        **GRID_LINES,
    )
    # Reading all falls far below 0, where nothing is left to compare.
    figure.update_yaxes(range=[-0.3 * highest, 1.1 * highest] if highest > 0 else None, **GRID_LINES)
    return figure
