"""Nodes of inference that put several steps together; the other nodes are functions of `serving` and `registry`."""

import logging
from pathlib import Path
from typing import Any

from mentallam import tracking
from mentallam.config import InferenceConfig, compose_inference
from mentallam.corpus.readers import read_criteria
from mentallam.corpus.schemas import wording_by_id
from mentallam.serving.batch import PREDICTIONS, Format, OnError, OutputOptions, predict_files
from mentallam.serving.metrics import batch_metrics
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import Source
from mentallam.serving.summary import summarise_batch

logger = logging.getLogger(__name__)


def compose_inference_config(hydra_configs: str, profile: str, overrides: str | None) -> InferenceConfig:
    """Return the `inference` group of the Hydra configuration; everything else comes from the checkpoint."""
    return compose_inference(Path(hydra_configs), profile, overrides)


def read_own_criteria(criteria: str | None) -> dict[str, str]:
    """Return the wording by id of criteria to ask in place of the model's; empty if the user named no file."""
    return {} if criteria is None else wording_by_id(read_criteria(str(criteria)))


def predict(
    sources: list[Source],
    inference_config: InferenceConfig,
    checkpoints: list[Path],
    own_criteria: dict[str, str],
    base_models: str,
    folder: Path,
    output_format: Format,
    on_error: OnError,
    explain: bool,
    region: str,
) -> tuple[Path, dict[str, Any]]:
    """Answer all posts; return the file of the predictions, which is written as they are made, and the summary."""
    predictor = Predictor.load(checkpoints, Path(base_models), inference_config, own_criteria)
    options = OutputOptions(folder, output_format, on_error, explain)
    progress = predict_files(predictor, sources, options, predictor.fingerprint(inference_config))
    summary = summarise_batch(progress, predictor, inference_config, region)
    return folder / f"{PREDICTIONS}.{output_format}", summary


def log_batch(summary: dict[str, Any], log_to_mlflow: bool, experiment: str) -> None:
    """Log the figures of the batch to an MLflow run of its own, if the user wants that; never a text or a file's name.

    Raises:
        MentallamError: There is no such experiment.
    """
    if not log_to_mlflow:
        return
    run = tracking.open_batch_run(experiment, summary["model"]["run_id"])
    with tracking.failing(run.run_id):
        run.log_metrics(batch_metrics(summary))
        run.log_dict(summary, "prediction_summary.json")
    run.finish()
    logger.info("the figures of the batch are in the MLflow run %s", run.run_id)
