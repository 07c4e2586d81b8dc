"""The report as a page of one file: the Markdown report, with its figures drawn where it refers to them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt
from markdown_it.token import Token

from mentallam import __version__
from mentallam.reports.page import drawn, html_environment

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TEMPLATE = "report.html.j2"
FIGURE_LINK = re.compile(r"report\.html(?:#figure-(\w+))?")
"""The address of a link in the Markdown to this page, or to a figure in it."""

LONG_CELL = 24  # characters from which on a cell's text is broken into lines

# Markdown's own HTML stays off: names and wordings of criteria come from users.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Part:
    """A piece of a section: HTML, or the place of a figure and what is written above it."""

    html: str = ""
    figure: str = ""
    title: str = ""


@dataclass(frozen=True)
class Section:
    """What stands under one heading of the second level; `slug` is its address within the page."""

    title: str
    slug: str
    parts: tuple[Part, ...]


def render_report_page(report: str, figures: Mapping[str, Figure], synthetic: bool) -> str:
    """Return the report as one HTML page that loads nothing.

    Args:
        report: The Markdown report. A paragraph that is nothing but a link to `report.html#figure-<name>` is the place
            of that figure; the link's text is written above it.
        figures: By name, as `figures.report_figures` draws them.
        synthetic: The data are invented; the page then says so in every section, and on every sheet when printed.

    Raises:
        KeyError: The report refers to a figure that is not among `figures`.
    """
    title, opening, sections = _split(_MARKDOWN.parse(report))
    places = [part.figure for section in sections for part in section.parts if part.figure]
    return (
        html_environment()
        .get_template(TEMPLATE)
        .render(
            title=title,
            opening=opening,
            sections=sections,
            synthetic=synthetic,
            version=__version__,
            **drawn({name: figures[name] for name in places}),
        )
    )


def _split(tokens: Sequence[Token]) -> tuple[str, tuple[Part, ...], list[Section]]:
    """Title, what comes before the first section, and the sections."""
    heads = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    sections = []
    for number, (start, end) in enumerate(zip(heads, [*heads[1:], len(tokens)], strict=True), start=1):
        title = _text(tokens[start + 1])
        slug = f"{number}-" + re.sub(r"\W+", "-", title.lower()).strip("-")
        sections.append(Section(title, slug, tuple(_parts(tokens[start + 3 : end]))))
    # The report opens with its title, of three tokens.
    return _text(tokens[1]), tuple(_parts(tokens[3 : heads[0]])), sections


def _parts(tokens: Sequence[Token]) -> Iterator[Part]:
    """HTML and figures, in their order."""
    start = 0
    for at, token in enumerate(tokens):
        if token.type == "inline" and token.level == 1 and (found := _figure(token)):
            yield _html(tokens[start : at - 1])
            yield found
            start = at + 2
    yield _html(tokens[start:])


def _figure(inline: Token) -> Part | None:
    """The figure that a paragraph stands for, nothing for a link to this page; None for any other paragraph."""
    children = inline.children or []
    if len(children) != 3 or children[0].type != "link_open":
        return None
    link = FIGURE_LINK.fullmatch(str(children[0].attrGet("href")))
    return link and Part(figure=link[1] or "", title=children[1].content)


def _html(tokens: Sequence[Token]) -> Part:
    """The tokens as HTML; a table scrolls by itself where the screen is narrow, and breaks only its long texts."""
    for cell, inline in pairwise(tokens):
        if cell.type == "td_open" and len(inline.content) > LONG_CELL and "`" not in inline.content:
            cell.attrSet("class", "long")
    html = str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
    html = html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return Part(html=html)


def _text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])
