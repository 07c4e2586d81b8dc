"""The plots of the data audit, as plotly figures: for its page, and as datasets for Kedro-Viz."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from mentallam.reports.style import (
    BLUE,
    DASHES,
    GREEN,
    GRID,
    ORANGE,
    PALE,
    PURPLE,
    ROW_HEIGHT,
    VERMILLION,
    colour_bar,
    criteria_down,
    new_figure,
    say,
    short_names,
)

TOKENIZER_COLOURS = (VERMILLION, GREEN, PURPLE, ORANGE)

MOST_CELLS_WITH_TEXT = 15  # columns of a heat map that have room for a number on a phone
LENGTH_TICKS = [2**power for power in range(16)]


def audit_figures(facts: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Return the plots by name.

    Args:
        facts: From `audit.audit_facts`.
    """
    return {
        "class_balance": class_balance(facts["criteria"]),
        "co_occurrence": co_occurrence(facts["criteria"], facts["co_occurrence"]),
        "lengths": lengths(facts["words"], facts["tokens"]),
        "truncation": truncation(facts["counts"]["posts"], facts["tokens"]),
        "authors": authors(facts["authors"]),
        "fold_balance": fold_balance(facts["criteria"], facts["folds"]),
    }


def class_balance(criteria: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Positives and explicit negatives of each criterion."""
    figure = new_figure("pairs", "", height=110 + ROW_HEIGHT * len(criteria))
    for kind, name, colour in (("positive", "positive", BLUE), ("explicit_negative", "explicit negative", ORANGE)):
        figure.add_bar(
            orientation="h",
            name=name,
            x=[row[kind] for row in criteria],
            y=[row["criterion_id"] for row in criteria],
            marker_color=colour,
            customdata=[[escape(row["name"]), row["pairs"]] for row in criteria],
            hovertemplate="%{customdata[0]}<br>%{x} of %{customdata[1]} pairs<extra>" + name + "</extra>",
        )
    figure.update_layout(barmode="stack", bargap=0.25)
    figure.update_xaxes(rangemode="tozero", **GRID)
    return criteria_down(figure, criteria)


def co_occurrence(criteria: Sequence[Mapping[str, Any]], together: Mapping[str, Any]) -> go.Figure:
    """How often two criteria are matched by the same post: counts in the cells, the Jaccard index as colour."""
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
                [escape(row["name"]), escape(column["name"]), _decimal(own)]
                for column, own in zip(columns, lifts, strict=True)
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
        ticktext=short_names(columns),
        tickangle=-90,
    )
    return criteria_down(figure, rows)


def lengths(words: Mapping[str, Any], tokens: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Histogram of posts by words, and by tokens of every tokenizer that counted."""
    figure = new_figure("length of a post (logarithmic)", "posts per bin", height=360)
    figure.add_scatter(**_outline(words), name="words", line_color=BLUE, fill="tozeroy")
    counted = [own for own in tokens if own["not_counted"] is None]
    for position, own in enumerate(counted):
        style = {"color": TOKENIZER_COLOURS[position % 4], "dash": DASHES[position % 4]}
        figure.add_scatter(**_outline(own["histogram"]), name=f"tokens, {escape(own['tokenizer'])}", line=style)
    edges = [edge for histogram in (words, *(own["histogram"] for own in counted)) for edge in histogram["edges"]]
    ticks = LENGTH_TICKS[:: 1 if max(edges) < 64 * min(edges) else 2]  # no more than a phone's width holds
    figure.update_xaxes(type="log", tickvals=ticks, **GRID)
    figure.update_yaxes(rangemode="tozero", **GRID)
    return figure


def truncation(n_posts: int, tokens: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Share of posts that don't fit, against the length of a pair; a large mark is the configured length."""
    figure = new_figure("longest pair, in tokens (logarithmic)", "posts that are cut, in %", height=360)
    counted = [own for own in tokens if own["not_counted"] is None]
    for position, own in enumerate(counted):
        cuts = own["truncated"]
        figure.add_scatter(
            x=[cut["max_length"] for cut in cuts],
            y=[100 * cut["posts"] / n_posts for cut in cuts],
            customdata=[[cut["posts"], cut["room"]] for cut in cuts],
            hovertemplate="%{x} tokens: %{customdata[0]} posts cut (%{y:.1f} %)<br>"
            "room for a post: %{customdata[1]} tokens<extra></extra>",
            name=escape(own["tokenizer"]),
            mode="lines+markers",
            line={"color": TOKENIZER_COLOURS[position % 4], "dash": DASHES[position % 4]},
            marker_size=[14 if cut["max_length"] == own["max_length"] else 6 for cut in cuts],
        )
    if not counted:
        say(figure, "Tokens were not counted.")
    figure.update_layout(showlegend=True)  # even of one tokenizer, to name it
    figure.update_xaxes(type="log", tickvals=[128, 256, 512, 1024, 2048, 4096], **GRID)
    figure.update_yaxes(range=[-3, 103], **GRID)
    return figure


def authors(found: Mapping[str, Any] | None) -> go.Figure:
    """How many authors wrote how many posts."""
    figure = new_figure("posts per author", "authors", height=280)
    if found is None:
        say(figure, "The corpus does not name its authors.")
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
    figure.update_yaxes(rangemode="tozero", **GRID)
    return figure


def fold_balance(criteria: Sequence[Mapping[str, Any]], folds: Mapping[str, Any]) -> go.Figure:
    """Held-out positives per criterion and fold, coloured by how far their rate is from that of all pairs."""
    points = [[None if own is None else 100 * own for own in row] for row in folds["deviations"]]
    # At least a point, so that differences that mean nothing stay pale.
    widest = max((1, *(abs(own) for row in points for own in row if own is not None)))
    n_folds = len(folds["posts"])
    figure = new_figure("fold", "", height=170 + ROW_HEIGHT * len(criteria))
    figure.add_heatmap(
        x=[str(fold) for fold in range(n_folds)],
        y=[row["criterion_id"] for row in criteria],
        z=points,
        text=[[str(positives) for positives in row] for row in folds["positives"]],
        texttemplate="%{text}" if n_folds <= MOST_CELLS_WITH_TEXT else None,
        customdata=[[escape(row["name"])] * n_folds for row in criteria],
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


def _outline(histogram: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """A histogram as steps: bars of unequal width look alike on a logarithmic axis only if drawn by their edges."""
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
