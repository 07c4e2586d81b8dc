"""The version stands in one place; the files that can't read it there agree with it."""

import re

import yaml

import mentallam
from tests.samples import PROJECT

VERSION = mentallam.__version__


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def test_the_package_is_built_with_the_version_of_its_code() -> None:
    project = read("pyproject.toml").partition("\n[project.optional-dependencies]")[0]
    assert 'dynamic = ["version"]' in project
    assert not re.search(r"^version =", project, re.MULTILINE)
    assert 'version = { attr = "mentallam.__version__" }' in read("pyproject.toml")


def test_the_changelog_has_a_dated_section_of_this_version_below_what_is_not_released() -> None:
    headings = re.findall(r"^## (.+)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(VERSION)} - \d{{4}}-\d\d-\d\d", headings[1]), "date the section of this version"


def test_a_reader_of_the_changelog_learns_what_is_new_in_a_minute() -> None:
    section = read("CHANGELOG.md").partition(f"## {VERSION} - ")[2]
    head = [line for line in section.partition("\n### ")[0].splitlines()[1:] if line.strip()]
    assert 3 <= len(head) <= 15
    assert len(" ".join(head).split()) <= 250  # words in a minute


def test_the_citation_names_this_version_its_date_and_the_licence() -> None:
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == VERSION
    assert f"## {VERSION} - {citation['date-released']}\n" in read("CHANGELOG.md")
    assert f'license = "{citation["license"]}"' in read("pyproject.toml")
    assert {"message", "title", "authors"} <= citation.keys()


def test_no_other_file_states_the_version() -> None:
    """A page that names a version goes out of date; `mentallam --version` tells the one that runs."""
    pages = [*PROJECT.glob("*.md"), *PROJECT.glob("docs/*.md"), *PROJECT.glob("docs/contracts/*.md")]
    code = [*PROJECT.glob("src/mentallam/**/*.py"), PROJECT / "Makefile", PROJECT / "pyproject.toml"]
    stating = {file.name for file in [*pages, *code] if f"{VERSION}" in re.split(r"[^\w.]", file.read_text("utf-8"))}
    assert stating == {"__init__.py", "CHANGELOG.md"}
