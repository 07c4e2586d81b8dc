"""What a session does with the tracking store: name it at once, connect only where nodes need it, mark what broke off.

This takes the place of kedro-mlflow's hook, which connects in every session and keeps one active run; its
configuration (mlflow.yml) and its command `kedro mlflow ui` are used as they are.
"""

import atexit
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from mentallam import project, tracking, tracking_store
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


class TrackingHooks:
    """Hooks of this project that concern MLflow."""

    _opened_before, _unsettled = None, None  # cross-validations' runs: the last one's, and the catalog of this one's

    # Last in settings.HOOKS and tryfirst: before the hooks that read the configuration or the tracking.
    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Read mlflow.yml and tell MLflow where the store is, without touching the store.

        Raises:
            MentallamError: mlflow.yml has an unknown key, or one that has no effect.
        """
        project.enter(context)
        self._context = context
        context.mlflow = _config(context)  # type: ignore[attr-defined]  # `kedro mlflow ui` looks here
        tracking_store.announce(context.mlflow.server.mlflow_tracking_uri)  # type: ignore[attr-defined]

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Connect to the store if a node needs it, and refuse to continue a finished cross-validation.

        Raises:
            MentallamError: The store can't be used, or a run that is to be written to is finished or gone.
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

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Leave a cross-validation that was only opened as it is: folds in other processes go on with it."""
        self._unsettled = None

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        """Mark the cross-validation that this run opened as failed."""
        self._settle("FAILED")

    def _settle(self, status: str) -> None:
        catalog, self._unsettled = self._unsettled, None
        opened = _saved(catalog, "cv_run") if catalog else None
        if opened and opened != self._opened_before:
            with suppress(MlflowException):
                tracking.Run(opened["run_id"]).finish(status)


def connect(context: KedroContext) -> None:
    """Connect to the tracking store: check that it answers, follow a moved project, set the experiment up.

    Args:
        context: Of a session with `TrackingHooks`.

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
        raise MentallamError("the configuration has no mlflow.yml: take that of the project's conf/base") from None
    idle = [f"tracking.{key}" for key in content.get("tracking") or {} if key != "experiment"]
    if idle:
        raise MentallamError(
            f"mlflow.yml: {idle[0]} has no effect, since cross-validations open their runs themselves: remove it"
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
    """Return a saved result; None if there is none, or none that can be read, of which other hooks speak."""
    try:
        return catalog.load(name) if catalog.exists(name) else None
    except DatasetError:
        return None
