"""The sweep pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.sweep import nodes
from mentallam.reports.sweep_report import render_sweep
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline(n_folds: int) -> Pipeline:
    """Wire the search, which takes the folds of data_processing and touches no cross-validation.

    Args:
        n_folds: Number of folds.
    """
    return Pipeline(
        [
            Node(
                nodes.search,
                [
                    *("params:hydra_configs", "params:profile", "params:overrides", "params:corpus_training_from"),
                    *("params:sweep", "params:base_models", "params:tracking_experiment", "params:fresh"),
                    *("sweep_attempts", "data_manifest", "posts", "criteria", "pairs", "groups"),
                    *(f"fold_{fold}_split" for fold in range(n_folds)),
                ],
                ["sweep_run", "sweep"],
                name="search_configuration",
                tags=NEEDS_TRACKING,
            ),
            Node(render_sweep, "sweep", "sweep_report", name="write_sweep"),
            Node(nodes.write_page, ["sweep_report", "sweep"], "sweep_page", name="write_sweep_page"),
            Node(
                nodes.attach,
                ["sweep_run", "sweep", "sweep_report", "sweep_page"],
                None,
                name="attach_sweep",
                tags=NEEDS_TRACKING,
            ),
        ]
    )
