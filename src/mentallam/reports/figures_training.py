"""The figure of how the training went."""

import pandas as pd
from plotly.graph_objects import Figure

from mentallam.reports.style import GRID, fold_line, say, stacked_figure

SMOOTHING_SPAN = 10
"""Steps over which the training loss is averaged: the span of an exponential moving average."""

PANELS = {"loss": "training loss", "dev_loss": "dev loss", "dev_f1": "dev F1 (0 to 1)"}
"""The metrics that are shown, the first on top."""


def learning_curves(history: pd.DataFrame | None) -> Figure:
    """Training loss, dev loss and dev F1 against the step, of every fold.

    Args:
        history: Columns fold, step, metric, value; None or empty where none was kept.
    """
    figure = stacked_figure("optimizer step", list(PANELS.values()), height=700, heights=[1 / 3] * 3)
    figure.update_xaxes(rangemode="tozero", **GRID)
    figure.update_yaxes(nticks=6, **GRID)
    shown = None if history is None else history[history["metric"].isin(list(PANELS))]
    if shown is None or shown.empty:
        say(figure, "No history of the training was kept.")
        return figure
    for position, (fold, own) in enumerate(shown.groupby("fold")):
        is_named = False
        for row, (metric, title) in enumerate(PANELS.items(), start=1):
            curve = own[own["metric"] == metric].sort_values("step")
            if curve.empty:
                continue
            values = curve["value"].ewm(span=SMOOTHING_SPAN).mean() if metric == "loss" else curve["value"]
            figure.add_scatter(
                x=curve["step"].tolist(),
                y=values.tolist(),
                name=f"fold {fold}",
                legendgroup=f"fold {fold}",
                showlegend=not is_named,
                mode="lines" if metric == "loss" else "lines+markers",
                line=fold_line(position),
                hovertemplate=f"step %{{x}}, {title} %{{y:.3f}}",
                row=row,
                col=1,
            )
            is_named = True
    figure.update_layout(showlegend=True)  # even of one fold, to name it
    return figure
