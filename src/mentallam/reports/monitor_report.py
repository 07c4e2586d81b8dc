"""What monitoring found in a batch, as Markdown."""

from typing import Any

from mentallam.reports.report import markdown_environment

TEMPLATE = "monitor.md.j2"


def render_monitor(found: dict[str, Any]) -> str:
    """Write what was found as Markdown, without any text of a post.

    Args:
        found: As `serving.drift.compare_batch` returns it.
    """
    return markdown_environment().get_template(TEMPLATE).render(found=found)
