"""Wiring of data_processing."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.data_processing import nodes


def create_pipeline(n_folds: int) -> Pipeline:
    """Create the data_processing pipeline, which saves one split for each of `n_folds` folds."""
    folds = [f"fold_{fold}_split" for fold in range(n_folds)]
    described = [
        *("annotation_counts", "posts", "criteria", "pairs", "cleaning_counts", "checked_counts"),
        "params:corpus_label",
    ]
    return Pipeline(
        [
            Node(
                nodes.read_corpus,
                "corpus",
                ["written_posts", "criteria", "read_pairs", "annotation_counts"],
                name="read_corpus",
            ),
            Node(nodes.clean_posts, "written_posts", ["posts", "cleaning_counts"], name="clean_posts"),
            Node(
                nodes.check_counts,
                ["read_pairs", "posts", "criteria", "params:expectation"],
                ["pairs", "checked_counts"],
                name="check_counts",
            ),
            Node(
                nodes.assign_folds,
                ["pairs", "posts", "criteria", "params:folds", "params:n_folds"],
                folds,
                name="assign_folds",
            ),
            Node(
                nodes.describe_data,
                [*described, *folds],
                "data_statistics",
                name="describe_data",
            ),
        ]
    )
