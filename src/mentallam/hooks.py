"""What happens around a run: wrong parameters and stale results are refused, errors become one sentence."""

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mentallam import interruption, project, retries, run_checks
from mentallam.cluster_options import PARAMETERS
from mentallam.config_loading import DEFAULT_FOLDS, cv_folds
from mentallam.configuration_files import environment_folders, interpolated_names
from mentallam.console import LOG_FILE, LogFile, Phases
from mentallam.data_lock import DataLock
from mentallam.errors import MentallamError, RejectedRowsError, causes
from mentallam.one_training import refuse_runner, trains_fold
from mentallam.result_files import ResultFiles
from mentallam.runner.slurm_jobs import end_jobs
from mentallam.runner.unit import UnitRunner
from mentallam.saved_inputs import SavedInputs, folds_in, take_from_run
from mentallam.tracking_address import runs_page
from mentallam.tracking_hooks import connect
from mentallam.variables import CV_FOLDS

logger = logging.getLogger(__name__)

# Pipelines whose results no other pipeline takes: each can run beside a study.
_APART = ("inference", "latency", "monitor", "compare", "memory_plan", "learning_curve", "sweep")

_PHASES = {"cv_training": "cross-validation"}


class ProjectHooks:
    """The hooks of this project, in the order in which Kedro calls them."""

    _interpolated: frozenset[str] = frozenset()  # runtime parameters that the configuration files read
    _lock = DataLock(Path())  # the locks of the session
    _read = ""  # the dataset that the run last loaded, until it saves one
    _log = LogFile()
    _phases = Phases({})

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse an unknown environment, name or value before anything is connected to.

        Raises:
            MentallamError: The message names what was given, and what is allowed.
        """
        project.enter(context)
        self._context, loader = context, context.config_loader
        assert isinstance(loader, OmegaConfigLoader)
        env = context.env or loader.default_run_env
        folders = environment_folders(Path(loader.conf_source), loader.base_env, env, named=bool(context.env))
        run_checks.check_variables(os.environ, folders)
        self._interpolated = frozenset(interpolated_names(folders))
        command = click.get_current_context(silent=True)
        run_checks.check_selection(command.params if command else {}, pipelines)
        types = run_checks.parameter_types(pipelines) | PARAMETERS
        if folders:  # the names that an archive or a remote folder interpolates are not known
            run_checks.check_names(loader.runtime_params, types, self._interpolated, folders[0].parent)
        try:
            parameters = loader["parameters"]
        except (MissingConfigException, OmegaConfBaseException, YAMLError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MentallamError(f"the parameters can't be read: {reason}") from None
        _refuse_wrong_places(loader)
        run_checks.check_unread_keys(parameters, types)
        run_checks.check_values(parameters, types)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse a run if an input is missing or no longer fits, or if a given parameter would change nothing.

        With `cv_run_id` the inputs come from the artifacts of that run, and the data folder plays no part.

        Raises:
            MentallamError: The message names the input, the parameter or what has changed, and the way out.
        """
        refuse_runner(run_params, pipeline.all_outputs())
        self._lock_data(pipeline)
        try:
            self._check_inputs(run_params, pipeline, catalog)
        except BaseException:
            self._lock.release()
            raise
        interruption.watch()
        self._log.open(project.data_folder(self._context))
        self._phases = Phases({})
        if _is_unit(run_params):
            return  # the run that it belongs to says the rest
        if cv_folds() != DEFAULT_FOLDS and folds_in(pipeline.all_outputs()):  # a variable outlives the run it was for
            logger.info("%s is set: %d folds in place of %d", CV_FOLDS, cv_folds(), DEFAULT_FOLDS)
        self._phases = Phases({node.name: _phase(node) for node in pipeline.nodes})

    def _lock_data(self, pipeline: Pipeline) -> None:
        """Lock what the pipeline makes; folds without the nodes around them share the study with other folds."""
        self._lock.release()  # of a session that was stopped in this process
        data = project.data_folder(self._context)
        self._lock = DataLock(data)
        makes = pipeline.all_outputs()
        if apart := next((name for name in _APART if makes & pipelines[name].all_outputs()), None):
            self._lock.take(apart)
            return
        folds_alone = all(trains_fold(node.outputs) for node in pipeline.nodes)
        folds = folds_in(makes if folds_alone else pipelines["cv_training"].all_outputs())
        trains = any(trains_fold(node.outputs) for node in pipeline.nodes)
        self._lock.take("study", sorted(folds), folds_alone, lambda: end_jobs(data) if trains else None)

    def _check_inputs(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        given = run_params["runtime_params"] or {}
        saved = SavedInputs(pipeline, ResultFiles(catalog, pipelines, _env_option(run_params)))
        if cv_run_id := given.get("cv_run_id"):
            wanted = saved.report_inputs()
            run_checks.check_read(given, pipeline, pipelines, self._interpolated)
            connect(self._context)
            take_from_run(str(cv_run_id), wanted, catalog)
            return
        if given.get("partial"):
            saved.take_finished_folds()
        saved.check_existence()
        running = saved.keep_outputs() if run_params["only_missing_outputs"] else pipeline
        compared = saved.check_changes(given)
        if not _is_unit(run_params):  # the whole run has been checked
            placed = {*PARAMETERS} if any(trains_fold(node.outputs) for node in running.nodes) else set()
            run_checks.check_read(given, running, pipelines, self._interpolated | compared | placed)

    @hook_impl
    def before_node_run(self) -> None:
        """Stop between two nodes if a library has swallowed the stop."""
        interruption.stop_if_requested()

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Show a line when a phase of the run ends."""
        self._phases.finished(node.name)

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Take the policy of retries from the configuration, in whichever process it is loaded."""
        if dataset_name == "training_config":
            retries.configure(data.retries)

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Remember which file an error is about."""
        self._read = dataset_name

    @hook_impl
    def before_dataset_saved(self) -> None:
        """Forget it: datasets have their own sentence for a file that can't be written."""
        self._read = ""

    @hook_impl(trylast=True)
    def after_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Free the base model and the data folder; show what came out, or that a batch was answered in part.

        Raises:
            RejectedRowsError: Some rows of the batch could not be answered.
        """
        if "report_page" in pipeline.all_outputs():
            logger.info("%s", self._outcome(catalog, _env_option(run_params)))
        batch = "prediction_summary" in pipeline.all_outputs()
        if batch:
            logger.info("%s", _batch_outcome(catalog))
        self._leave()
        if batch:
            _tell_rejected(catalog)

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Free the base model, and replace a chain of exceptions by one sentence if the user can solve the problem.

        Raises:
            MentallamError: That sentence; `kedro run` prints it and exits with code 1.
        """
        self._leave()
        interruption.stop_if_requested()  # a library may have put an error of its own in the place of the stop
        chain = list(causes(error))
        for cause in chain:
            if isinstance(cause, MentallamError):
                raise cause from None
        files = ResultFiles(catalog, pipelines, _env_option(run_params))
        for cause in chain:
            if isinstance(cause, DatasetError) and (sentence := files.explain(cause, self._read)):
                raise sentence from None

    def _outcome(self, catalog: DataCatalog, env: str) -> str:
        from mentallam.reports.outcome import outcome_in_words

        report, card = (_shown(Path(catalog[name]._describe()["filepath"])) for name in ("report_page", "model_card"))
        log = _shown(project.data_folder(self._context) / LOG_FILE)
        summary, uncertainty = (catalog.load(name) for name in ("cv_summary", "uncertainty"))
        page = runs_page(catalog.load("cv_outcome")["experiment_id"])
        return outcome_in_words(summary, uncertainty, report, card, log, page, env, self._phases.elapsed())

    def _leave(self) -> None:
        self._log.close()
        _release_base()
        self._lock.release()
        interruption.unwatch()


def _refuse_wrong_places(loader: OmegaConfigLoader) -> None:
    """Refuse parameters that name no place for a dataset; Kedro leaves every other fault of the catalog for later."""
    with suppress(MissingConfigException):
        try:
            loader["catalog"]
        except OmegaConfBaseException as error:
            for cause in causes(error):
                if isinstance(cause, MentallamError):
                    raise cause from None


def _shown(path: Path) -> Path:
    """Return a path as the user would type it here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _phase(node: Node) -> str:
    """Return the pipeline that a node belongs to, in words."""
    names = (name for name, part in pipelines.items() if name != "__default__" and node in part.nodes)
    name: str = next(names, "run")  # a user may add a node to __default__ alone
    return _PHASES.get(name, name.replace("_", " "))


def _batch_outcome(catalog: DataCatalog) -> str:
    from mentallam.reports.outcome import batch_in_words

    files = catalog.load("batch_files")
    places = (files.place(path) if files.url else _shown(path) for path in (files.predictions, files.summary))
    return batch_in_words(catalog.load("prediction_summary"), *places)


def _tell_rejected(catalog: DataCatalog) -> None:
    counts, files = catalog.load("prediction_summary")["counts"], catalog.load("batch_files")
    if counts["rejected_rows"]:
        raise RejectedRowsError(
            f"{counts['rejected_rows']} of {counts['rows']} rows could not be answered: see "
            f"{files.place(files.rejects)}"
        )


def _is_unit(run_params: dict[str, Any]) -> bool:
    """Return whether a run is a fold that the runner of another run has placed."""
    return UnitRunner.__name__ in str(run_params["runner"])


def _env_option(run_params: dict[str, Any]) -> str:
    return "" if run_params["env"] in (None, "local", "base") else f" --env {run_params['env']}"


def _release_base() -> None:
    """Free the base model; a pipeline that used none has not imported torch, and does not now."""
    if shared_base := sys.modules.get("mentallam.classifier.shared_base"):
        shared_base.release_base()
