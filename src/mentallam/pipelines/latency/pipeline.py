"""The latency pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.latency import nodes
from mentallam.registry import find_checkpoints
from mentallam.serving.latency import check_limit
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline() -> Pipeline:
    """Wire latency: find the checkpoints, measure, log, and fail over the limit once all is saved."""
    return Pipeline(
        [
            Node(
                find_checkpoints,
                ["params:tracking_experiment", "params:model", "params:registry"],
                "timed_checkpoints",
                name="find_timed_checkpoints",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.measure_latency,
                [
                    *("timed_checkpoints", "params:model", "params:environment", "params:hydra_configs"),
                    *("params:profile", "params:overrides", "params:base_models", "params:latency"),
                ],
                ["latency_summary", "latency_figure"],
                name="measure_latency",
            ),
            Node(
                nodes.log_latency,
                ["latency_summary", "latency_figure"],
                "logged_latency",
                name="log_latency",
                tags=NEEDS_TRACKING,
            ),
            Node(check_limit, "logged_latency", None, name="check_latency"),
        ]
    )
