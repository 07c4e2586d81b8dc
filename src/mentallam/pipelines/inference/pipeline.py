"""Wiring of inference."""

from kedro.pipeline import Pipeline, node, pipeline

from mentallam.pipelines.inference import nodes


def create_pipeline() -> Pipeline:
    """Create the inference pipeline."""
    return pipeline(
        [
            node(nodes.read_posts, "params:input", "input_posts", name="read_posts"),
            node(
                nodes.compose_inference_config,
                ["params:hydra_configs", "params:profile", "params:overrides"],
                "inference_config",
                name="compose_inference_config",
            ),
            node(
                nodes.choose_checkpoint,
                ["params:tracking_experiment", "params:checkpoint_run"],
                "serving_run",
                name="choose_checkpoint",
            ),
            node(
                nodes.predict,
                ["input_posts", "inference_config", "serving_run", "params:base_models"],
                "predictions",
                name="predict",
            ),
        ]
    )
