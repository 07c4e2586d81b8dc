"""Private interfaces of dependencies: docs/internals.md lists every one, and each exists."""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.samples import PROJECT

SOURCE = PROJECT / "src" / "mentallam"
ROWS = re.findall(r"^\| `([\w.]+)` \| (.+?) \|", (PROJECT / "docs" / "internals.md").read_text(), flags=re.MULTILINE)
LISTED = {name: re.findall(r"`([\w/]+\.py)`", places) for name, places in ROWS}
DOCUMENTED = {"_replace", "_exit"}  # a NamedTuple's method and os._exit, public in spite of their names
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}


def resolve(name: str) -> Any:
    """Return the object of a dotted name; an attribute that only instances have is found by its annotation."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            annotated = getattr(found, "__annotations__", {})
            found = annotated[part] if part in annotated else getattr(found, part)
        return found
    raise ModuleNotFoundError(name)


def private_uses() -> Iterator[tuple[str, str]]:
    """Yield (file, name) of each import of a private name and of each private attribute that is not ours."""
    ours = {name for tree in TREES.values() for node in ast.walk(tree) for name in defined(node)}
    for path, tree in TREES.items():
        file = path.relative_to(SOURCE).as_posix()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.module.startswith("mentallam"):
                for alias in node.names:
                    if is_private(full := f"{node.module}.{alias.name}"):
                        yield file, full
            elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in ours | DOCUMENTED:
                yield file, node.attr


def is_private(name: str) -> bool:
    return any(part.startswith("_") and not part.startswith("__") for part in name.split("."))


def defined(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        yield node.attr


@pytest.mark.parametrize("name", LISTED)
def test_it_exists(name: str) -> None:
    try:
        resolve(name)
    except (ModuleNotFoundError, AttributeError) as error:
        pytest.fail(
            f"{name} is missing in the installed release ({error}), and {', '.join(LISTED[name])} need it: pin an "
            "older release in pyproject.toml, run `make lock`, or replace it (docs/internals.md)"
        )


@pytest.mark.parametrize("name", LISTED)
def test_it_is_used_where_the_table_says(name: str) -> None:
    *module, last = name.split(".")
    assert LISTED[name], "no file is named"
    for file in LISTED[name]:
        text = (SOURCE / file).read_text(encoding="utf-8")
        assert re.search(rf"\b{last}\b", text), f"{file} no longer uses {name}: correct docs/internals.md"
        assert module[0] in text


def test_no_private_name_is_used_that_is_not_listed() -> None:
    listed = {(file, name) for name, files in LISTED.items() for file in files}
    by_attribute = {(file, name.rpartition(".")[2]) for file, name in listed}
    unlisted = [f"{file}: {name}" for file, name in private_uses() if (file, name) not in listed | by_attribute]
    assert not unlisted, f"not listed in docs/internals.md: {'; '.join(sorted(set(unlisted)))}"


def test_every_name_taken_from_a_listed_module_is_listed() -> None:
    modules = {name.rpartition(".")[0] for name in LISTED} - {"torch", "torch.Tensor", "torch.nn.Module", "torch.cpu"}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in modules:
                for alias in node.names:
                    assert f"{node.module}.{alias.name}" in LISTED, path


def test_a_missing_name_is_noticed() -> None:
    with pytest.raises(AttributeError):
        resolve("torch.Tensor._vresion")
    with pytest.raises(AttributeError):
        resolve("torch._dynamo.exc.Missing")
    assert isinstance(Path(resolve("torch.utils._python_dispatch").__file__), Path)
