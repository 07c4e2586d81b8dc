"""The figure of latency: how long each post took."""

from collections.abc import Mapping, Sequence

from plotly.graph_objects import Figure

from mentallam.reports.style import BLUE, GRID_LINES, INK, ORANGE, new_figure

_BINS = 40
_COLOURS = (BLUE, ORANGE)


def latency_histogram(timings: Mapping[str, Sequence[float]], limit_ms: float) -> Figure:
    """Draw a histogram of the milliseconds per post, with a line at the limit.

    Args:
        timings: Milliseconds per post, by what was timed.
        limit_ms: The limit for all criteria.
    """
    figure = new_figure("milliseconds per post", "posts", height=420)
    for (name, milliseconds), colour in zip(timings.items(), _COLOURS, strict=True):
        figure.add_histogram(
            x=list(milliseconds), name=name.replace("_", " "), nbinsx=_BINS, marker_color=colour, opacity=0.7
        )
    figure.add_vline(x=limit_ms, line={"color": INK, "dash": "dot"}, annotation_text="limit")
    figure.update_layout(barmode="overlay")
    figure.update_xaxes(rangemode="tozero", **GRID_LINES)
    figure.update_yaxes(**GRID_LINES)
    return figure
