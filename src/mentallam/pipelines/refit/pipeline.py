"""The refit pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.refit import nodes
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline(n_folds: int) -> Pipeline:
    """Wire the training of one model on all posts, after cv_training.

    Args:
        n_folds: Number of folds.
    """
    return Pipeline(
        [
            Node(
                nodes.train_on_all_posts,
                [
                    *("cv_run", "training_config", "base_model", "data_manifest", "frozen_states", "cv_outcome"),
                    *("params:system_metrics_interval", "params:fresh", "refit_attempt"),
                    *("posts", "criteria", "pairs", "groups"),
                    *(f"fold_{fold}_{part}" for part in ("split", "predictions") for fold in range(n_folds)),
                ],
                ["refit_checkpoint", "refit_result"],
                name="train_on_all_posts",
                tags=NEEDS_TRACKING,
            )
        ]
    )
