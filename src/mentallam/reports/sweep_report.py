"""The report of a search: its best configuration, how to confirm it, every trial, and what mattered."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from plotly.graph_objects import Figure

from mentallam.reports.report import markdown_environment
from mentallam.reports.rounding import figure as rounded
from mentallam.reports.style import BLUE, VERMILLION, mark_synthetic, new_figure

TEMPLATE = "sweep.md.j2"


def render_sweep(sweep: dict[str, Any]) -> str:
    """Write the report as Markdown.

    Args:
        sweep: As the node `search` returns it.
    """
    keys = list(sweep["options"]["space"])
    heads = ["trial", *keys, "average precision", "folds", "minutes", ""]
    rows = [
        [
            str(trial["number"]),
            *(_shown(trial["values"][key]) for key in keys),
            rounded(trial["score"]),
            str(trial["folds"]),
            "" if trial["seconds"] is None else f"{trial['seconds'] / 60:.1f}",
            "pruned" if trial["pruned"] else "",
        ]
        for trial in sorted(sweep["trials"], key=lambda each: (each["pruned"], -float(each["score"])))
    ]
    lines = [heads, ["---"] * len(heads), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
    best = rounded(sweep["best"]["score"])
    return markdown_environment().get_template(TEMPLATE).render(sweep=sweep, table=table, best=best)


def sweep_figures(sweep: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw the trials as lines through their values, and what explains their scores.

    Args:
        sweep: As the node `search` returns it.
    """
    figures = {"trials": _trials(sweep)}
    if sweep["importances"]:
        figures["importances"] = _importances(sweep)
    return figures


def _trials(sweep: Mapping[str, Any]) -> Figure:
    """Draw each trial as a line through its values, one axis each; plotly's own figure for that needs WebGL."""
    trials = sorted(sweep["trials"], key=lambda each: float(each["score"]))
    columns = {key: [trial["values"][key] for trial in trials] for key in sweep["options"]["space"]}
    columns["average precision"] = [trial["score"] for trial in trials]
    axes = [_Axis(name, values) for name, values in columns.items()]
    figure = new_figure("", "", height=420)
    for at, trial in enumerate(trials):
        best = trial["number"] == sweep["best"]["number"]
        figure.add_scatter(
            x=list(range(len(axes))),
            y=[axis.heights[at] for axis in axes],
            mode="lines+markers",
            line={"color": VERMILLION if best else BLUE, "width": 3 if best else 1},
            opacity=1 if best else 0.6,
            name="the best" if best else "other trials",
            showlegend=best or at == 0,
            legendgroup="best" if best else "other",
            hovertext=[f"trial {trial['number']}: {escape(axis.name)} = {axis.words[at]}" for axis in axes],
            hoverinfo="text",
        )
    figure.update_xaxes(
        tickvals=list(range(len(axes))), ticktext=[axis.title for axis in axes], range=[-0.3, len(axes) - 0.7]
    )
    figure.update_yaxes(tickvals=[0, 1], ticktext=["lowest", "highest"], range=[-0.1, 1.1])
    if sweep["synthetic"]:
        mark_synthetic(figure)
    return figure


class _Axis:
    """One of the axes: where each trial crosses it, from 0 to 1, and its ends in words."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        self.name, self.words = name, [escape(_shown(value)) for value in values]
        numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
        order = sorted(set(values)) if numbers else sorted({str(value) for value in values})
        places = {value: at / max(1, len(order) - 1) for at, value in enumerate(order)}
        self.heights = [places[value if numbers else str(value)] for value in values]
        ends = f"{escape(_shown(order[0]))} to {escape(_shown(order[-1]))}"
        self.title = f"{escape(name)}<br>{ends}"


def _importances(sweep: Mapping[str, Any]) -> Figure:
    ranked = sorted(sweep["importances"].items(), key=lambda item: item[1])
    figure = new_figure("share of the variance (0 to 1)", "", height=120 + 40 * len(ranked))
    figure.add_bar(
        x=[share for _, share in ranked],
        y=[escape(key) for key, _ in ranked],
        orientation="h",
        marker={"color": BLUE},
        showlegend=False,
    )
    if sweep["synthetic"]:
        mark_synthetic(figure)
    return figure


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
