"""The documentation's site: its navigation has every page, in the order of docs/README.md, and no page needs a CDN."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.samples import PROJECT

DOCS = PROJECT / "docs"


class _Loader(yaml.SafeLoader):
    """A reader of mkdocs.yml, which names a Python function: the rule of the anchors."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
CONFIG = yaml.load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"), _Loader)


def pages_of(entry: Any) -> Iterator[str]:
    """Yield the pages of a part of the navigation, in its order."""
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry.values() if isinstance(entry, dict) else entry:
            yield from pages_of(part)


def test_the_navigation_is_the_list_of_pages() -> None:
    navigation = {
        title: [page.removeprefix("docs/") for page in pages_of(pages) if page.startswith("docs/")]
        for section in CONFIG["nav"]
        for title, pages in section.items()
    }
    navigation["Start"].remove("README.md")  # the list itself
    sections = re.split(r"^## (.+)$", (DOCS / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {
        title: re.findall(r"^\| \[\S+\]\((\S+)\)", body, re.MULTILINE)
        for title, body in zip(sections[1::2], sections[2::2], strict=True)
    }
    assert list(navigation.items()) == list(listed.items())


def test_every_page_beside_docs_is_in_the_navigation_and_is_given_to_mkdocs() -> None:
    (given,) = re.findall(r"^PAGES +:= (.+)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = {page for page in pages_of(CONFIG["nav"]) if not page.startswith("docs/")}
    there = {
        path.relative_to(PROJECT).as_posix() for path in [*PROJECT.glob("*.md"), *PROJECT.glob("data/01_raw/**/*.md")]
    }
    assert named == there
    assert {path for path in named if "/" not in path} <= set(given.split())
    assert CONFIG["not_in_nav"] == "/docs/adr/0*.md"


def test_what_a_page_links_to_is_given_to_mkdocs() -> None:
    (given,) = re.findall(r"^PAGES +:= (.+)$", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    places = {PROJECT / word for word in given.split() if "$" not in word} | set(PROJECT.glob("data/01_raw/**/*.md"))
    for page in [*DOCS.glob("**/*.md"), *PROJECT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target and not target.startswith("mailto:"):
                path = (page.parent / target).resolve()
                assert places & {path, *path.parents}, f"{page.relative_to(PROJECT)}: {target}"


def test_the_list_of_decisions_has_their_titles() -> None:
    headings = {path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in DOCS.glob("adr/0*.md")}
    rows = re.findall(r"^\| \[(\d+)\]\((\S+)\) \| (.+) \|$", (DOCS / "adr" / "README.md").read_text(), re.MULTILINE)
    assert {file: f"# {number} {title}" for number, file, title in rows} == headings
    assert [file for _, file, _ in rows] == sorted(headings)


def test_the_site_loads_nothing_from_a_network() -> None:
    assert CONFIG["theme"]["font"] is False
    assert not any("://" in str(CONFIG.get(key, "")) for key in ("extra_css", "extra_javascript", "theme"))
    # Material loads mermaid from a CDN.
    pages = [*PROJECT.glob("*.md"), *DOCS.rglob("*.md")]
    assert [
        page.name for page in pages if re.search(r"^ *```mermaid", page.read_text(encoding="utf-8"), re.MULTILINE)
    ] == []


def test_a_drawing_says_in_words_what_it_shows() -> None:
    drawings = list(DOCS.glob("img/*.svg"))
    assert len(drawings) == 2
    for drawing in drawings:
        text = drawing.read_text(encoding="utf-8")
        assert re.search(r"<desc id=\"text\">.{100,}</desc>", text)
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
