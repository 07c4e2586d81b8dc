"""The list of equivalent mutants quotes the code as it is: a mutant differs from a line of its function in little."""

import ast
from difflib import SequenceMatcher
from typing import Any

import pytest
import yaml

from tests.samples import PROJECT

ENTRIES = yaml.safe_load((PROJECT / "tests/mutation/equivalent.yml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry['module']}.{entry['function']}")
def test_the_quoted_line_is_one_of_the_function(entry: dict[str, Any]) -> None:
    path = PROJECT / "src/mentallam" / f"{entry['module'].replace('.', '/')}.py"
    source = path.read_text(encoding="utf-8")
    functions = [
        ast.get_source_segment(source, node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == entry["function"]
    ]
    lines = [line.strip() for function in functions for line in function.splitlines()]
    for quoted in "\n".join(entry["lines"]).splitlines():
        assert max(SequenceMatcher(None, quoted.strip(), line).ratio() for line in lines) > 0.7, quoted
