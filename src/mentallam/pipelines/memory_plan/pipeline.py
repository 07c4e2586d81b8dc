"""The memory_plan pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.corpus.readers import read_criteria
from mentallam.pipelines.memory_plan import nodes


def create_pipeline() -> Pipeline:
    """Create the memory_plan pipeline."""
    return Pipeline(
        [
            # The number and length of the criteria determine part of the memory.
            Node(read_criteria, "params:criteria_file", "asked_criteria", name="read_criteria"),
            Node(
                nodes.plan_memory,
                ["asked_criteria", "params:hydra_configs", "params:profile", "params:overrides", "params:base_models"],
                "memory_plan",
                name="plan_memory",
            ),
        ]
    )
