"""The reporting pipeline."""

from kedro.pipeline import Node, Pipeline

from mentallam.pipelines.reporting import nodes


def create_pipeline(n_folds: int) -> Pipeline:
    """Wire the reporting of a cross-validation.

    Args:
        n_folds: Number of folds; `fold_{k}_predictions` is read for every k below it.
    """
    return Pipeline(
        [
            Node(
                nodes.collect_predictions,
                inputs=[f"fold_{fold}_predictions" for fold in range(n_folds)],
                outputs="oof_predictions",
                name="collect_predictions",
            ),
            Node(
                nodes.summarise_run,
                inputs=["oof_predictions", "cv_outcome", "data_statistics", "criteria", "training_config"],
                outputs=["cv_summary", "thresholds"],
                name="summarise_run",
            ),
            Node(
                nodes.draw_figures,
                inputs=["oof_predictions", "criteria"],
                outputs={name: name for name in ("oof_precision_recall", "oof_confusion", "f1_per_criterion")},
                name="draw_figures",
            ),
            Node(
                nodes.write_report,
                inputs=["cv_summary", "data_statistics", "training_config", "criteria"],
                outputs="report",
                name="write_report",
            ),
            Node(
                nodes.write_model_card,
                inputs=["cv_summary", "data_statistics", "training_config", "params:registry"],
                outputs="model_card",
                name="write_model_card",
            ),
            Node(
                nodes.attach_report,
                inputs=["cv_summary", "thresholds", "report", "model_card", "oof_predictions", "criteria"],
                outputs=None,
                name="attach_report",
            ),
            Node(
                nodes.register_model,
                inputs=["cv_summary", "training_config", "model_card", "params:registry", "params:base_models"],
                outputs=None,
                name="register_model",
            ),
        ]
    )
