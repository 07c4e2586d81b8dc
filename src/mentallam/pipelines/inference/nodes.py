"""Nodes of inference that put several steps together; the other nodes are functions of `serving` and `registry`."""

import logging
import shutil
from pathlib import Path
from typing import Any

from mentallam import tracking
from mentallam.batch_files import BatchFiles
from mentallam.cluster_options import ClusterOptions
from mentallam.config import InferenceConfig, compose_inference
from mentallam.corpus.readers import read_criteria
from mentallam.corpus.schemas import wording_by_id
from mentallam.errors import MentallamError
from mentallam.serving.batch import OnError, OutputOptions, predict_files
from mentallam.serving.metrics import batch_metrics
from mentallam.serving.partitions import Described, Model
from mentallam.serving.predictor import Predictor
from mentallam.serving.sources import Source
from mentallam.serving.summary import summarise_batch
from mentallam.serving.volume import predict_partitions
from mentallam.storage import Options, exists, upload

logger = logging.getLogger(__name__)


def compose_inference_config(hydra_configs: str, profile: str, overrides: str | None) -> InferenceConfig:
    """Return the `inference` group of the Hydra configuration; everything else comes from the checkpoint."""
    return compose_inference(Path(hydra_configs), profile, overrides)


def read_own_criteria(criteria: str | None) -> dict[str, str]:
    """Return the wording by id of criteria to ask in place of the model's; empty if the user named no file."""
    return {} if criteria is None else wording_by_id(read_criteria(str(criteria)))


def check_backend(cluster: ClusterOptions) -> ClusterOptions:
    """Return where posts are answered.

    Raises:
        MentallamError: The backend only trains folds.
    """
    if cluster.backend in ("process", "slurm"):
        raise MentallamError(
            f"cluster.backend={cluster.backend} trains folds; inference takes ray, or auto for this process"
        )
    return cluster


def check_output(files: BatchFiles, overwrite: bool, explain: bool, storage: Options) -> BatchFiles:
    """Return where to write, unless that would replace predictions of another batch.

    Raises:
        MentallamError: The file is there, or its format has no place for sentences.
    """
    if explain and files.format == "csv":
        raise MentallamError("CSV has no place for the sentences of explain=true: write .jsonl or .parquet")
    # With an attempt beside it, the file may be what that attempt wrote just before it was killed.
    if not overwrite and not files.attempt.exists():
        place = files.place(files.predictions)
        if exists(place, storage) if files.url else files.predictions.exists():
            raise MentallamError(
                f"{place} exists: name another file with output=..., or replace it with overwrite=true"
            )
    return files


def predict(
    sources: list[Source],
    inference_config: InferenceConfig,
    checkpoints: list[Path],
    own_criteria: dict[str, str],
    base_models: str,
    files: BatchFiles,
    on_error: OnError,
    explain: bool,
    region: str,
    storage: Options,
    cluster: ClusterOptions,
) -> tuple[Path, dict[str, Any]]:
    """Answer all posts; return the file of the predictions, which is written as they are made, and the summary.

    On Ray it is a folder of files.
    """
    model = Model(checkpoints, Path(base_models), inference_config, own_criteria)
    options = OutputOptions(files, on_error, explain, storage)
    answering: Predictor | Described
    if cluster.backend == "ray":
        progress, answering = predict_partitions(model, sources, options, cluster)
    else:
        answering = model.load()
        progress = predict_files(answering, sources, options, answering.fingerprint(inference_config))
    return files.predictions, summarise_batch(progress, answering, inference_config, region)


def upload_figures(summary: dict[str, Any], metrics: str, files: BatchFiles, storage: Options) -> None:
    """Put the summary and the metrics beside answers that have gone to a store, and remove those of this machine.

    Args:
        summary: The summary, which is saved by now.
        metrics: The metrics, which are saved by now.
        files: The files of the batch.
        storage: What the store needs.
    """
    if not files.url:
        return
    for path in (files.metrics, files.summary):  # the summary comes last, and says that the batch is complete
        upload(path, files.place(path), storage)
    files.rejects.unlink(missing_ok=True)
    if files.predictions.is_dir():
        shutil.rmtree(files.predictions)
    else:
        files.predictions.unlink(missing_ok=True)


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
