"""MLflow runs as data: a parent per cross-validation, a child per fold, each identified by its id.

Everything is logged through the client to an explicit run id, never to the active run, so folds may run in any order,
thread or process.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pandas as pd
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModel,
    LoggedModelOutput,
    LoggedModelStatus,
    Metric,
    Param,
    RunInputs,
    RunTag,
)
from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_IS_EXTERNAL

from mentallam import interruption, run_status
from mentallam.config import Config, from_dict, to_dict
from mentallam.errors import MentallamError
from mentallam.files import writing
from mentallam.limits import read_json
from mentallam.names import check_name
from mentallam.project import in_project, session
from mentallam.run_status import COMPLETE_TAG, PARENT_RUN_TAG
from mentallam.tracking_address import local_path
from mentallam.tracking_client import TOKEN_TAG, MetricQueue, download_artifacts, retrying_client
from mentallam.tracking_view import describe_experiment

# One bar per small file would fill the log.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

# Tag of the nodes that read or write MLflow runs; other nodes do not touch the store.
NEEDS_TRACKING = "tracking"

# System tags, as MLflow documents them.
_NOTE_TAG = "mlflow.note.content"
_FOLDS_NOTE = "Folds of this cross-validation:"
_DATASET_CONTEXT_TAG = "mlflow.data.context"

BEST_RUN_TAG = "mentallam.best_run_id"
# Tag of the run of a batch of predictions: the run of the model that answered.
MODEL_RUN_TAG = "mentallam.model_run_id"
_FOLD_RUN_TAG = re.compile(r"mentallam\.fold_(\d+)_run_id")
CHECKPOINT = "checkpoint"
# Artifacts of a cross-validation's run: the inputs of its report, one file per dataset.
REPORT_INPUTS = "report_inputs"
POOLED_F1 = "pooled_f1"
# Tag of the run of a model that was trained on all posts of a cross-validation.
REFIT_TAG = "mentallam.refit"
# Artifact of such a run: how it was trained.
RESULT = "result.json"
MODEL_CARD = "reporting/model_card.md"
# Artifact of a search's run: what was found. Tags of a cross-validation: the run of the search whose best configuration
# it trains; the search that each of its folds made for itself; the study that it is a part of.
SEARCH = "sweep/sweep.json"
CONFIRMS_TAG = "mentallam.confirms"
NESTED_TAG = "mentallam.nested"
STUDY_TAG = "mentallam.study"

# Limits of MLflow: parameters in one request, characters of a dataset's digest.
_PARAMS_PER_REQUEST = 100
_DIGEST_LENGTH = 36


class Run:
    """One MLflow run, identified by its id.

    Args:
        run_id: The run's id.
    """

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._client = retrying_client()
        self._steps = MetricQueue(run_id)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log a nested dict as parameters with dotted names."""
        flat = [Param(name, str(value)) for name, value in _flatten(params)]
        for start in range(0, len(flat), _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, params=flat[start : start + _PARAMS_PER_REQUEST])

    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics, except undefined ones (None) and those that the step already has with the same value.

        So what is computed again after an interruption appears once, and a figure that has changed beside the old one.
        """
        new = {name: value for name, value in metrics.items() if self._last.get((name, step)) != value}
        self._client.log_batch(self.run_id, metrics=self._points(new, step))

    def log_model(self, name: str, params: Mapping[str, Any], metrics: Mapping[str, float | None]) -> None:
        """Record the checkpoint, which is the run's artifact, as a logged model; log its metrics on the run's data.

        The same call again, in a run that goes on, adds nothing.

        Args:
            name: Name of the logged model.
            params: What tells it from others.
            metrics: As in `log_metrics`; they are the run's, too.
        """
        run = self._client.get_run(self.run_id)
        tags = {MLFLOW_MODEL_IS_EXTERNAL: "true"}  # its files are not those of the logged model
        model_id = open_logged_model(run, name, params, tags).model_id
        if not run.outputs or model_id not in {output.model_id for output in run.outputs.model_outputs}:
            self._client.log_outputs(self.run_id, [LoggedModelOutput(model_id, step=0)])
        data = cast(RunInputs, run.inputs).dataset_inputs[0].dataset
        new = {name: value for name, value in metrics.items() if self._last.get((name, 0)) != value}
        link = {"model_id": model_id, "dataset_name": data.name, "dataset_digest": data.digest}
        self._client.log_batch(self.run_id, metrics=self._points(new, 0, **link))
        self._client.finalize_logged_model(model_id, LoggedModelStatus.READY)

    def log_step(self, metrics: Mapping[str, float | None], step: int) -> None:
        """Log metrics of a training step, except undefined ones and those that the step has, with whatever value.

        A step that is trained again appears once, although its speed differs. A store that is away is not waited for;
        `flush` does.
        """
        self._steps.log(self._points({name: metrics[name] for name in metrics if (name, step) not in self._last}, step))

    def flush(self) -> None:
        """Log what `log_step` had to keep."""
        self._steps.flush()

    def _points(self, metrics: Mapping[str, float | None], step: int, **link: str) -> list[Metric]:
        now = time.time_ns() // 1_000_000
        defined = {name: value for name, value in metrics.items() if value is not None}
        self._last.update({(name, step): value for name, value in defined.items()})
        return [Metric(name, value, now, step, **link) for name, value in defined.items()]

    @cached_property
    def _last(self) -> dict[tuple[str, int], float]:
        """The last value of each metric and step, without those of the machine; looked up once."""
        names = [name for name in self._client.get_run(self.run_id).data.metrics if not name.startswith("system/")]
        found = (metric for name in names for metric in self._client.get_metric_history(self.run_id, name))
        return {(metric.key, metric.step): metric.value for metric in found}

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; values become strings."""
        self._client.log_batch(self.run_id, tags=[RunTag(name, str(value)) for name, value in tags.items()])

    def log_data_input(self, name: str, data_hash: str, source: str, counts: Mapping[str, int]) -> None:
        """Record which data the run used, without copying them.

        Args:
            name: Name of the corpus.
            data_hash: Hash of the data; MLflow keeps its beginning as the digest.
            source: Folder of the corpus.
            counts: What the data hold, such as posts and pairs.
        """
        dataset = Dataset(
            name=name,
            digest=data_hash[:_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(counts)),
        )
        tags = [InputTag(_DATASET_CONTEXT_TAG, "training")]
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)])

    def log_dict(self, content: Mapping[str, Any], path: str) -> None:
        """Save a dict as a .json or .yaml artifact."""
        with self._writing(path):
            self._client.log_dict(self.run_id, dict(content), path)

    def log_text(self, content: str, path: str) -> None:
        """Save a text artifact."""
        with self._writing(path):
            self._client.log_text(self.run_id, content, path)

    def log_table(self, table: pd.DataFrame, path: str) -> None:
        """Save a table as a .parquet artifact."""
        with self._writing(path), tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            table.to_parquet(file)
            self._client.log_artifact(self.run_id, str(file), str(Path(path).parent))

    def log_files(self, files: Mapping[str, str | bytes], path: str) -> None:
        """Save small files by name as artifacts below a path."""
        with self._writing(path), tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content.encode() if isinstance(content, str) else content)
            self._client.log_artifacts(self.run_id, folder, path)

    def log_folder(self, folder: Path, path: str) -> None:
        """Copy a folder to the artifacts."""
        with self._writing(path):
            self._client.log_artifacts(self.run_id, str(folder), path)

    def _writing(self, path: str) -> AbstractContextManager[None]:
        return writing(f"the artifact {path} of run {self.run_id}")

    def artifact_address(self, path: str) -> str:
        """Return where an artifact lies: a path (relative if below the working directory), or a URI."""
        uri = f"{self._client.get_run(self.run_id).info.artifact_uri}/{path}"
        local = local_path(uri)
        if local is None:
            return uri
        return str(local.relative_to(Path.cwd())) if local.is_relative_to(Path.cwd()) else str(local)

    def describe(self, words: str) -> None:
        """Write what came out at the head of the run's note; links to folds below it stay.

        Args:
            words: Markdown.
        """
        _, heading, links = self._note().partition(_FOLDS_NOTE)
        self.set_tags({_NOTE_TAG: f"{words}\n\n{heading}{links}".strip()})

    def link_folds(self, experiment_id: str, fold_runs: Mapping[int, str]) -> None:
        """Link to the folds' runs in tags, and in the run's note, below what came out."""
        links = [f"- [fold {fold}](#/experiments/{experiment_id}/runs/{run_id})" for fold, run_id in fold_runs.items()]
        self.set_tags({f"mentallam.fold_{fold}_run_id": run_id for fold, run_id in fold_runs.items()})
        words = self._note().partition(_FOLDS_NOTE)[0].strip()
        self.set_tags({_NOTE_TAG: "\n".join([*([words, ""] if words else []), _FOLDS_NOTE, "", *links])})

    def _note(self) -> str:
        return str(self._client.get_run(self.run_id).data.tags.get(_NOTE_TAG, ""))

    def finish(self, status: str = "FINISHED") -> None:
        """Log what is left, and close the run."""
        self.flush()
        run_status.end(self.run_id, status)


