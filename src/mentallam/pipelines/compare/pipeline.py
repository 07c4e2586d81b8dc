"""The compare pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.compare import nodes
from mentallam.reports.printed_table import table_datasets
from mentallam.reports.tables import COMPARISON_TABLES, comparison_tables
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline() -> Pipeline:
    """Wire the comparison of two tracked cross-validations, which reads only what MLflow stores."""
    return Pipeline(
        [
            Node(nodes.load_first, "params:first", "first_run", name="load_first", tags=NEEDS_TRACKING),
            Node(nodes.load_second, "params:second", "second_run", name="load_second", tags=NEEDS_TRACKING),
            Node(
                nodes.compare_runs,
                ["first_run", "second_run", "params:uncertainty"],
                ["comparison", "comparison_report"],
                name="compare_runs",
            ),
            Node(
                comparison_tables,
                "comparison",
                {name: name for name in table_datasets(COMPARISON_TABLES)},
                name="write_comparison_tables",
            ),
        ]
    )
