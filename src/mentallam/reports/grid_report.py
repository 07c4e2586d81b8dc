"""The table of a grid: configurations side by side, over the same seeds."""

from typing import Any

from plotly.graph_objects import Figure

from mentallam.reports.report import markdown_environment
from mentallam.reports.style import BLUE, mark_synthetic, new_figure

TEMPLATE = "grid.md.j2"


def render_grid(grid: dict[str, Any]) -> str:
    """Write the table as Markdown.

    Args:
        grid: `study`, `seeds`, `confidence`, `synthetic`, `data_hash`, and `configurations`: rows as
            `configurations.compare_configurations` returns them, with `seconds`, the mean time of a cross-validation's
            folds, and `report`, the path of its report.
    """
    return markdown_environment().get_template(TEMPLATE).render(grid=grid)


def grid_figure(grid: dict[str, Any]) -> Figure:
    """Draw the mean F1 of each configuration with its interval, and that of each seed.

    Args:
        grid: As in `render_grid`.
    """
    rows = grid["configurations"][::-1]
    names = [f"{len(rows) - at}" for at in range(len(rows))]
    figure = new_figure("F1 (0 to 1)", "configuration", height=140 + 50 * len(rows))
    f1 = [row["f1"] for row in rows]
    figure.add_scatter(
        x=[value for each in f1 for value in each["estimates"].values()],
        y=[name for name, each in zip(names, f1, strict=True) for _ in each["estimates"]],
        mode="markers",
        marker={"color": BLUE, "symbol": "line-ns-open", "size": 12},
        name="a seed",
    )
    figure.add_scatter(
        x=[each["mean"] for each in f1],
        y=names,
        mode="markers",
        marker={"color": BLUE, "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [(each["high"] or 0) - (each["mean"] or 0) for each in f1],
            "arrayminus": [(each["mean"] or 0) - (each["low"] or 0) for each in f1],
        },
        name="mean over the seeds",
    )
    figure.update_yaxes(type="category")
    if grid["synthetic"]:
        mark_synthetic(figure)
    return figure