def open_logged_model(
    run: MlflowRun, name: str, params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
) -> LoggedModel:
    """Return a run's logged model of that name: a new one, unless an attempt that was interrupted has left one."""
    client, token = retrying_client(), f"{run.info.run_id}-{name}"
    found = client.search_logged_models([run.info.experiment_id], f"tags.`{TOKEN_TAG}` = '{token}'", max_results=1)
    if found:
        return found[0]
    return client.create_logged_model(
        run.info.experiment_id,
        name,
        tags={TOKEN_TAG: token, **(tags or {})},
        params={param: str(value) for param, value in (params or {}).items()},
        source_run_id=run.info.run_id,
    )


def open_batch_run(experiment: str, model_run_id: str) -> Run:
    """Open a run for a batch of predictions.

    Args:
        experiment: The run's MLflow experiment.
        model_run_id: The run of the model that answered.

    Raises:
        MentallamError: There is no such experiment.
    """
    tags = {MODEL_RUN_TAG: model_run_id}
    run = Run(retrying_client().create_run(_experiment_id(experiment), tags=tags, run_name="inference").info.run_id)
    run_status.work_on(run.run_id)
    return run


def open_cv_run(name: str, experiment: str, token: str) -> dict[str, str]:
    """Return the run of a cross-validation as data, by which folds in any process find it.

    Args:
        name: The name of a new run.
        experiment: The run's MLflow experiment.
        token: Identifies the cross-validation: the run that has it goes on; where there is none, one is opened.

    Raises:
        MentallamError: There is no such experiment.
    """
    experiment_id = _experiment_id(experiment)
    describe_experiment(experiment_id)
    return _open(experiment_id, token, name, {})


