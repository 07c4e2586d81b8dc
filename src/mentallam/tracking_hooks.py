"""What a session does with the tracking store: connect if a node needs it, open, continue, close and mark runs.

kedro-mlflow's hook opens the run of a cross-validation and logs the nodes' parameters to it. Without this module it
would connect to the store in every session and open a run for every pipeline.
"""

import atexit
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from mentallam import tracking, tracking_store
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


# Name of the node after which a cross-validation is finished.
_CLOSES_CV_RUN = "keep_report_inputs"
# Keys under `tracking` in mlflow.yml that would write to an old run, or to none.
_REFUSED = ("disable_tracking", "run")


class TrackingHooks(MlflowHook):  # type: ignore[misc]  # kedro-mlflow is untyped
    """kedro-mlflow's hook, used only where a cross-validation's run is opened; it leaves no active run behind."""

    run_id: str | None
    _opened_before: dict[str, str] | None = None  # the cross-validation's run that was saved before this one
    _unsettled: DataCatalog | None = None  # the catalog of a pipeline that opened a run and has not ended

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read mlflow.yml and tell MLflow where the store is, without connecting to it.

        Raises:
            MentallamError: mlflow.yml has an unknown key, or one that would write to an old run.
        """
        self._context = context
        self.mlflow_config = _config(context)
        context.mlflow = self.mlflow_config  # type: ignore[attr-defined]  # `kedro mlflow ui` reads it
        self._already_active_mlflow = False
        self._leave_run("FAILED")  # the run of a session that was stopped before its first node
        tracking_store.announce(self.mlflow_config.server.mlflow_tracking_uri)

    @hook_impl(trylast=True)  # other hooks may still refuse the pipeline; then no run is opened
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Connect to the store if a node needs it, and open the run of a new cross-validation.

        Raises:
            MentallamError: The store can't be used, or a run that the pipeline would write to is finished or gone.
        """
        if not pipeline.only_nodes_with_tags(tracking.NEEDS_TRACKING).nodes:
            return
        connect(self._context)
        if os.environ.pop("MLFLOW_RUN_ID", None):
            logger.warning("MLFLOW_RUN_ID is ignored: folds find their cross-validation in cv_run.json")
        for name in sorted(pipeline.inputs()):
            if re.fullmatch(r"cv_run|fold_\d+_run", name) and (saved := _saved(catalog, name)):
                tracking.continue_run(f"{name}.json", saved["run_id"])
        from_run = (run_params["runtime_params"] or {}).get("cv_run_id")
        if "cv_outcome" in pipeline.inputs() and not from_run and (outcome := _saved(catalog, "cv_outcome")):
            tracking.writable_run("cv_outcome.json", outcome["cv_run_id"])
        if "cv_run" in pipeline.all_outputs():
            self._opened_before, self._unsettled = _saved(catalog, "cv_run"), catalog
            atexit.register(self._settle, "KILLED")
            super().before_pipeline_run(run_params, pipeline, catalog)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline) -> None:
        """Close the cross-validation's run; if it was only opened, other processes continue it."""
        self._unsettled = None
        closed = any(node.name == _CLOSES_CV_RUN for node in pipeline.nodes)
        self._leave_run("FINISHED" if closed else "RUNNING")

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Mark the cross-validation that this pipeline opened as failed."""
        self._settle("FAILED")

    def _settle(self, status: str) -> None:
        self._leave_run(status)
        catalog, self._unsettled = self._unsettled, None
        opened = _saved(catalog, "cv_run") if catalog else None
        if opened and opened != self._opened_before:
            with suppress(MlflowException):
                tracking.Run(opened["run_id"]).finish(status)

    def _leave_run(self, status: str) -> None:
        """End the run that kedro-mlflow made active.

        kedro-mlflow makes it active once per node, and never forgets its id.
        """
        while self.run_id and mlflow.active_run():
            with suppress(MlflowException):  # a notebook may have switched to another store
                mlflow.end_run(status)
        self.run_id, self._is_mlflow_enabled = None, False


def connect(context: KedroContext) -> None:
    """Connect to the tracking store: check that it answers, follow a moved project, set up the experiment.

    Args:
        context: The context of a session with `TrackingHooks`.

    Raises:
        MentallamError: The store can't be used.
    """
    config: KedroMlflowConfig = context.mlflow  # type: ignore[attr-defined]
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
        config.server.mlflow_tracking_uri = tracking_store.tracking_uri(Path(context.project_path))
    return config


def _saved(catalog: DataCatalog, name: str) -> Any:
    """Return a saved result; None if there is none, or if it can't be read, which other hooks report."""
    try:
        return catalog.load(name) if catalog.exists(name) else None
    except DatasetError:
        return None
