"""The data audit as one HTML page, without a word of any post."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment
from plotly.graph_objects import Figure

from mentallam.corpus.audit import DUPLICATES_SHOWN
from mentallam.corpus.duplicates import FEWEST_WORDS
from mentallam.reports.audit_figures import MOST_CELLS_WITH_TEXT
from mentallam.reports.page import figure_context, html_environment

TEMPLATE = "audit.html.j2"
PAIR_LENGTHS_SHOWN = (256, 512, 1024)


def render_audit(facts: Mapping[str, Any], figures: Mapping[str, Figure]) -> str:
    """Return the audit as one HTML page that loads nothing.

    Args:
        facts: What `corpus.audit.audit_facts` returns.
        figures: What `audit_figures.audit_figures` returns for these facts.
    """
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            facts,
            near_duplicates=_listed_duplicates(facts["statistics"].get("duplicates", {})),
            tokens_shown=[_shown_lengths(counts) for counts in facts["tokens"] if counts["not_counted"] is None],
            most_cells_with_text=MOST_CELLS_WITH_TEXT,
            fewest_words=FEWEST_WORDS,
            **figure_context(figures),
        )
    )


def _shown_lengths(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce one tokenizer's counts to the usual lengths of a pair and the configured length."""
    lengths = {*PAIR_LENGTHS_SHOWN, counts["max_length"]}
    return {**counts, "truncated": [cut for cut in counts["truncated"] if cut["max_length"] in lengths]}


def _listed_duplicates(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rows of the table of near duplicates: counts, and the first ids of long lists."""
    return [
        (name.replace("_", " "), _ids(value) if isinstance(value, list) else str(value))
        for name, value in found.items()
    ]


def _ids(ids: Sequence[Any]) -> str:
    more = f" and {len(ids) - DUPLICATES_SHOWN:,} more" if len(ids) > DUPLICATES_SHOWN else ""
    shown = (", ".join(entry) if isinstance(entry, list) else str(entry) for entry in ids[:DUPLICATES_SHOWN])
    return "; ".join(shown) + more if ids else "none"


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