def _experiment_id(experiment: str) -> str:
    found = retrying_client().get_experiment_by_name(experiment)
    if found is None:
        raise MentallamError(
            f"tracking_experiment={experiment} is no MLflow experiment: give tracking.experiment.name in mlflow.yml "
            f"the same value"
        )
    return str(found.experiment_id)


def open_fold_run(cv_run: Mapping[str, str], fold: int, token: str, name: str | None = None) -> dict[str, str]:
    """Return the run of a fold, a child of the cross-validation's run, as data.

    Args:
        cv_run: The cross-validation's run, as `open_cv_run` returns it.
        fold: The fold.
        token: Identifies the fold's training, as in `open_cv_run`.
        name: The name of a new run; None for `fold_<k>`.

    Raises:
        MentallamError: The cross-validation's run is deleted or gone.
    """
    writable_run("cv_run.json", cv_run["run_id"])
    tags = {PARENT_RUN_TAG: cv_run["run_id"], "mentallam.fold": str(fold)}
    return _open(cv_run["experiment_id"], token, name or f"fold_{fold}", tags)


def fail_replaced_runs(cv_run: Mapping[str, str], fold: int, run_id: str) -> None:
    """Mark the other finished runs of a fold as failed, so that a cross-validation has one finished run per fold.

    Args:
        cv_run: The cross-validation's run, as `open_cv_run` returns it.
        fold: The fold.
        run_id: The run that takes their place.
    """
    of_fold = f"tags.`{PARENT_RUN_TAG}` = '{cv_run['run_id']}' AND tags.`mentallam.fold` = '{fold}'"
    finished = f"{of_fold} AND attributes.status = 'FINISHED'"
    for run in retrying_client().search_runs([cv_run["experiment_id"]], finished):
        if run.info.run_id != run_id:
            Run(run.info.run_id).finish("FAILED")


def open_refit_run(cv_run: Mapping[str, str], token: str) -> str:
    """Return the run of a model of all posts, a child of the cross-validation's run.

    Args:
        cv_run: The cross-validation's run, as `open_cv_run` returns it.
        token: Identifies the training, as in `open_cv_run`.

    Raises:
        MentallamError: The cross-validation's run is deleted or gone.
    """
    writable_run("cv_run.json", cv_run["run_id"])
    tags = {PARENT_RUN_TAG: cv_run["run_id"], REFIT_TAG: "True"}
    return _open(cv_run["experiment_id"], token, "refit", tags)["run_id"]


