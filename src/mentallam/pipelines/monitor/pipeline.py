"""The monitor pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.monitor import nodes
from mentallam.reports.monitor_report import render_monitor
from mentallam.serving.drift import compare_batch, load_summary


def create_pipeline() -> Pipeline:
    """Wire monitoring: from the summary of a batch to alerts; it needs neither model nor tracking store."""
    return Pipeline(
        [
            Node(load_summary, ["params:summary", "batch_files"], "monitored_batch", name="load_summary"),
            Node(compare_batch, ["monitored_batch", "params:monitor"], "monitor", name="compare_batch"),
            Node(render_monitor, "monitor", "monitor_report", name="write_monitor_report"),
            Node(nodes.raise_alerts, ["monitor", "monitor_report", "params:monitor"], None, name="raise_alerts"),
        ]
    )
