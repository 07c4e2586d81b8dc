"""Write the data audit as one HTML page, without a word of any post."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import Environment

from mentallam.corpus.audit import DUPLICATES_SHOWN
from mentallam.reports.page import drawn, html_environment

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TEMPLATE = "audit.html.j2"
PAIR_LENGTHS_SHOWN = (256, 512, 1024)


def render_audit(facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return the audit as one HTML page that loads nothing: the library that draws its figures is in it.

    Args:
        facts: From `corpus.audit.audit_facts`.
        figures: From `audit_figures.audit_figures` of these facts.
    """
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            facts,
            near_duplicates=_listed_duplicates(facts["statistics"].get("duplicates", {})),
            tokens_shown=[_shown_lengths(own) for own in facts["tokens"] if own["not_counted"] is None],
            **drawn(figures),
        )
    )


def _shown_lengths(own: Mapping[str, Any]) -> dict[str, Any]:
    """One tokenizer's row of the page's table: only the usual lengths of a pair, and the configured one."""
    lengths = {*PAIR_LENGTHS_SHOWN, own["max_length"]}
    return {**own, "truncated": [cut for cut in own["truncated"] if cut["max_length"] in lengths]}


def _listed_duplicates(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of the page's table: counts, and ids as far as there is room."""
    return [
        (name.replace("_", " "), _ids(value) if isinstance(value, list) else str(value))
        for name, value in found.items()
    ]


def _ids(ids: Sequence[Any]) -> str:
    more = f" and {len(ids) - DUPLICATES_SHOWN:,} more" if len(ids) > DUPLICATES_SHOWN else ""
    groups = (", ".join(own) if isinstance(own, list) else str(own) for own in ids[:DUPLICATES_SHOWN])
    return "; ".join(groups) + more if ids else "none"


def _environment() -> Environment:
    environment = html_environment()
    environment.filters.update(number=_number, percent=_percent)
    return environment


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"


def _percent(share: float | None) -> str:
    return "not defined" if share is None else f"{share:.1%}"
