"""The learning_curve pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.classifier.fold import states_of_folds
from mentallam.classifier.model import prepare_base
from mentallam.corpus.subsets import sized_splits
from mentallam.evaluation.learning_curve import learning_curve
from mentallam.pipelines.learning_curve import nodes
from mentallam.reports.figures_learning_curve import size_curve
from mentallam.reports.learning_curve_report import CURVE_TABLES, learning_curve_tables, render_learning_curve
from mentallam.reports.printed_table import table_datasets
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline(n_folds: int) -> Pipeline:
    """Wire the learning curve, which takes the folds of data_processing and touches no cross-validation.

    Args:
        n_folds: Number of folds.
    """
    tables = table_datasets(CURVE_TABLES)
    return Pipeline(
        [
            Node(
                sized_splits,
                ["params:learning_curve", "pairs", "groups", *(f"fold_{fold}_split" for fold in range(n_folds))],
                "sized_splits",
                name="choose_training_posts",
            ),
            Node(
                nodes.compose_config_of_curve,
                [
                    *("params:hydra_configs", "params:profile", "params:overrides"),
                    *("data_manifest", "params:corpus_training_from"),
                ],
                "config_of_curve",
                name="compose_config_of_curve",
                tags=NEEDS_TRACKING,  # training.start_from may name a run
            ),
            Node(
                prepare_base,
                ["config_of_curve", "params:base_models"],
                "base_of_curve",
                name="prepare_base_of_curve",
            ),
            Node(
                states_of_folds,
                ["config_of_curve", "base_of_curve", "posts", "criteria", "pairs", "sized_splits"],
                "states_of_curve",
                name="compute_states_of_curve",
            ),
            Node(
                nodes.train_by_size,
                [
                    *("config_of_curve", "base_of_curve", "data_manifest", "states_of_curve", "sized_splits"),
                    *("params:tracking_experiment", "params:system_metrics_interval", "params:fresh"),
                    *("learning_curve_attempts", "posts", "criteria", "pairs", "groups"),
                ],
                ["learning_curve_run", "learning_curve_predictions"],
                name="train_by_size",
                tags=NEEDS_TRACKING,
            ),
            Node(
                learning_curve,
                ["learning_curve_predictions", "sized_splits", "data_statistics", "params:uncertainty"],
                "learning_curve",
                name="estimate_learning_curve",
            ),
            Node(size_curve, "learning_curve", "learning_curve_figure", name="draw_learning_curve"),
            Node(render_learning_curve, "learning_curve", "learning_curve_report", name="write_learning_curve"),
            Node(
                learning_curve_tables,
                "learning_curve",
                {name: name for name in tables},
                name="write_learning_curve_tables",
            ),
            Node(
                nodes.write_curve_page,
                ["learning_curve_report", "learning_curve_figure", "learning_curve"],
                "learning_curve_page",
                name="write_learning_curve_page",
            ),
            Node(
                nodes.attach_curve,
                [
                    *("learning_curve_run", "learning_curve", "learning_curve_report", "learning_curve_page"),
                    *tables,
                ],
                None,
                name="attach_learning_curve",
                tags=NEEDS_TRACKING,
            ),
        ]
    )
