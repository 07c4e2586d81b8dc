"""Wiring of data_processing."""

from kedro.pipeline import Node, Pipeline

from mentallam.corpus.manifest import build_manifest
from mentallam.corpus.pairs import check_counts
from mentallam.corpus.placeholders import leave_out_placeholders
from mentallam.corpus.statistics import describe
from mentallam.pipelines.data_processing import nodes
from mentallam.reports.audit_figures import AUDIT_FIGURES


def create_pipeline(n_folds: int) -> Pipeline:
    """Create the data_processing pipeline, which saves one split for each of `n_folds` folds."""
    folds = [f"fold_{fold}_split" for fold in range(n_folds)]
    composed_from = [
        f"params:{name}" for name in ("audited_profiles", "profile", "overrides", "hydra_configs", "base_models")
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
                check_counts,
                ["written_posts", "criteria", "read_pairs", "params:expectation"],
                "checked_counts",
                name="check_counts",
            ),
            Node(
                leave_out_placeholders,
                ["cleaned_posts", "read_pairs", "criteria", "params:cleaning"],
                ["posts", "pairs", "placeholder_counts"],
                name="leave_out_placeholders",
            ),
            Node(nodes.group_posts, ["posts", "params:folds"], ["groups", "duplicates"], name="group_posts"),
            Node(
                build_manifest,
                {
                    "source": "corpus_source",
                    "label": "params:corpus_label",
                    "cleaning": "params:cleaning",
                    "folds": "params:folds",
                    "posts_cleaned": "cleaning_counts",
                    "checked_counts": "checked_counts",
                    **{frame: frame for frame in ("posts", "criteria", "pairs", "groups")},
                },
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
                describe,
                [
                    *("data_manifest", "annotation_counts", "placeholder_counts", "checked_counts"),
                    *("posts", "criteria", "pairs", "duplicates"),
                    *folds,
                ],
                "data_statistics",
                name="describe_data",
            ),
            Node(
                nodes.count_tokens,
                ["posts", "criteria", *composed_from],
                "token_statistics",
                name="count_tokens",
            ),
            Node(
                nodes.audit_data,
                ["posts", "criteria", "pairs", "data_statistics", "token_statistics", *folds],
                {name: name for name in ("data_audit", *(f"audit_{figure}" for figure in AUDIT_FIGURES))},
                name="audit_data",
            ),
        ],
        namespace="data_processing",  # one box of `kedro viz`
        prefix_datasets_with_namespace=False,
    )
