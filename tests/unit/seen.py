"""A page as a reader sees it."""

import json
import re
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """What a browser would see: the words outside of scripts, and the tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._silent = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def drawn_figures(page: str) -> dict[str, Any]:
    """Return the figures that a page draws, by name."""
    found = re.search(r"Object\.entries\((\{.*\})\)\) \{$", page, flags=re.MULTILINE)
    assert found
    figures: dict[str, Any] = json.loads(found[1])
    return figures


def tables(markdown: str) -> dict[str, list[list[str]]]:
    """Cells of every Markdown table by its first heading, the header first, without its ruler."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", markdown, flags=re.MULTILINE)
    rows = [[re.split(r" *(?<!\\)\| *", line)[1:-1] for line in block.splitlines()] for block in blocks]
    return {header[0]: [header, *body] for header, _, *body in rows}
