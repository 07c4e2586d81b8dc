"""Wiring of data_processing."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.data_processing import nodes


def create_pipeline(n_folds: int) -> Pipeline:
    """Create the data_processing pipeline, which saves one split for each of `n_folds` folds."""
    folds = [f"fold_{fold}_split" for fold in range(n_folds)]
    plots = ("class_balance", "co_occurrence", "lengths", "truncation", "authors", "fold_balance")
    counted_with = [
        f"params:{name}" for name in ("audited_profiles", "profile", "overrides", "hydra_configs", "base_models")
    ]
    described = ["corpus", "posts", "pairs", "cleaning_counts", "checked_counts", "params:corpus_label"]
    return Pipeline(
        [
            Node(nodes.clean_posts, "corpus", ["posts", "criteria", "cleaning_counts"], name="clean_posts"),
            Node(nodes.build_pairs, ["corpus", "posts", "criteria"], "pair_grid", name="build_pairs"),
            Node(
                nodes.check_counts,
                ["pair_grid", "posts", "criteria", "params:expectation"],
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
            Node(
                nodes.count_tokens,
                ["posts", "criteria", *counted_with],
                "token_statistics",
                name="count_tokens",
            ),
            Node(
                nodes.audit_data,
                ["posts", "criteria", "pairs", "data_statistics", "token_statistics", *folds],
                {name: name for name in ("data_audit", *(f"audit_{plot}" for plot in plots))},
                name="audit_data",
            ),
        ]
    )
