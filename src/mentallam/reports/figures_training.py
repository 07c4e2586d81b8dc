"""The figure of the learning curves."""

import pandas as pd
from plotly.graph_objects import Figure

from mentallam.reports.style import GRID_LINES, fold_line, stacked_figure, write_instead

SMOOTHING_SPAN = 10
"""Span, in steps, of the exponential moving average over the training loss."""

PANELS = {"loss": "training loss", "dev_loss": "dev loss", "dev_f1": "dev F1 (0 to 1)"}
"""Metrics and axis titles of the panels, from top to bottom."""


def learning_curves(history: pd.DataFrame | None) -> Figure:
    """Draw training loss, dev loss and dev F1 of every fold against the step.

    Args:
        history: Columns fold, step, metric, value; None or empty if no history was saved.
    """
    figure = stacked_figure("optimizer step", list(PANELS.values()), height=700, heights=[1 / 3] * 3)
    figure.update_xaxes(rangemode="tozero", **GRID_LINES)
    figure.update_yaxes(nticks=6, **GRID_LINES)
    shown = None if history is None else history[history["metric"].isin(list(PANELS))]
    if shown is None or shown.empty:
        write_instead(figure, "No history of the training was kept.")
        return figure
    for position, (fold, rows) in enumerate(shown.groupby("fold")):
        is_in_legend = False
        for panel, (metric, title) in enumerate(PANELS.items(), start=1):
            curve = rows[rows["metric"] == metric].sort_values("step")
            if curve.empty:
                continue
            values = curve["value"].ewm(span=SMOOTHING_SPAN).mean() if metric == "loss" else curve["value"]
            figure.add_scatter(
                x=curve["step"].tolist(),
                y=values.tolist(),
                name=f"fold {fold}",
                legendgroup=f"fold {fold}",
                showlegend=not is_in_legend,
                mode="lines" if metric == "loss" else "lines+markers",
                line=fold_line(position),
                hovertemplate=f"step %{{x}}, {title} %{{y:.3f}}",
                row=panel,
                col=1,
            )
            is_in_legend = True
    figure.update_layout(showlegend=True)  # plotly hides the legend of a single fold, which names it
    return figure
