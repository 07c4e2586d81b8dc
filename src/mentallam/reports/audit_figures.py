"""The figures of the data audit, as plotly figures: for the audit's page, and as datasets for Kedro-Viz."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from mentallam.reports.style import (
    BLUE,
    COMPARED_COLOURS,
    DASHES,
    GRID_LINES,
    ORANGE,
    PALE,
    ROW_HEIGHT,
    axis_names,
    colour_bar,
    criteria_down,
    new_figure,
    write_instead,
)

MOST_CELLS_WITH_TEXT = 15
"""Most columns of a heat map in which a number fits into a cell on a phone."""

LENGTH_TICKS = [2**power for power in range(16)]


def class_balance(criteria: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the positives and explicit negatives of each criterion."""
    figure = new_figure("pairs", "", height=110 + ROW_HEIGHT * len(criteria))
    for kind, name, colour in (("positive", "positive", BLUE), ("explicit_negative", "explicit negative", ORANGE)):
        figure.add_bar(
            orientation="h",
            name=name,
            x=[row[kind] for row in criteria],
            y=[row["criterion_id"] for row in criteria],
            marker_color=colour,
            customdata=[[escape(row["symptom"]), row["pairs"]] for row in criteria],
            hovertemplate="%{customdata[0]}<br>%{x} of %{customdata[1]} pairs<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(rangemode="tozero", **GRID_LINES)
    return criteria_down(figure, criteria)


def co_occurrence(criteria: Sequence[Mapping[str, Any]], together: Mapping[str, Any]) -> go.Figure:
    """Draw how many posts match both of two criteria: counts in the cells, the Jaccard index as colour."""
    rows, columns = criteria[1:], criteria[:-1]

    def below_diagonal(table: Sequence[Sequence[Any]]) -> list[list[Any]]:
        return [list(table[i][:i]) + [None] * (len(columns) - i) for i in range(1, len(criteria))]

    counts, lift = below_diagonal(together["posts"]), below_diagonal(together["lift"])
    figure = new_figure("", "", height=230 + ROW_HEIGHT * len(rows))
    figure.add_heatmap(
        x=[row["criterion_id"] for row in columns],
        y=[row["criterion_id"] for row in rows],
        z=below_diagonal(together["jaccard"]),
        text=[["" if count is None else str(count) for count in row] for row in counts],
        texttemplate="%{text}" if len(criteria) <= MOST_CELLS_WITH_TEXT else None,
        customdata=[
            [
                [escape(row["symptom"]), escape(column["symptom"]), _decimal(value)]
                for column, value in zip(columns, lifts, strict=True)
            ]
            for row, lifts in zip(rows, lift, strict=True)
        ],
        hovertemplate="%{customdata[0]} and<br>%{customdata[1]}<br>%{text} posts, Jaccard %{z:.2f}, "
        "lift %{customdata[2]}<extra></extra>",
        colorscale=[[0, PALE], [1, BLUE]],
        zmin=0,
        xgap=1,
        ygap=1,
        hoverongaps=False,
        colorbar=colour_bar("Jaccard index (0 to 1)"),
    )
    figure.update_xaxes(
        type="category",
        tickmode="array",
        tickvals=[row["criterion_id"] for row in columns],
        ticktext=axis_names(columns),
        tickangle=-90,
    )
    return criteria_down(figure, rows)


def lengths(words: Mapping[str, Any], tokens: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw histograms of the posts' lengths: in words, and in tokens of every tokenizer that counted."""
    figure = new_figure("length of a post (logarithmic)", "posts per bin", height=360)
    figure.add_scatter(**_outline(words), name="words", line_color=BLUE, fill="tozeroy")
    counted = _counted(tokens)
    for position, counts in enumerate(counted):
        name = f"tokens, {escape(counts['tokenizer'])}"
        figure.add_scatter(**_outline(counts["histogram"]), name=name, line=_tokenizer_line(position))
    histograms = (words, *(counts["histogram"] for counts in counted))
    edges = [edge for histogram in histograms for edge in histogram["edges"]]
    ticks = LENGTH_TICKS[:: 1 if max(edges) < 64 * min(edges) else 2]  # more would not fit on a phone
    figure.update_xaxes(type="log", tickvals=ticks, **GRID_LINES)
    figure.update_yaxes(rangemode="tozero", **GRID_LINES)
    return figure


def truncation(n_posts: int, tokens: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Draw the share of posts that are cut against the length of a pair; a large dot marks the configured length."""
    figure = new_figure("longest pair, in tokens (logarithmic)", "posts that are cut, in %", height=360)
    counted = _counted(tokens)
    for position, counts in enumerate(counted):
        cuts = counts["truncated"]
        figure.add_scatter(
            x=[cut["max_length"] for cut in cuts],
            y=[100 * cut["posts"] / n_posts for cut in cuts],
            customdata=[[cut["posts"], cut["room"]] for cut in cuts],
            hovertemplate="%{x} tokens: %{customdata[0]} posts cut (%{y:.1f} %)<br>"
            "room for a post: %{customdata[1]} tokens<extra></extra>",
            name=escape(counts["tokenizer"]),
            mode="lines+markers",
            line=_tokenizer_line(position),
            marker_size=[14 if cut["max_length"] == counts["max_length"] else 6 for cut in cuts],
        )
    if not counted:
        write_instead(figure, "Tokens were not counted.")
    figure.update_layout(showlegend=True)  # plotly hides the legend of a single tokenizer, which names it
    figure.update_xaxes(type="log", tickvals=[128, 256, 512, 1024, 2048, 4096], **GRID_LINES)
    figure.update_yaxes(range=[-3, 103], **GRID_LINES)
    return figure


def authors(found: Mapping[str, Any] | None) -> go.Figure:
    """Draw how many authors wrote how many posts."""
    figure = new_figure("posts per author", "authors", height=280)
    if found is None:
        write_instead(figure, "The corpus does not name its authors.")
        return figure
    n_authors = found["posts_per_author"]
    figure.add_bar(
        x=list(n_authors),
        y=list(n_authors.values()),
        text=list(n_authors.values()),
        marker_color=BLUE,
        hovertemplate="%{y} authors with %{x} posts<extra></extra>",
    )
    figure.update_layout(margin_t=16)
    figure.update_xaxes(type="category")
    figure.update_yaxes(rangemode="tozero", **GRID_LINES)
    return figure


def fold_balance(criteria: Sequence[Mapping[str, Any]], folds: Mapping[str, Any]) -> go.Figure:
    """Draw the held-out positives per criterion and fold, coloured by the fold's rate minus the rate of all pairs."""
    points = [[None if share is None else 100 * share for share in row] for row in folds["deviations"]]
    # The scale covers at least one point, so that negligible differences stay pale.
    widest = max((1, *(abs(point) for row in points for point in row if point is not None)))
    n_folds = len(folds["posts"])
    figure = new_figure("fold", "", height=170 + ROW_HEIGHT * len(criteria))
    figure.add_heatmap(
        x=[str(fold) for fold in range(n_folds)],
        y=[row["criterion_id"] for row in criteria],
        z=points,
        text=[[str(positives) for positives in row] for row in folds["positives"]],
        texttemplate="%{text}" if n_folds <= MOST_CELLS_WITH_TEXT else None,
        customdata=[[escape(row["symptom"])] * n_folds for row in criteria],
        hovertemplate="%{customdata}, fold %{x}<br>%{text} positives, rate %{z:+.1f} points from the overall rate"
        "<extra></extra>",
        colorscale=[[0, ORANGE], [0.5, "#FFFFFF"], [1, BLUE]],
        zmin=-widest,
        zmax=widest,
        xgap=1,
        ygap=1,
        colorbar=colour_bar("difference in percentage points"),
    )
    figure.update_xaxes(type="category")
    return criteria_down(figure, criteria)


_DRAW: Mapping[str, Callable[[Mapping[str, Any]], go.Figure]] = {
    "class_balance": lambda facts: class_balance(facts["criteria"]),
    "co_occurrence": lambda facts: co_occurrence(facts["criteria"], facts["co_occurrence"]),
    "lengths": lambda facts: lengths(facts["words"], facts["tokens"]),
    "truncation": lambda facts: truncation(facts["counts"]["posts"], facts["tokens"]),
    "authors": lambda facts: authors(facts["authors"]),
    "fold_balance": lambda facts: fold_balance(facts["criteria"], facts["folds"]),
}

AUDIT_FIGURES = tuple(_DRAW)
"""The names of `audit_figures`, from which the pipeline names the datasets."""


def audit_figures(facts: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Draw the figures of the audit, named and ordered as in `AUDIT_FIGURES`.

    Args:
        facts: What `corpus.audit.audit_facts` returns.
    """
    return {name: draw(facts) for name, draw in _DRAW.items()}


def _counted(tokens: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [counts for counts in tokens if counts["not_counted"] is None]


def _tokenizer_line(position: int) -> dict[str, str]:
    place = position % len(COMPARED_COLOURS)
    return {"color": COMPARED_COLOURS[place], "dash": DASHES[place]}


def _outline(histogram: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return a histogram as a stepped line, since bars of unequal width mislead on a logarithmic axis."""
    edges, posts = histogram["edges"], histogram["posts"]
    return {
        "x": [edges[0], *edges],
        "y": [0, *posts, 0],
        "mode": "lines",
        "line_shape": "hv",
        "hovertemplate": "from %{x}: %{y} posts",
    }


def _decimal(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
