"""Nodes of memory_plan."""

from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from mentallam import config
from mentallam.classifier import memory
from mentallam.corpus.schemas import wording_by_id
from mentallam.reports.memory_table import memory_table


def plan_memory(
    criteria: pd.DataFrame, hydra_configs: str, profile: str, overrides: str | None, base_models: str
) -> dict[str, Any]:
    """Count the memory of a training step as configured, print it as a table, and return it."""
    composed = config.compose_config(Path(hydra_configs), profile, overrides)
    wording = wording_by_id(criteria)
    plan = memory.plan_memory(composed, Path(base_models), wording)
    console = Console()
    console.print(memory_table(plan))
    for sentence in plan["sentences"]:
        console.print(sentence, highlight=False)
    return plan
