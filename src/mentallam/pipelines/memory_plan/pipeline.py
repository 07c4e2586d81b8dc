"""The memory_plan pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.memory_plan import nodes


def create_pipeline() -> Pipeline:
    """Create the memory_plan pipeline."""
    return Pipeline(
        [
            Node(nodes.read_criteria, "params:criteria_file", "asked_criteria", name="read_criteria"),
            Node(
                nodes.plan_memory,
                ["asked_criteria", "params:hydra_configs", "params:profile", "params:overrides", "params:base_models"],
                "memory_plan",
                name="plan_memory",
            ),
        ]
    )
