"""The notebooks as they are committed: without outputs, and described."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.samples import PROJECT

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path: Path) -> None:
    code = [cell for cell in read(path)["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in code if cell["outputs"] or cell["execution_count"] is not None] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_gives_and_runs_anywhere(path: Path) -> None:
    notebook = read(path)
    intro = "".join(notebook["cells"][0]["source"])
    assert all(part in intro for part in ("You get", "**Needs**", "**Takes**", "**Before you commit:**"))
    assert 6 <= sum(cell["cell_type"] == "code" for cell in notebook["cells"]) <= 15
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"  # no kernel of one machine


def test_the_page_lists_every_notebook() -> None:
    page = (PROJECT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[([^\]]+\.ipynb)\]\(\.\./notebooks/([^)]+)\)", page, flags=re.MULTILINE)
    assert listed == [(path.name, path.name) for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_in_notebooks_lead_somewhere(path: Path) -> None:
    for cell in read(path)["cells"]:
        for target in (
            re.findall(r"\]\(([^)\s]+)\)", "".join(cell["source"])) if cell["cell_type"] == "markdown" else ()
        ):
            assert (path.parent / target).exists(), target
