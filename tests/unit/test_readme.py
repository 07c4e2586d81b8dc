"""The pages a reader starts from: their links lead somewhere, and what they name exists."""

import re
from pathlib import Path

import pytest

from tests.samples import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


def source_map() -> list[str]:
    """Return the paths that the source tree in CONTRIBUTING.md names, relative to the project."""
    page = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    tree = page.partition("## The source tree")[2].split("```")[1].removeprefix("text")
    paths, folder = [], ""
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name if line.strip() == name else ""
        paths.append(folder + name if line.startswith(" ") else name)
    return paths


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_name_on_the_map_exists() -> None:
    paths = source_map()
    assert len(paths) == 28
    assert [path for path in paths if not (PROJECT / path).exists()] == []
    packages = {f"src/mentallam/{path.parent.name}/" for path in (PROJECT / "src" / "mentallam").glob("*/__init__.py")}
    assert packages <= set(paths)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        place, _, anchor = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def test_the_list_of_pages_is_complete() -> None:
    listed = set(re.findall(r"^\| \[([^\]]+)\]", (PROJECT / "docs" / "README.md").read_text(), flags=re.MULTILINE))
    pages = {page.relative_to(PROJECT / "docs").as_posix() for page in PROJECT.glob("docs/**/*.md")}
    assert {page for page in pages if not page.startswith("adr/")} - listed == {"README.md"}
