"""The reporting pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.evaluation.label_audit import audit_labels
from mentallam.evaluation.oof import out_of_fold_table
from mentallam.pipelines.reporting import nodes
from mentallam.reported_runs import find_candidates
from mentallam.reports.figures import REPORT_FIGURES
from mentallam.reports.printed_table import table_datasets
from mentallam.reports.tables import REPORT_TABLES, report_tables
from mentallam.tracking import NEEDS_TRACKING


def create_pipeline(n_folds: int) -> Pipeline:
    """Wire the reporting of a cross-validation.

    Args:
        n_folds: Number of folds; `fold_{k}_predictions` and `fold_{k}_history` are read for every k below it.
    """
    figures = [f"figure_{name}" for name in REPORT_FIGURES]
    tables = table_datasets(REPORT_TABLES)
    return Pipeline(
        [
            Node(
                out_of_fold_table,
                inputs=[f"fold_{fold}_predictions" for fold in range(n_folds)],
                outputs="oof_predictions",
                name="collect_predictions",
            ),
            Node(
                audit_labels,
                inputs="oof_predictions",
                outputs="label_audit",
                name="audit_labels",
            ),
            Node(
                nodes.summarise_run,
                inputs=[
                    *("oof_predictions", "baseline_predictions", "cv_outcome", "data_statistics"),
                    *("criteria", "training_config"),
                ],
                outputs=["cv_summary", "thresholds"],
                name="summarise_run",
            ),
            Node(
                nodes.estimate_uncertainty,
                inputs=[
                    *("oof_predictions", "baseline_predictions", "training_config"),
                    *("params:uncertainty", "params:repeats"),
                ],
                outputs="uncertainty",
                name="estimate_uncertainty",
            ),
            Node(
                nodes.check_run,
                inputs=["cv_summary", "uncertainty", "data_statistics", "training_config", "candidates"],
                outputs="checks",
                name="check_run",
            ),
            Node(
                nodes.draw_figures,
                inputs=[
                    *("oof_predictions", "baseline_predictions", "uncertainty", "criteria", "data_statistics"),
                    "training_config",
                    *(f"fold_{fold}_history" for fold in range(n_folds)),
                ],
                outputs={name: name for name in figures},
                name="draw_figures",
            ),
            Node(
                find_candidates,
                inputs=["cv_summary", "cv_outcome"],
                outputs="candidates",
                name="find_candidates",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.write_report,
                inputs=[
                    *("cv_summary", "uncertainty", "data_statistics", "training_config", "criteria", "checks"),
                    *("ensemble", "candidates", "params:registry"),
                ],
                outputs="report",
                name="write_report",
            ),
            Node(
                nodes.write_page,
                inputs=["report", "data_statistics", *figures],
                outputs="report_page",
                name="write_page",
            ),
            Node(
                report_tables,
                inputs=["cv_summary", "uncertainty", "data_statistics"],
                outputs={name: name for name in tables},
                name="write_tables",
            ),
            Node(
                nodes.write_model_card,
                inputs=[
                    *("cv_summary", "uncertainty", "data_statistics", "training_config"),
                    *("ensemble", "candidates", "params:registry"),
                ],
                outputs="model_card",
                name="write_model_card",
            ),
            Node(
                nodes.attach_report,
                inputs=[
                    *("cv_summary", "thresholds", "uncertainty", "checks", "label_audit"),
                    *("report", "report_page", "model_card"),
                    "params:partial",
                    *figures,
                ],
                outputs=None,
                name="attach_report",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.print_figures,
                inputs=["params:print_figures", *figures],
                outputs="printed_figures",
                name="print_figures",
            ),
            Node(
                nodes.attach_for_paper,
                inputs=["cv_summary", "params:partial", "printed_figures", *tables],
                outputs=None,
                name="attach_for_paper",
                tags=NEEDS_TRACKING,
            ),
            Node(
                nodes.register_model,
                inputs=[
                    *("cv_summary", "training_config", "model_card", "oof_predictions", "params:registry"),
                    *("params:uncertainty", "params:base_models", "params:tracking_experiment", "params:partial"),
                ],
                outputs=None,
                name="register_model",
                tags=NEEDS_TRACKING,
            ),
            # Kedro runs nodes that wait for the same in the order of their names: this one comes after those above.
            Node(
                nodes.warn_of_checks,
                inputs=["checks", "report_page"],
                outputs=None,
                name="warn_of_checks",
            ),
        ],
        namespace="reporting",  # one box of `kedro viz`
        prefix_datasets_with_namespace=False,
    )
