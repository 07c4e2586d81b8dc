"""Limits on what is read: sizes and depths that no honest file reaches, so that a hostile or damaged one costs little.

docs/security.md lists them with the files that each is for.
"""

import json
from pathlib import Path
from typing import Any

import yaml

LONGEST_VALUE = 2**24
"""Characters of one value of a table, such as a post."""

LONGEST_LINE = 2**26
"""Bytes of one line of a .csv, .jsonl or .txt file."""

MOST_COLUMNS = 1_000
"""Columns of a table, keys of a row."""

MOST_ROWS = 10**8
"""Rows of a Parquet file, whose few bytes may stand for any number of rows."""

LARGEST_TABLE = 2**33
"""Bytes of the columns that are read from a Parquet file, once they are unpacked."""

LARGEST_JSON = 2**26
"""Bytes of a JSON file of results or of a checkpoint."""

LARGEST_YAML = 2**20
"""Bytes of a saved configuration."""

DEEPEST = 100
"""Lists and objects within one another in JSON and YAML."""


def read_json(path: Path) -> Any:
    """Read a JSON file that this program once wrote.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not valid JSON, or it exceeds `LARGEST_JSON` or `DEEPEST`.
    """
    try:
        content = json.loads(_read(path, LARGEST_JSON))
    except RecursionError:
        raise _too_deep() from None
    depth, level = 0, _collections([content])
    while level:
        if (depth := depth + 1) > DEEPEST:
            raise _too_deep()
        level = [inner for outer in level for inner in _collections(outer)]
    return content


def read_yaml(path: Path) -> Any:
    """Read a YAML file of plain values that this program once wrote; such a file has no aliases.

    Raises:
        OSError: The file can't be read.
        ValueError: It is not valid YAML, it holds an alias, or it exceeds `LARGEST_YAML` or `DEEPEST`.
    """
    text, depth = _read(path, LARGEST_YAML).decode(), 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):  # ten lines of aliases can stand for a billion values
                raise ValueError("it holds an alias")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                raise _too_deep()
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def megabytes(size: int) -> str:
    """Return a size for a message, such as "64 MB" for 2**26 bytes."""
    return f"{size >> 20} MB"


def _read(path: Path, largest: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"it is larger than {megabytes(largest)}")
    return content


def _collections(outer: Any) -> list[Any]:
    """Return the lists and dicts directly within a list or dict."""
    return [value for value in (outer.values() if isinstance(outer, dict) else outer) if isinstance(value, dict | list)]


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {DEEPEST} levels")
