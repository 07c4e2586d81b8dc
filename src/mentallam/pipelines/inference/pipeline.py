"""Wiring of inference."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.inference import nodes
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline() -> Pipeline:
    """Create the inference pipeline."""
    return Pipeline(
        [
            Node(nodes.read_posts, ["params:input", "params:columns"], "input_posts", name="read_posts"),
            Node(
                nodes.compose_inference_config,
                ["params:hydra_configs", "params:profile", "params:overrides"],
                "inference_config",
                name="compose_inference_config",
            ),
            Node(
                nodes.select_checkpoints,
                ["params:tracking_experiment", "params:checkpoint_run", "params:registry.model"],
                "serving_checkpoints",
                name="select_checkpoints",  # after read_posts: Kedro runs what may run at once in the order of names
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.predict,
                ["input_posts", "inference_config", "serving_checkpoints", "params:base_models"],
                "predictions",
                name="predict",
            ),
        ]
    )
