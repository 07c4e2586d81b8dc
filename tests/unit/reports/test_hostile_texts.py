"""Nothing that users name or word becomes markup or code; tests/slow/test_browser.py tries the pages in a browser."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt
from plotly.graph_objects import Figure

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from tests.unit.reports.hostile_pages import OWNED, PAYLOAD, REPORT_INPUTS, hostile_audit, hostile_report
from tests.unit.seen import Page

Rendered = tuple[str, str, str, dict[str, Figure]]


@pytest.fixture
def rendered(request: pytest.FixtureRequest) -> Rendered:
    return hostile_report(*map(request.getfixturevalue, REPORT_INPUTS))


class Scripts(HTMLParser):
    """The content of each script, as a browser would take it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script" and self.found and self.cdata_elem == "script":
            self.found[-1] += data


def check_page(html: str) -> None:
    page = Page(html)
    assert OWNED in page.text, "the texts are not on the page at all"
    assert not {"img", "svg", "iframe", "object", "base", "link"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert not [v for v in attributes.values() if str(v).strip().lower().startswith(("javascript:", "data:"))], tag
    scripts = Scripts(html).found
    assert len(scripts) == 2
    assert len(scripts[0]) > 10**6 and "</" not in scripts[1] and "<!--" not in scripts[1]
    allowed = re.findall(r"'sha256-([^']+)'", html[: html.index("<title>")])
    assert allowed == [b64encode(sha256(script.encode()).digest()).decode() for script in scripts]


def test_the_reports_page_shows_hostile_texts_as_they_are(rendered: Rendered) -> None:
    check_page(rendered[1])


def test_the_audit_shows_hostile_texts_as_they_are() -> None:
    check_page(hostile_audit())


@pytest.mark.parametrize("number", [0, 2], ids=["report", "model card"])
def test_the_markdown_holds_no_markup_of_users_even_for_viewers_that_accept_html(
    rendered: Rendered, number: int
) -> None:
    render: Callable[[str], str] = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
    page = Page(render(rendered[number]))
    assert OWNED in page.text
    assert not {"img", "svg", "script", "s"} & {tag for tag, _ in page.tags}
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    assert all(link.startswith("report.html") for link in links)


def test_a_checkpoints_card_holds_no_markup_of_users(trained: TrainedFold, tmp_path: object) -> None:
    trained.prompter.criteria["A.1"] = PAYLOAD + "\n\n# heading"
    folder = tmp_path / "fold_1"  # type: ignore[operator]
    save_checkpoint(trained, folder)
    card = (folder / "README.md").read_text(encoding="utf-8").partition("---\n# ")[2]
    page = Page(MarkdownIt("commonmark", {"html": True}).render(f"# {card}"))
    assert {tag for tag, _ in page.tags} == {"h1", "p", "strong", "ul", "li", "code"}


def test_the_html_of_a_figure_in_mlflow_holds_no_markup_of_users(rendered: Rendered) -> None:
    for name, figure in rendered[3].items():
        html = figure.to_html(include_plotlyjs="cdn")  # as MLflow writes it
        assert PAYLOAD[:20] not in html, name
        assert not {"img", "svg", "a"} & {tag for tag, _ in Page(html).tags}, name
