"""The schema, the comments in hydra_configs/ and the page docs/configuration.md say the same."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mentallam.config_schema import Key, composed_schema, keys
from tests.configuration_page import PAGE, page
from tests.samples import PROJECT

KEYS = {key.name: key for key in keys(composed_schema())}
FILES = sorted((PROJECT / "hydra_configs").glob("*/*.yaml"))


def commented(path: Path) -> Iterator[tuple[str, str]]:
    """(key, the comment above it) of each key of a file that has one."""
    parents, comment = {0: path.parent.name}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := re.match(r"( *)# (.+)", line):
            comment = f"{comment} {found[2]}".lstrip()
            continue
        if found := re.match(r"( *)(\w+):", line):
            name = f"{parents[len(found[1])]}.{found[2]}"
            parents[len(found[1]) + 2] = name
            if comment and name in KEYS:
                yield name, comment
        comment = ""


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_every_key_has_a_meaning_in_whole_sentences(key: Key) -> None:
    assert key.meaning.endswith(".")
    assert "  " not in key.meaning


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_comment_above_a_key_is_the_keys_meaning(path: Path) -> None:
    for name, comment in commented(path):
        assert comment == KEYS[name].comment, f"write the comment of {name} in {path.name} as config_schema.py has it"


def test_every_key_is_explained_in_a_file_of_its_group() -> None:
    explained = {name for path in FILES for name, _ in commented(path)}
    assert explained == set(KEYS)


def test_the_page_is_written_from_the_schema() -> None:
    written = PAGE.read_text(encoding="utf-8")
    assert written == page(), "write the page again: python -m tests.configuration_page"
