"""The pipelines that `kedro run` knows."""

from kedro.pipeline import Pipeline

from mentallam.config_loading import cv_folds
from mentallam.pipelines import (
    compare,
    cv_training,
    data_processing,
    inference,
    latency,
    learning_curve,
    memory_plan,
    monitor,
    refit,
    reporting,
    sweep,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return the pipelines by name; cv_training includes data_processing, so that its folds always fit the data."""
    n_folds = cv_folds()
    data = data_processing.create_pipeline(n_folds)
    report = reporting.create_pipeline(n_folds)
    report_inputs = {name for name in report.inputs() if not name.startswith("params:")}
    training = data + cv_training.create_pipeline(n_folds, report_inputs)
    return {
        "__default__": training + report,
        "data_processing": data,
        "cv_training": training,
        "reporting": report,
        "refit": refit.create_pipeline(n_folds),
        "inference": inference.create_pipeline(),
        "latency": latency.create_pipeline(),
        "monitor": monitor.create_pipeline(),
        "compare": compare.create_pipeline(),
        "learning_curve": learning_curve.create_pipeline(n_folds),
        "sweep": sweep.create_pipeline(n_folds),
        "memory_plan": memory_plan.create_pipeline(),
    }
