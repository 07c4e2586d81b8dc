"""The comparison of two cross-validations as Markdown."""

from typing import Any

from mentallam.reports.report import markdown_environment

TEMPLATE = "comparison.md.j2"


def render_comparison(comparison: dict[str, Any]) -> str:
    """Write the comparison as Markdown, without any text of a post.

    Args:
        comparison: As `evaluation.comparison.compare_runs` returns it.
    """
    return markdown_environment().get_template(TEMPLATE).render(comparison=comparison)