def load_result(run_id: str) -> dict[str, Any]:
    """Return how a finished refit was trained.

    Raises:
        MentallamError: The artifact can't be downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = read_json(download_artifact(run_id, RESULT, Path(folder)))
        return result


def _open(experiment_id: str, token: str, name: str, tags: Mapping[str, str]) -> dict[str, str]:
    client = retrying_client()
    found = client.search_runs([experiment_id], f"tags.`{TOKEN_TAG}` = '{token}'", max_results=1)
    run = found[0] if found else client.create_run(experiment_id, tags={TOKEN_TAG: token, **tags}, run_name=name)
    if not run_status.is_complete(run):
        run_status.work_on(run.info.run_id)
    return {"run_id": run.info.run_id, "experiment_id": experiment_id}


def is_complete(run_id: str) -> bool:
    """Return whether a fold is finished, or a cross-validation with all that its report needs."""
    return run_status.is_complete(retrying_client().get_run(run_id))


@contextmanager
def failing(run_id: str) -> Iterator[Run]:
    """Mark the run as failed if the body raises, or as killed if it is interrupted."""
    run = Run(run_id)
    try:
        yield run
    except BaseException as error:
        failed = isinstance(error, Exception) and not interruption.has_stopped(error)
        with suppress(MlflowException, MentallamError):  # the store may be why it broke off
            run.finish("FAILED" if failed else "KILLED")
        raise
    run.flush()


@contextmanager
def system_metrics(run_id: str, interval: float) -> Iterator[None]:
    """Log the use of processor, memory, disk, network and GPU to a run while the body runs.

    Args:
        run_id: The run; the metrics' names begin with "system/".
        interval: Seconds between two samples; the variable MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL takes precedence.

    Raises:
        MentallamError: The interval is not above 0.
    """
    if not interval > 0:
        raise MentallamError(f"system_metrics_interval is {interval}; it must be above 0 seconds")
    monitor = SystemMetricsMonitor(run_id, sampling_interval=interval, resume_logging=True)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def find_fold_run(experiment: str, run_id: str | None = None) -> str:
    """Return the run of the fold whose checkpoint is used.

    Args:
        experiment: MLflow experiment with the latest run.
        run_id: A fold's run, or a cross-validation's run for its best fold; None for the latest cross-validation
            whose folds have all finished.

    Raises:
        MentallamError: There is no such run, or it holds no checkpoint.
    """
    client = retrying_client()
    named = _latest_cv_run(experiment) if run_id is None else existing_run("model", run_id)
    option = f"model={named.info.run_id}"
    chosen = str(named.data.tags.get(BEST_RUN_TAG, named.info.run_id))
    try:
        status = client.get_run(chosen).info.status
        found = client.list_artifacts(chosen, CHECKPOINT)
    except MlflowException:
        raise MentallamError(
            f"the run {chosen} of the best fold of {option} is gone: name another run as model, or champion "
            f"for the registered model, which keeps its checkpoint itself"
        ) from None
    if not found:
        raise MentallamError(
            f"{option} (status {status}) holds no checkpoint; name a fold's run or a finished cross-validation"
        )
    return chosen


def find_cv_run(experiment: str, run_id: str | None = None) -> str | None:
    """Return the run of a cross-validation whose folds have all finished.

    Args:
        experiment: MLflow experiment with the latest run.
        run_id: A run; None for the latest cross-validation.

    Returns:
        Its id; None if the named run is no finished cross-validation.

    Raises:
        MentallamError: There is no such run.
    """
    found = _latest_cv_run(experiment) if run_id is None else existing_run("model", run_id)
    return str(found.info.run_id) if BEST_RUN_TAG in found.data.tags else None


def find_fold_runs(cv_run_id: str) -> list[str]:
    """Return the runs of all folds of a finished cross-validation, in the order of the folds."""
    tags = existing_run("model", cv_run_id).data.tags
    numbered = ((_FOLD_RUN_TAG.fullmatch(tag), run_id) for tag, run_id in tags.items())
    return [run_id for _, run_id in sorted((int(found[1]), run_id) for found, run_id in numbered if found)]


def find_refit_run(cv_run_id: str) -> str | None:
    """Return the finished run of the model that was trained on all posts of a cross-validation; None without one."""
    run = existing_run("model", cv_run_id)
    wanted = f"tags.`{PARENT_RUN_TAG}` = '{cv_run_id}' AND tags.`{REFIT_TAG}` = 'True'"
    found = retrying_client().search_runs(
        [run.info.experiment_id], f"{wanted} AND attributes.status = 'FINISHED'", order_by=["start_time DESC"]
    )
    return str(found[0].info.run_id) if found else None


def find_finished_cv_runs(experiment_id: str, data_hash: str) -> dict[str, float | None]:
    """Return the pooled F1 of each finished cross-validation of some data; None where it has not been reported."""
    wanted = f"tags.`mentallam.data_hash` = '{data_hash}' AND tags.`{COMPLETE_TAG}` = 'True'"
    found = retrying_client().search_runs([experiment_id], wanted)
    return {run.info.run_id: run.data.metrics.get(POOLED_F1) for run in found if PARENT_RUN_TAG not in run.data.tags}


def beginning_of(run_id: str) -> dict[str, Any]:
    """Return what a run was begun with.

    Returns:
        `begun` (UTC); of which code: `commit` (None outside a git checkout) and `dirty`; and `confirms`: the run of the
        search whose best configuration it trains, or None.
    """
    run = retrying_client().get_run(run_id)
    began, tags = datetime.fromtimestamp(run.info.start_time / 1000, timezone.utc), run.data.tags
    return {
        "begun": f"{began:%Y-%m-%d %H:%M} UTC",
        "commit": tags.get("mentallam.code.commit"),
        "dirty": tags.get("mentallam.code.dirty") == "True",
        "confirms": tags.get(CONFIRMS_TAG),
    }


def _latest_cv_run(experiment: str) -> MlflowRun:
    client = retrying_client()
    found = client.get_experiment_by_name(experiment)
    tagged, latest = f"tags.`{BEST_RUN_TAG}` LIKE '%'", ["attributes.start_time DESC"]
    runs = client.search_runs([found.experiment_id], tagged, order_by=latest, max_results=1) if found else []
    if not runs:
        raise MentallamError(
            f"no trained model yet in the MLflow experiment {experiment!r}: run `kedro run --pipeline cv_training` "
            f"first, with the same --env"
        )
    return runs[0]


def download_checkpoint(run_id: str, copies: Path | None = None) -> Path:
    """Return the folder of a fold's checkpoint; download it if artifacts lie on a server.

    Args:
        run_id: The fold's run.
        copies: The folder to download into; None for a temporary one.

    Raises:
        MentallamError: It can't be downloaded.
    """
    address = Run(run_id).artifact_address(CHECKPOINT)
    if not urlsplit(address).scheme:
        return Path(address)
    return _downloaded(f"the checkpoint of run {run_id}", address, copies)


def load_search(run_id: str) -> dict[str, Any]:
    """Return what the search of a run has found, as the node `search` returns it.

    Raises:
        MentallamError: There is no such run, or it is no search that has come to its end.
    """
    existing_run("confirms", run_id)
    with tempfile.TemporaryDirectory() as folder:
        try:
            found: dict[str, Any] = read_json(download_artifact(run_id, SEARCH, Path(folder)))
        except (MentallamError, OSError):
            raise MentallamError(
                f"confirms={run_id} is not the run of a finished search: its report names it in the command that "
                f"confirms its best configuration"
            ) from None
        return found


def find_confirmed(experiment_id: str, data_hash: str) -> MlflowRun | None:
    """Return the latest reported cross-validation that confirms a search on some data; None without one."""
    wanted = f"tags.`mentallam.data_hash` = '{data_hash}' AND tags.`{CONFIRMS_TAG}` LIKE '%'"
    found = retrying_client().search_runs([experiment_id], wanted, order_by=["start_time DESC"])
    return next((run for run in found if POOLED_F1 in run.data.metrics), None)


def with_local_start(config: Config) -> Config:
    """Return the configuration with `training.start_from` as an absolute folder, below the project if it is relative.

    Raises:
        MentallamError: It is a run's id, and the checkpoint of that run can't be had.
    """
    start = config.training.start_from
    if not start:
        return config
    if re.fullmatch("[0-9a-f]{32}", start):
        folder = str(download_checkpoint(start, session().data / "06_models" / "start" / start))
    else:
        folder = in_project(start)
    return replace(config, training=replace(config.training, start_from=folder))


def download_report_input(run_id: str, file: str) -> Path:
    """Return the place of an artifact that `keep_report_inputs` saved; download it if artifacts lie on a server.

    Raises:
        MentallamError: The run has no such artifact, or it can't be downloaded.
    """
    path = f"{REPORT_INPUTS}/{file}"
    address = Run(run_id).artifact_address(path)
    place = Path(address) if not urlsplit(address).scheme else _downloaded(f"{path} of run {run_id}", address, None)
    if not place.is_file():
        raise MentallamError(
            f"run {run_id} holds no {path}: finish it with `kedro run --pipeline cv_training`, or name another model"
        )
    return place


def download_artifact(run_id: str, path: str, folder: Path) -> Path:
    """Copy an artifact, a file or a folder, into a folder, and return its place.

    Raises:
        MentallamError: It can't be downloaded.
    """
    address = f"{retrying_client().get_run(run_id).info.artifact_uri}/{path}"
    return _downloaded(f"{path} of run {run_id}", address, folder)


def _downloaded(what: str, address: str, folder: Path | None) -> Path:
    try:
        return Path(download_artifacts(address, folder))
    except MlflowException as error:  # also where a server names a path outside the folder
        raise _unfetched(what, error) from None


def keep_report_inputs(run_id: str, inputs: Mapping[str, pd.DataFrame | Config | Mapping[str, Any]]) -> None:
    """Save the inputs of a report as artifacts, so that the report can be made again from the tracking store alone.

    Args:
        run_id: The cross-validation's run.
        inputs: Tables and dicts by the name of their dataset; none may hold the text of a post.
    """
    run = Run(run_id)
    for name, content in inputs.items():
        if isinstance(content, pd.DataFrame):
            run.log_table(content, f"{REPORT_INPUTS}/{name}.parquet")
        else:
            plain = to_dict(content) if isinstance(content, Config) else content
            run.log_dict(plain, f"{REPORT_INPUTS}/{name}.json")
    run.set_tags({COMPLETE_TAG: True})


def find_report_inputs(run_id: str, option: str = "cv_run_id") -> dict[str, str]:
    """Find what `keep_report_inputs` saved to a cross-validation's run.

    Args:
        run_id: The run.
        option: The option that named the run, for the message.

    Returns:
        Path of the artifact by the dataset's name.

    Raises:
        MentallamError: There is no such run, it is a fold's, or nothing was saved to it.
    """
    run = existing_run(option, run_id)
    if parent := run.data.tags.get(PARENT_RUN_TAG):
        raise MentallamError(f"{option}={run_id} is a fold's run; name its cross-validation's: {option}={parent}")
    found = retrying_client().list_artifacts(run_id, REPORT_INPUTS)
    if not found:
        raise MentallamError(
            f"{option}={run_id} (status {run.info.status}) holds nothing that a report could be made from: name a "
            f"finished cross-validation; one of an older version may lack these artifacts"
        )
    return {Path(item.path).stem: item.path for item in found}


def load_report_input(run_id: str, path: str) -> Any:
    """Return an artifact that `find_report_inputs` found: a table or a dict.

    Raises:
        MentallamError: It can't be downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = download_artifact(run_id, path, Path(folder))
        if file.suffix == ".parquet":
            return pd.read_parquet(file)
        content = read_json(file)
        return from_dict(content) if file.stem == "training_config" else content


def _unfetched(what: str, error: MlflowException) -> MentallamError:
    reason = str(error).strip().partition("\n")[0]
    return MentallamError(f"{what} can't be fetched from the tracking store ({reason}); check the store, or name a run")


def existing_run(option: str, run_id: str) -> MlflowRun:
    """Return the run with that id.

    Raises:
        MentallamError: There is none; the message names the option that named the run.
    """
    check_name(str(run_id), option)  # it may name a folder
    try:
        return retrying_client().get_run(run_id)
    except MlflowException:
        way_out = (
            "open a new one with `kedro run --pipeline cv_training`"
            if option.endswith(".json")  # a record in the data folder, not what a user has given
            else "its runs are listed by `kedro mlflow ui`"
        )
        raise MentallamError(f"{option}={run_id} is no run in this tracking database; {way_out}") from None


def writable_run(option: str, run_id: str) -> MlflowRun:
    """Return the run with that id, if it can be written to.

    Raises:
        MentallamError: There is none, or it is deleted; the message names the source of the id.
    """
    run = existing_run(option, run_id)
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise MentallamError(
            f"{option}={run_id} is deleted: restore it with `mlflow runs restore --run-id {run_id}`, or train again"
        )
    return run


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
