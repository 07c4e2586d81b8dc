"""The inference pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.inference import nodes
from mentallam.registry import find_checkpoints
from mentallam.serving.inputs import read_posts
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline() -> Pipeline:
    """Wire inference: read posts, find checkpoints, predict."""
    return Pipeline(
        [
            Node(read_posts, ["params:input", "params:columns"], "input_posts", name="read_posts"),
            Node(
                nodes.compose_inference_config,
                ["params:hydra_configs", "params:profile", "params:overrides"],
                "inference_config",
                name="compose_inference_config",
            ),
            Node(
                find_checkpoints,
                ["params:tracking_experiment", "params:checkpoint_run", "params:registry.model"],
                "serving_checkpoints",
                name="select_checkpoints",  # sorts after read_posts, so Kedro reads the posts before it asks the store
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
