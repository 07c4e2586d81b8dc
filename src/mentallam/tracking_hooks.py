"""What a session does with the tracking store: connect if a node needs it, and leave no run in a false state.

kedro-mlflow's hook logs the command and the nodes' parameters to the run of a cross-validation. Without this module it
would connect to the store in every session and open a run for every pipeline.
"""

import atexit
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import mlflow
from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Node, Pipeline
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from mentallam import interruption, run_status, tracking, tracking_address, tracking_store
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


# Keys under `tracking` in mlflow.yml that would write to an old run, or to none.
_REFUSED = ("disable_tracking", "run")


class TrackingHooks(MlflowHook):  # type: ignore[misc]  # kedro-mlflow is untyped
    """kedro-mlflow's hook, used for the run of a cross-validation once it is open; it leaves no active run behind."""

    run_id: str | None
    _logger = logging.getLogger("kedro.mlflow")  # for the log file, like Kedro's lines
    _experiment: str | None = None  # the experiment whose runs this session may work on
    _run_params: dict[str, Any]
    _pipeline: Pipeline
    _cv_run_id: str | None = None  # the cross-validation that this session has opened
    _earlier_cv_run_id: str | None = None  # the one that the data folder had, if this session has the study alone

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read mlflow.yml and tell MLflow where the store is, without connecting to it.

        Raises:
            MentallamError: mlflow.yml has an unknown key, or one that would write to an old run; or another program has
                the port of `kedro mlflow ui`.
        """
        self._context = context
        self.mlflow_config = _config(context)
        context.mlflow = self.mlflow_config  # type: ignore[attr-defined]  # `kedro mlflow ui` reads it
        self._already_active_mlflow = False
        self._end("KILLED")  # a session that was stopped in this process
        tracking_store.announce(self.mlflow_config.server.mlflow_tracking_uri)
        if (command := click.get_current_context(silent=True)) and command.command_path.endswith("mlflow ui"):
            if not self.mlflow_config.server.mlflow_tracking_uri.startswith("http"):  # else a browser opens the server
                page = self.mlflow_config.ui
                _refuse_used_port(command.params["host"] or page.host, command.params["port"] or page.port)
            connect(context)
            self._settle_others()

    @hook_impl(trylast=True)  # other hooks may still refuse the pipeline; then nothing is touched
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Connect to the store if a node needs it, and settle the runs that killed processes left as running.

        Raises:
            MentallamError: The store can't be used, or a run that the pipeline would write to is deleted or gone.
        """
        if not pipeline.only_nodes_with_tags(tracking.NEEDS_TRACKING).nodes:
            return
        connect(self._context)
        if os.environ.pop("MLFLOW_RUN_ID", None):
            logger.warning("MLFLOW_RUN_ID is ignored: folds find their cross-validation in cv_run.json")
        cv_run_id = _saved_id(catalog, "cv_run", "run_id")
        alone = "cv_run" in pipeline.all_outputs()  # then this process holds the lock of the whole study
        self._earlier_cv_run_id = cv_run_id if alone else None
        self._settle_others(self._earlier_cv_run_id)
        if "cv_run" in pipeline.inputs() and cv_run_id:
            tracking.writable_run("cv_run.json", cv_run_id)
            if not tracking.is_complete(cv_run_id):
                run_status.work_on(cv_run_id)
        from_run = (run_params["runtime_params"] or {}).get("cv_run_id")
        if "cv_outcome" in pipeline.inputs() and not from_run and (of := _saved_id(catalog, "cv_outcome", "cv_run_id")):
            tracking.writable_run("cv_outcome.json", of)
        self._experiment = self.mlflow_config.tracking.experiment._experiment.experiment_id
        self._run_params, self._pipeline = run_params, pipeline
        atexit.register(self._end, "KILLED")

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any], is_async: bool) -> None:
        """Log the node's parameters to the cross-validation's run once it is open."""
        if self.run_id:
            super().before_node_run(node, catalog, inputs, is_async)

    @hook_impl
    def after_node_run(self, node: Node, catalog: DataCatalog, outputs: dict[str, Any], is_async: bool) -> None:
        """Hand the cross-validation's run to kedro-mlflow once it is open, unless it is finished.

        The parameters of all nodes are logged at once: a run that is killed in reporting is finished already.
        """
        opened = outputs.get("cv_run")
        self._cv_run_id = opened["run_id"] if opened else self._cv_run_id
        if opened and self._earlier_cv_run_id not in (None, opened["run_id"]):
            with suppress(MlflowException, MentallamError):  # it may be gone
                run_status.give_up(str(self._earlier_cv_run_id))
        if not (opened and self._experiment) or tracking.is_complete(opened["run_id"]):
            return
        run = self.mlflow_config.tracking.run
        run.id, run.name = opened["run_id"], tracking.existing_run("cv_run.json", opened["run_id"]).info.run_name
        super().before_pipeline_run(self._run_params, Pipeline([node]), catalog)
        given = {name: catalog.load(name) for name in self._pipeline.inputs() if name.startswith("params:")}
        super().before_node_run(node, catalog, given, is_async)

    def _log_param(self, name: str, value: Any) -> None:
        """Log a parameter, unless the run has it: what may change in a run that goes on decides no result."""
        with suppress(MlflowException):
            super()._log_param(name, value)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Leave the cross-validation's run to others that continue it, unless it is finished."""
        self._end(run_status.WAITING)

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self, error: Exception) -> None:
        """Mark the runs that this session worked on as failed, or as killed if a signal stopped it."""
        self._end("KILLED" if interruption.has_stopped(error) else "FAILED")

    def _end(self, status: str) -> None:
        """Settle the session's runs, and end the one that kedro-mlflow made active.

        kedro-mlflow makes it active once per node, and never forgets its id.
        """
        experiment, self._experiment = self._experiment, None
        with suppress(MlflowException, MentallamError):  # a notebook may have switched to another store
            while self.run_id and mlflow.active_run():
                mlflow.end_run("RUNNING")
                run_status.work_on(str(self.run_id))  # a fold's process, which had it last, may live on elsewhere
            if experiment:
                if self._cv_run_id and status != run_status.WAITING:
                    run_status.take_back(self._cv_run_id)
                run_status.settle(experiment, status)
        self._cv_run_id, self.run_id, self._is_mlflow_enabled = None, None, False

    def _settle_others(self, cv_run_id: str | None = None) -> None:
        experiment = self.mlflow_config.tracking.experiment._experiment.experiment_id
        if left := run_status.settle(experiment, run_status.WAITING, cv_run_id):
            logger.info("marked as killed, since the process that worked on them is gone: %s", ", ".join(left))


