"""The cv_training pipeline: baselines, open, one namespace per fold, close."""

from collections.abc import Iterable

from kedro.pipeline import Node, Pipeline

from mentallam.classifier.model import prepare_base
from mentallam.pipelines.cv_training import nodes
from mentallam.tracking import NEEDS_TRACKING

# In this order Kedro saves them; the result, which the rest waits for, comes last.
_FOLD_RESULTS = ("run", "checkpoint", "dev_predictions", "history", "predictions", "result")


def create_pipeline(n_folds: int, report_inputs: Iterable[str]) -> Pipeline:
    """Create the cv_training pipeline.

    Args:
        n_folds: Each fold has a namespace `fold_<k>`.
        report_inputs: Datasets that reporting reads; the run keeps them, so that it can be reported again without the
            data folder. None may hold a post's text.
    """
    return Pipeline(
        [
            Node(
                nodes.check_configuration,
                ["params:hydra_configs", "params:profile", "params:overrides", "params:nested"],
                "nested_search",
                name="check_configuration",
            ),
            Node(
                nodes.compose_training_config,
                [
                    *("params:hydra_configs", "params:profile", "params:overrides"),
                    *("data_manifest", "params:corpus_training_from"),
                ],
                "training_config",
                name="compose_training_config",
                tags=NEEDS_TRACKING,  # training.start_from may name a run
            ),
            Node(
                prepare_base,
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
                    *("training_config", "base_model", "data_manifest", "frozen_states", "nested_search"),
                    *("params:confirms", "params:study"),
                    *("params:tracking_experiment", "params:fresh", "cv_attempt"),
                    *("baseline_predictions", "data_statistics"),
                    *(f"fold_{fold}_split" for fold in range(n_folds)),
                ],
                "cv_run",
                name="open_cv_run",
                tags=NEEDS_TRACKING,
            ),
            *map(_fold, range(n_folds)),
            Node(
                nodes.close_cv_run,
                ["cv_run", "baseline_predictions", *(f"fold_{fold}_result" for fold in range(n_folds))],
                "cv_outcome",
                name="close_cv_run",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.calibrate_ensemble,
                [
                    *("training_config", "cv_outcome"),
                    *(f"fold_{fold}_{part}" for part in ("predictions", "dev_predictions") for fold in range(n_folds)),
                ],
                "ensemble",
                name="calibrate_ensemble",
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


def _fold(fold: int) -> Node:
    """Return the one node of a fold, so that a fold is trained, scored and logged before the next one begins."""
    name = f"fold_{fold}"
    return Node(
        nodes.run_fold,
        [
            *("cv_run", "training_config", "base_model", "data_manifest", f"{name}_split", "frozen_states"),
            "nested_search",
            *("params:base_models", "params:system_metrics_interval", "params:fresh", f"{name}_attempt"),
            *("posts", "criteria", "pairs", "groups"),
        ],
        [f"{name}_{part}" for part in _FOLD_RESULTS],
        name="train_and_score",
        tags=NEEDS_TRACKING,
        namespace=name,
    )
