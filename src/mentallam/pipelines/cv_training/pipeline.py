"""The cv_training pipeline: baselines, open, one namespace per fold, close."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.cv_training import nodes
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline(n_folds: int, report_inputs: Iterable[str]) -> Pipeline:
    """Create the cv_training pipeline.

    Args:
        n_folds: Each fold has a namespace `fold_<k>`.
        report_inputs: Datasets that reporting reads; the run keeps them, so that it can be reported again without the
            data folder. None may hold a post's text.
    """
    folds = [fold_node for fold in range(n_folds) for fold_node in _fold(fold)]
    return Pipeline(
        [
            Node(
                nodes.compose_training_config,
                ["params:hydra_configs", "params:profile", "params:overrides"],
                "training_config",
                name="compose_training_config",
            ),
            Node(
                nodes.prepare_base_model,
                ["training_config", "params:base_models"],
                "base_model",
                name="prepare_base_model",
            ),
            Node(
                nodes.compute_frozen_states,
                [
                    *("training_config", "base_model", "posts", "criteria", "pairs"),
                    *(f"fold_{fold}_split" for fold in range(n_folds)),
                ],
                "frozen_states",
                name="compute_frozen_states",
            ),
            Node(
                nodes.fit_baselines,
                [
                    *("training_config", "base_model", "posts", "criteria", "pairs", "groups"),
                    *(f"fold_{fold}_split" for fold in range(n_folds)),
                ],
                "baseline_predictions",
                name="fit_baselines",
            ),
            Node(
                nodes.open_cv_run,
                [
                    *("training_config", "base_model", "data_manifest", "frozen_states"),
                    *("params:tracking_experiment", "baseline_predictions"),
                ],
                "cv_run",
                name="open_cv_run",
                tags=NEEDS_TRACKING,
            ),
            *folds,
            Node(
                nodes.close_cv_run,
                ["cv_run", "baseline_predictions", *(f"fold_{fold}_result" for fold in range(n_folds))],
                "cv_outcome",
                name="close_cv_run",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.keep_report_inputs,
                {name: name for name in sorted({*report_inputs, "cv_outcome", "cv_run"})},
                None,
                name="keep_report_inputs",
                tags=NEEDS_TRACKING,
            ),
        ]
    )


def _fold(fold: int) -> list[Node]:
    namespace = f"fold_{fold}"
    split, run, checkpoint, training, dev_predictions, history, predictions, result = (
        f"{namespace}_{part}"
        for part in ("split", "run", "checkpoint", "training", "dev_predictions", "history", "predictions", "result")
    )
    tables = ("posts", "criteria", "pairs", "groups")
    return [
        Node(
            nodes.train_fold,
            [
                *("cv_run", "training_config", "base_model", "data_manifest", split, "frozen_states"),
                *("params:system_metrics_interval", *tables),
            ],
            [run, checkpoint, training, dev_predictions, history],
            name="train",
            tags=NEEDS_TRACKING,
            namespace=namespace,
        ),
        Node(
            nodes.evaluate_fold,
            [checkpoint, training, run, split, "data_manifest", *tables],
            [predictions, result],
            name="evaluate",
            tags=NEEDS_TRACKING,
            namespace=namespace,
        ),
    ]
