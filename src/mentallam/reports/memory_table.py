"""The memory plan as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mentallam.classifier.memory import GB, MEMORY_PARTS, step_name


def memory_table(plan: Mapping[str, Any]) -> Table:
    """Return a table of a memory plan in GB: a row per part, a column per way of training.

    Args:
        plan: The result of `plan_memory`.
    """
    parameters, content = plan["parameters"], plan["pass"]
    counts = f"{parameters['total']:,} parameters, {parameters['trainable']:,} trained"
    of_each = f" of each of {content['ranks']} ranks" if content["ranks"] > 1 else ""
    table = Table(
        title=f"{plan['model']}, {plan['dtype']}: {counts}",
        caption=f"One pass{of_each}: {content['posts']} posts, {content['pairs']} pairs of up to "
        f"{content['tokens_per_pair']} tokens. * as configured",
    )
    table.add_column("GB")
    for step in plan["steps"]:
        table.add_column(step_name(step) + (" *" if step["configured"] else ""), justify="right")
    for part in (*MEMORY_PARTS, "total"):
        sizes = [f"{step[part] / GB:.2f}" for step in plan["steps"]]
        table.add_row(part, *sizes, style="bold" if part == "total" else None)
    return table
