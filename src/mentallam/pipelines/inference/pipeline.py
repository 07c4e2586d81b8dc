"""The inference pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.inference import nodes
from mentallam.registry import find_checkpoints
from mentallam.serving.metrics import prometheus_text
from mentallam.serving.sources import find_sources
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline() -> Pipeline:
    """Wire inference: find posts and checkpoints, predict, summarise, write the figures for monitoring."""
    return Pipeline(
        [
            Node(
                nodes.check_output,
                ["batch_files", "params:overwrite", "params:explain", "storage"],
                "output_files",
                name="check_output",  # sorts before what takes time
            ),
            Node(nodes.check_backend, "params:cluster", "inference_cluster", name="check_backend"),
            Node(find_sources, ["params:input", "params:columns", "storage"], "input_files", name="find_input"),
            Node(nodes.read_own_criteria, "params:criteria", "own_criteria", name="read_own_criteria"),
            Node(
                nodes.compose_inference_config,
                ["params:hydra_configs", "params:profile", "params:overrides"],
                "inference_config",
                name="compose_inference_config",
            ),
            Node(
                find_checkpoints,
                ["params:tracking_experiment", "params:model", "params:registry"],
                "serving_checkpoints",
                name="select_checkpoints",  # sorts after find_input: a wrong input is refused before the store is asked
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.predict,
                [
                    *("input_files", "inference_config", "serving_checkpoints", "own_criteria", "params:base_models"),
                    *(
                        "output_files",
                        "params:on_error",
                        "params:explain",
                        "params:notice",
                        "storage",
                        "inference_cluster",
                    ),
                ],
                ["predictions", "prediction_summary"],
                name="predict",
            ),
            Node(prometheus_text, "prediction_summary", "prediction_metrics", name="write_metrics"),
            Node(
                nodes.upload_figures,
                ["prediction_summary", "prediction_metrics", "output_files", "storage"],
                None,
                name="upload_figures",
            ),
            Node(
                nodes.log_batch,
                ["prediction_summary", "params:log_to_mlflow", "params:tracking_experiment"],
                None,
                name="log_batch",
                tags=NEEDS_TRACKING,
            ),
        ]
    )
