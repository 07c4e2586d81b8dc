"""The page docs/configuration.md, written from the schema; `python -m tests.configuration_page` writes it again."""

import json
from dataclasses import fields
from types import UnionType
from typing import Any, get_args

from omegaconf import MISSING

from mentallam.classifier.sources import SOURCES
from mentallam.config_schema import Key, composed_schema, keys
from tests.samples import PROJECT

PAGE = PROJECT / "docs" / "configuration.md"
HEAD = """\
# Configuration

Every key of the Hydra configuration: what it does, which values it takes, and its default. A key is changed for one run
with `kedro run --params "overrides=training.max_epochs=3 adapter.r=16"`; [the commands](contracts/cli.md#parameters)
have the grammar. Where no default is given, a file in `hydra_configs/` sets the value; the profile decides which file.

This page is written from `src/mentallam/config_schema.py` by `python -m tests.configuration_page`; a test compares
them.
"""
TYPES = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    list[str]: "list",
    dict[str, Any]: "mapping",
}


def page() -> str:
    """Return the whole page."""
    schema = composed_schema()
    sections = [HEAD]
    for group in fields(schema):
        groups = getattr(schema, group.name)
        rows = [row(key) for key in keys(groups, f"{group.name}.")]
        about_group = (type(groups).__doc__ or "").partition("\n")[0]
        table = ["| key | values | default | meaning |", "| --- | --- | --- | --- |", *rows]
        sections.append("\n".join([f"## {group.name}", "", about_group, "", *table, ""]))
        if group.name == "model":
            sections.append("\n".join(sources()))
    return "\n".join(sections)


def sources() -> list[str]:
    """Return the table of the sources of a base model."""
    rows = [f"| `{name}` | {source.description} |" for name, source in SOURCES.items()]
    return ["### Sources", "", "| `model.source` | weights and tokenizer |", "| --- | --- |", *rows, ""]


def row(key: Key) -> str:
    """Return a key's row of the table."""
    types = get_args(key.type) if isinstance(key.type, UnionType) else (key.type,)
    values = " or ".join(TYPES[one] for one in types if one is not type(None))
    limits = f"; must {key.limits}" if key.limits else " or null" if key.default is None else ""
    default = "" if key.default == MISSING else f"`{shown(key.default)}`"
    return f"| `{key.name}` | {values}{limits} | {default} | {key.full_meaning} |"


def shown(default: Any) -> str:
    """Return a default as YAML has it."""
    return default or '""' if isinstance(default, str) else json.dumps(default)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
