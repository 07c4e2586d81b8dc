"""docs/troubleshooting.md quotes what the code says."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.samples import PROJECT

PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
# What is no sentence of the code: the name of a command or of a field.
OTHERS = {"make", "truncated", "wording"}
QUOTED = [
    quoted
    for cell in re.findall(r"^\| (`.+?) \|", PAGE, flags=re.MULTILINE)
    for quoted in re.findall(r"`(--params reads .+ on|[^`]+)`", cell)
    if quoted not in OTHERS
]


def sentences() -> Iterator[str]:
    """Yield the strings of the code, with an ellipsis where a value is filled in."""
    for path in (PROJECT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                yield re.sub(r"(\.\.\.)+", "...", "".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield re.sub(r"%(\.\d)?[sdf]", "...", node.value)  # of a log line


SENTENCES = set(sentences())


@pytest.mark.parametrize("quoted", QUOTED)
def test_the_code_says_what_is_quoted(quoted: str) -> None:
    assert any(quoted in sentence for sentence in SENTENCES)


def test_most_rows_quote_the_code() -> None:
    assert len(QUOTED) >= 45
