"""Wiring of data_processing."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.data_processing import nodes
from mentallam.reports.audit_figures import AUDIT_FIGURES


def create_pipeline(n_folds: int) -> Pipeline:
    """Create the data_processing pipeline, which saves one split for each of `n_folds` folds."""
    folds = [f"fold_{fold}_split" for fold in range(n_folds)]
    counted_with = [
        f"params:{name}" for name in ("audited_profiles", "profile", "overrides", "hydra_configs", "base_models")
    ]
    described = [
        *("annotation_counts", "posts", "criteria", "pairs", "cleaning_counts", "placeholder_counts"),
        *("checked_counts", "params:corpus_label", "params:folds", "duplicates"),
    ]
    return Pipeline(
        [
            Node(
                nodes.read_corpus,
                "corpus",
                ["written_posts", "criteria", "read_pairs", "annotation_counts", "corpus_source"],
                name="read_corpus",
            ),
            Node(
                nodes.clean_posts,
                ["written_posts", "params:cleaning"],
                ["cleaned_posts", "cleaning_counts"],
                name="clean_posts",
            ),
            Node(
                nodes.check_counts,
                ["read_pairs", "written_posts", "criteria", "params:expectation"],
                ["checked_pairs", "checked_counts"],
                name="check_counts",
            ),
            Node(
                nodes.leave_out_placeholders,
                ["cleaned_posts", "checked_pairs", "criteria", "params:cleaning"],
                ["posts", "pairs", "placeholder_counts"],
                name="leave_out_placeholders",
            ),
            Node(nodes.group_posts, ["posts", "params:folds"], ["groups", "duplicates"], name="group_posts"),
            Node(
                nodes.build_manifest,
                [
                    *("corpus_source", "posts", "criteria", "pairs", "groups"),
                    *("params:cleaning", "params:folds", "cleaning_counts", "placeholder_counts"),
                ],
                "data_manifest",
                name="build_manifest",
            ),
            Node(
                nodes.assign_folds,
                ["posts", "pairs", "groups", "data_manifest", "params:folds", "params:n_folds"],
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
                {name: name for name in ("data_audit", *(f"audit_{figure}" for figure in AUDIT_FIGURES))},
                name="audit_data",
            ),
        ]
    )
