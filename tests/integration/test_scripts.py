"""Benchmarks and studies: each still imports, and its header is its help."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPTS = [
    path
    for path in sorted([*PROJECT.glob("benchmarks/*.py"), *PROJECT.glob("studies/*.py")])
    if "__main__" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_help(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.syspath_prepend(path.parent)
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(path), run_name="__main__")
    assert caught.value.code == 0
    header = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert header is not None
    assert header in capsys.readouterr().out
    assert f"python {path.parent.name}/{path.name}" in header
