import pytest
from markdown_it import MarkdownIt

from mentallam.markdown import as_code, as_text
from tests.unit.seen import Page

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "![a](http://elsewhere/pixel.png)",
    "<http://elsewhere>",
    "a | b",
    "**bold** _it_ *it* `code` ~~gone~~",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "12) item",
    "> quotation",
    "===",
    "---",
    "&lt;script&gt;",
    "\\",
    "``",
    "`a``b`",
    "| a | b |",
    'A.1 Depressed mood: sad, empty (or "hopeless") 100 %',
    "s_1_2",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is_anywhere(text: str) -> None:
    """HTML is enabled here, as in the viewers of others."""
    render = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render
    shown = {f"{as_text(text)}\n": {"p"}, f"before {as_text(text)} after\n": {"p"}}
    shown[f"| h | g |\n| --- | --- |\n| {as_text(text)} | x |\n"] = {"table", "thead", "tbody", "tr", "th", "td"}
    for markdown, tags in shown.items():
        page = Page(render(markdown))
        assert {tag for tag, _ in page.tags} == tags, markdown
        assert text in page.text
    page = Page(render(f"before {as_code(text)} after\n"))
    assert [tag for tag, _ in page.tags] == ["p", "code"]
    assert text in page.text
    page = Page(render(f"| h | g |\n| --- | --- |\n| {as_code(text, in_table=True)} | x |\n"))
    assert [tag for tag, _ in page.tags].count("td") == 2
    assert {"code"} <= {tag for tag, _ in page.tags} <= {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert text in page.text


def test_line_breaks_become_blanks() -> None:
    assert as_text("a\n\n# b\r\nc") == r"a \# b c"
    assert as_code("a\n\nb") == "`a b`"


def test_ordinary_ids_and_wordings_stay_readable() -> None:
    for text in ("DEPRESSED_MOOD", "s_1_2", "A.1 Fatigue (nearly every day), or less", "synthetic sample"):
        assert as_text(text) == text