def connect(context: KedroContext) -> None:
    """Connect to the tracking store: check that it answers, follow a moved project, set up the experiment.

    Args:
        context: The context of a session with `TrackingHooks`.

    Raises:
        MentallamError: The store can't be used.
    """
    config: KedroMlflowConfig = context.mlflow  # type: ignore[attr-defined]
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it sets itself to INFO when it is imported
    uri = config.server.mlflow_tracking_uri
    tracking_store.check_store(uri)
    tracking_store.follow_move(uri, Path(context.project_path))
    try:
        config.setup(context)
    except MlflowException as error:
        first_line = str(error).partition("\n")[0]
        raise MentallamError(
            f"the MLflow experiment {config.tracking.experiment.name!r} can't be set up ({first_line}): check the "
            f"rights of the tracking store, or name another in MLFLOW_TRACKING_URI"
        ) from None


def _config(context: KedroContext) -> KedroMlflowConfig:
    try:
        content = context.config_loader["mlflow"]
    except MissingConfigException:
        raise MentallamError("the configuration has no mlflow.yml: copy the one in the project's conf/base") from None
    if refused := [f"tracking.{key}" for key in content.get("tracking") or {} if key in _REFUSED]:
        raise MentallamError(
            f"mlflow.yml: {refused[0]} is refused, since every cross-validation opens a new run: remove the key"
        )
    try:
        config = KedroMlflowConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MentallamError(f"mlflow.yml: {where}: {first['msg']}") from None
    if not config.server.mlflow_tracking_uri:
        config.server.mlflow_tracking_uri = tracking_address.tracking_uri(Path(context.project_path))
    return config


def _refuse_used_port(host: str, port: int | str) -> None:
    """Refuse an address that `mlflow ui` can't listen at: kedro-mlflow drops its exit code."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as uvicorn does: a port just left is free
        try:
            listener.bind((host, int(port)))
        except (OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no port"
            raise MentallamError(
                f"`kedro mlflow ui` can't listen at {host}:{port} ({reason}): give a free address, as in --port 5050"
            ) from None


def _saved_id(catalog: DataCatalog, name: str, key: str) -> str | None:
    """Return the run's id in a saved result; None if there is none, or it can't be read, which other hooks report."""
    try:
        content = catalog.load(name) if catalog.exists(name) else None
    except DatasetError:
        return None
    return content.get(key) if isinstance(content, dict) else None
