"""The report as one HTML file: the Markdown report, with each figure drawn where the report refers to it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from markdown_it import MarkdownIt
from markdown_it.token import Token
from plotly.graph_objects import Figure

from mentallam import __version__
from mentallam.reports.page import figure_context, html_environment
from mentallam.reports.rounding import UNDEFINED

TEMPLATE = "report.html.j2"
FIGURE_LINK = re.compile(r"(?:report|learning_curve|sweep|grid)\.html(?:#figure-(\w+))?")
"""The target of a Markdown link to this page or to a figure in it."""

_NUMBER = re.compile(rf"[*<( -]*\d|-$|{UNDEFINED}$")

LONG_CELL = 24
"""Longest text, in characters, that a table cell keeps on one line."""

# HTML within Markdown is disabled because names and wordings of criteria come from users.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True)
class Part:
    """A part of a section: HTML, or the place of a figure and the title above it."""

    html: str = ""
    figure: str = ""
    title: str = ""


@dataclass(frozen=True)
class Section:
    """The content under a second-level heading; `slug` is its anchor within the page."""

    title: str
    slug: str
    parts: tuple[Part, ...]


def render_report_page(report: str, figures: Mapping[str, Figure], synthetic: bool) -> str:
    """Return the report as one HTML page that loads nothing.

    Args:
        report: The Markdown report. A paragraph that consists of a link to `report.html#figure-<name>`,
            `learning_curve.html#...`, `sweep.html#...` or `grid.html#...` is the place of that figure, and the link's
            text is the figure's title.
        figures: Figures by name, as `figures.report_figures` returns them.
        synthetic: Whether the data are synthetic; the page then says so in every section and on every printed sheet.

    Raises:
        KeyError: The report refers to a figure that `figures` lacks.
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
            **figure_context({name: figures[name] for name in places}),
        )
    )


def _split(tokens: Sequence[Token]) -> tuple[str, tuple[Part, ...], list[Section]]:
    """Return the title, the parts before the first section, and the sections."""
    heads = [at for at, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    sections = []
    for number, (start, end) in enumerate(zip(heads, [*heads[1:], len(tokens)], strict=True), start=1):
        title = _text(tokens[start + 1])
        slug = f"{number}-" + re.sub(r"\W+", "-", title.lower()).strip("-")
        sections.append(Section(title, slug, tuple(_parts(tokens[start + 3 : end]))))
    # The first three tokens are the report's title.
    return _text(tokens[1]), tuple(_parts(tokens[3 : heads[0]])), sections


def _parts(tokens: Sequence[Token]) -> Iterator[Part]:
    """Yield HTML and figures in the order of the tokens."""
    start = 0
    for at, token in enumerate(tokens):
        if token.type == "inline" and token.level == 1 and (found := _figure(token)):
            yield _html(tokens[start : at - 1])
            yield found
            start = at + 2
    yield _html(tokens[start:])


def _figure(inline: Token) -> Part | None:
    """Return the figure that a paragraph stands for, an empty part for a link to this page, None otherwise."""
    children = inline.children or []
    if len(children) != 3 or children[0].type != "link_open":
        return None
    link = FIGURE_LINK.fullmatch(str(children[0].attrGet("href")))
    return link and Part(figure=link[1] or "", title=children[1].content)


def _html(tokens: Sequence[Token]) -> Part:
    """Render the tokens as HTML; on a narrow screen a table scrolls, and only its long texts break into lines."""
    for table in _tables(tokens):
        for column in zip(*table, strict=True):
            _set_classes(*column)
    html = str(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))
    html = html.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
    return Part(html=html)


def _tables(tokens: Sequence[Token]) -> Iterator[list[list[tuple[Token, str]]]]:
    """Yield each table as rows of cells: the token that opens the cell, and its content."""
    table: list[list[tuple[Token, str]]] = []
    for token, following in zip_longest(tokens, tokens[1:]):
        if token.type == "tr_open":
            table.append([])
        elif token.type in ("th_open", "td_open"):
            table[-1].append((token, following.content))
        elif token.type == "table_close":
            yield table
            table = []


def _set_classes(head: tuple[Token, str], *cells: tuple[Token, str]) -> None:
    """Set the class of a column's cells: `n` for numbers, `long` for texts that break, `code` for addresses."""
    if cells and all(_NUMBER.match(content) or not content for _, content in cells):
        for token, _ in (head, *cells):
            token.attrSet("class", "n")
        return
    for token, content in cells:
        if "`" in content:
            token.attrSet("class", "code")
        elif len(content) > LONG_CELL:
            token.attrSet("class", "long")


def _text(inline: Token) -> str:
    return "".join(child.content for child in inline.children or [])
