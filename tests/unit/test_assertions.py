"""Assertions that can't fail, which no rule of ruff finds: `assert error < 1e-4 if step else 1e-5` is `assert 1e-5`."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samples import PROJECT

# The value of these doesn't depend on the program; a conditional expression may have such a value in a branch.
_NO_CONDITION = (
    ast.IfExp,
    ast.Constant,
    ast.JoinedStr,
    ast.Tuple,
    ast.List,
    ast.Set,
    ast.Dict,
    ast.Lambda,
    ast.GeneratorExp,
)


def suspicious(source: str) -> list[int]:
    """Return the lines of assertions in which a part between `and`, `or` and `not` is no condition."""
    asserts = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert))
    return [node.lineno for node in asserts if any(isinstance(part, _NO_CONDITION) for part in _parts(node.test))]


def _parts(test: ast.expr) -> Iterator[ast.expr]:
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _parts(value)
    elif isinstance(test, ast.UnaryOp):
        yield from _parts(test.operand)
    else:
        yield test


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("a < 1 if b else 2", [1]),
        ("a == b if c else d == e", [1]),
        ("1e-5", [1]),
        ("a == b or 'c'", [1]),
        ("(a, b)", [1]),
        ("a < (1 if b else 2)", []),
        ("not (a == b) and [c for c in d]", []),
    ],
)
def test_an_assertion_without_a_condition_is_found(condition: str, found: list[int]) -> None:
    assert suspicious(f"assert {condition}") == found


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "studies"])
def test_every_assertion_can_fail(folder: str) -> None:
    found = {str(path): suspicious(path.read_text(encoding="utf-8")) for path in Path(PROJECT, folder).rglob("*.py")}
    assert found
    assert {path: lines for path, lines in found.items() if lines} == {}
