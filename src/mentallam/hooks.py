"""What happens around a run: errors become one sentence, missing inputs name the command that makes them."""

import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError
from yaml import YAMLError

from mentallam import project, run_checks
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import CorpusLabel, find_changed_file
from mentallam.datasets import CheckpointDataset, CorpusDataset, ReportInputDataset
from mentallam.errors import MentallamError
from mentallam.runners import refuse_threads
from mentallam.saved_results import change_of_config, change_of_data, change_of_fold
from mentallam.tracking import find_report_inputs
from mentallam.tracking_hooks import connect

# Read by the settings; those that configuration files read are found there.
_VARIABLES = ("MENTALLAM_CV_FOLDS",)
_CONFIG = "training_config"


class ProjectHooks:
    """Hooks of this project."""

    _interpolated: frozenset[str] = frozenset()  # runtime parameters that the configuration files read
    _saving, _dataset = False, ""  # what the run does with a dataset at the moment, or did last, and with which

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse what no run can use: an unknown environment, name or value, before anything is connected to.

        Raises:
            MentallamError: The message names what was given, and what is allowed.
        """
        project.enter(context)
        self._context = context
        folders = _environment_folders(context)
        run_checks.check_variables(os.environ, _VARIABLES, folders)
        self._interpolated = frozenset(run_checks.interpolated_names(folders))
        _check_selection()
        types = run_checks.parameter_types(pipelines)
        if folders:  # the names that an archive or a remote folder interpolates are not known
            given, conf = context.config_loader.runtime_params, folders[0].parent
            run_checks.check_names(given, types, self._interpolated, conf)
        try:
            parameters = context.config_loader["parameters"]
        except (MissingConfigException, OmegaConfBaseException, YAMLError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MentallamError(f"the parameters can't be read: {reason}") from None
        run_checks.check_unread_keys(parameters, types)
        run_checks.check_values(parameters, types)

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Stop at once if an input is missing or no longer fits, or if a given parameter would change nothing.

        With `cv_run_id` the inputs come from that run's artifacts instead, and nothing in the data folder is asked.

        Raises:
            MentallamError: The message names the input, the parameter or what has changed, and the way out.
        """
        refuse_threads(run_params, pipeline.all_outputs())
        given = run_params["runtime_params"] or {}
        made_here = pipelines["data_processing"].all_outputs()
        made_by_training = made_here | pipelines["cv_training"].all_outputs()
        wanted = pipeline.inputs() & made_by_training
        if cv_run_id := given.get("cv_run_id"):
            if not wanted or pipeline.all_outputs() & made_by_training:
                raise MentallamError("cv_run_id reports a finished run again: it goes with `--pipeline reporting`")
            run_checks.check_read(given, pipeline, pipelines, self._interpolated)
            connect(self._context)
            _take_from_run(str(cv_run_id), wanted, catalog)
            return
        if wanted & made_here:
            wanted.add("data_manifest")
        missing = sorted(name for name in wanted if not catalog.exists(name))
        env = _env_option(run_params)
        if missing:
            maker = "data_processing" if made_here.issuperset(missing) else "cv_training"
            raise MentallamError(f"{missing[0]} does not exist yet: run `kedro run --pipeline {maker}{env}` first")
        running, made_now = pipeline, pipeline.all_outputs()
        if run_params["only_missing_outputs"]:
            kept = {name for name in made_now if catalog.exists(name)}
            _check_records(kept, made_here, made_by_training, catalog, env)
            wanted, made_now = wanted | kept, set()
            running = Pipeline([node for node in pipeline.nodes if not node.outputs or {*node.outputs} - kept])
        compared: set[str] = set()
        if wanted & made_here:
            named = "corpus_label" in given
            label = CorpusLabel.model_validate(catalog.load("params:corpus_label")) if named else None
            if change := _change_since_folds(made_now, catalog, made_here, env, label):
                raise MentallamError(
                    f"{change} since the folds were made: run `kedro run --pipeline data_processing{env}` to make them "
                    f"anew"
                )
            compared |= {"cleaning", "folds", "corpus_label"}
        if wanted - made_here and catalog.exists(_CONFIG):  # trained results have it in them
            compared |= _check_config(given, bool(pipeline.all_outputs() & made_by_training), catalog, env)
        _check_folds(wanted - made_here, catalog, env)
        run_checks.check_read(given, running, pipelines, self._interpolated | compared)

    @hook_impl
    def before_dataset_loaded(self, dataset_name: str) -> None:
        """Remembers which file an error is about."""
        self._saving, self._dataset = False, dataset_name

    @hook_impl
    def before_dataset_saved(self, dataset_name: str) -> None:
        """Remembers which file an error is about."""
        self._saving, self._dataset = True, dataset_name

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Free the base model."""
        _release_base()

    @hook_impl(trylast=True)
    def on_pipeline_error(self, error: Exception, run_params: dict[str, Any], catalog: DataCatalog) -> None:
        """Replaces a chain of exceptions by the sentence at its root, if the user can put it right.

        Raises:
            MentallamError: That sentence; `kedro run` prints it and exits with code 1.
        """
        _release_base()
        chain = list(_chain(error))
        for cause in chain:
            if isinstance(cause, MentallamError):
                raise cause from None
        for cause in chain:
            if isinstance(cause, DatasetError) and (
                sentence := _about_file(cause, self._saving, self._dataset, catalog, _env_option(run_params))
            ):
                raise sentence from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _env_option(run_params: dict[str, Any]) -> str:
    return "" if run_params["env"] in (None, "local", "base") else f" --env {run_params['env']}"


def _about_file(error: DatasetError, saving: bool, name: str, catalog: DataCatalog, env: str) -> MentallamError | None:
    """The sentence for a result that can't be written or read again; None if the error is about something else."""
    makers = (known for known, pipeline in pipelines.items() if name in pipeline.all_outputs())
    maker = next((known for known in makers if known != "__default__"), None)
    path = catalog[name]._describe().get("filepath") if maker else None
    *_, root = _chain(error)
    if path is None or isinstance(root, ImportError | MemoryError):
        return None
    if saving and not isinstance(root, OSError | SafetensorError):
        return None
    reason = str(root).partition("\n")[0]
    if saving:
        return MentallamError(f"{path} can't be written ({reason}): check space and rights, then run this again")
    return MentallamError(
        f"{path} can't be read ({reason}): remove it and run `kedro run --pipeline {maker}{env}` to have it made anew"
    )


def _load(catalog: DataCatalog, name: str, env: str) -> Any:
    try:
        return catalog.load(name)
    except DatasetError as error:
        if sentence := _about_file(error, False, name, catalog, env):
            raise sentence from None
        raise


def _take_from_run(run_id: str, wanted: set[str], catalog: DataCatalog) -> None:
    """Has the catalog read what it shall from a run's artifacts."""
    kept = find_report_inputs(run_id)
    folds_kept, folds_wanted = _folds(kept), _folds(wanted)
    if folds_wanted and folds_kept != folds_wanted:
        raise MentallamError(
            f"cv_run_id={run_id} has {len(folds_kept)} folds, and this project is set to {len(folds_wanted)}: set "
            f"MENTALLAM_CV_FOLDS={len(folds_kept)} in the environment"
        )
    if missing := sorted(wanted - kept.keys()):
        raise MentallamError(
            f"cv_run_id={run_id} holds no {missing[0]}: it was made by an older version; report it with that one"
        )
    for name in wanted:
        catalog[name] = ReportInputDataset(run_id=run_id, path=kept[name])


def _folds(names: Iterable[str]) -> set[str]:
    return {found[1] for name in names if (found := re.match(r"fold_(\d+)_", name))}


def _environment_folders(context: KedroContext) -> list[Path]:
    """Return the folders of the configuration that the run reads; none where it is an archive or remote."""
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)
    conf = Path(loader.conf_source)
    if not conf.is_dir():
        return []
    if context.env and not (conf / context.env).is_dir():
        known = ", ".join(sorted(folder.name for folder in conf.iterdir() if folder.is_dir()))
        raise MentallamError(
            f"--env {context.env}: there is no folder {context.env} in {conf.name}; there are: {known}"
        )
    names = (loader.base_env, context.env or loader.default_run_env)
    return [conf / name for name in dict.fromkeys(names) if (conf / name).is_dir()]


def _check_selection() -> None:
    """Refuse a pipeline, node, namespace or dataset on the command line that does not exist."""
    command = click.get_current_context(silent=True)
    options = command.params if command else {}
    names = [name for name in (options.get("pipeline"), *(options.get("pipelines") or ())) if isinstance(name, str)]
    run_checks.check_choices("--pipelines", names, pipelines)
    if "node_names" not in options:  # another command than `kedro run`
        return
    chosen = sum((pipelines[name] for name in names or ["__default__"]), Pipeline([]))
    nodes = {node.name for node in chosen.nodes}
    for option in ("node_names", "from_nodes", "to_nodes"):
        run_checks.check_choices("--nodes" if option == "node_names" else _spelt(option), options[option], nodes)
    for option in ("from_inputs", "to_outputs"):
        run_checks.check_choices(_spelt(option), options[option], chosen.datasets())
    namespaces = {node.namespace for node in chosen.nodes if node.namespace}
    run_checks.check_choices("--namespaces", options["namespaces"], namespaces)


def _spelt(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _check_records(
    kept: set[str], made_here: set[str], made_by_training: set[str], catalog: DataCatalog, env: str
) -> None:
    """Refuse to keep results if nothing says what they were made from.

    Raises:
        MentallamError: The message names the result and the way out.
    """
    if others := kept - made_by_training:
        raise MentallamError(
            f"{min(others)} exists, and nothing says whether it still fits: --only-missing-outputs resumes `kedro run "
            f"--pipeline cv_training{env}`; run what follows it whole"
        )
    for record, results in (("data_manifest", kept & made_here), (_CONFIG, kept - made_here)):
        if results and not catalog.exists(record):
            raise MentallamError(
                f"{min(results)} exists without {record}, which says how it was made: run this without "
                f"--only-missing-outputs"
            )


def _check_config(given: dict[str, Any], trains: bool, catalog: DataCatalog, env: str) -> set[str]:
    """Compare the saved configuration, which the run takes, with what the parameters say now.

    Reporting describes what was trained, so without one of these parameters on the command line it needs no
    comparison.

    Returns:
        The parameters that make the configuration.

    Raises:
        MentallamError: The message names the first key that differs.
    """
    composing = next(node for node in pipelines["cv_training"].nodes if _CONFIG in node.outputs)
    names = {name.removeprefix("params:") for name in composing.inputs}
    if trains or names & given.keys():
        now = composing.func(*map(catalog.load, composing.inputs))
        if change := change_of_config(_load(catalog, _CONFIG, env), now):
            raise MentallamError(
                f"{change} since {_CONFIG} was saved: give the same overrides as then, or run `kedro run --pipeline "
                f"cv_training{env}` with the new ones"
            )
    return names


def _change_since_folds(
    made_now: set[str], catalog: DataCatalog, made_here: set[str], env: str, label: CorpusLabel | None
) -> str | None:
    """Return the first difference between what this run takes as it was saved and data_manifest, or None."""
    manifest, corpus = _load(catalog, "data_manifest", env), catalog["corpus"]
    assert isinstance(corpus, CorpusDataset)
    if changed := find_changed_file(manifest, corpus.folder):
        return f"{changed} has changed"
    return change_of_data(
        manifest,
        {name for name in made_here - made_now if catalog.exists(name)},
        lambda name: _load(catalog, name, env),
        CleaningOptions.model_validate(catalog.load("params:cleaning")),
        FoldOptions.model_validate(catalog.load("params:folds")),
        catalog.load("params:n_folds"),
        label,
    )


def _check_folds(taken: set[str], catalog: DataCatalog, env: str) -> None:
    """Refuse results of a fold that was trained with other data, another split or another configuration.

    Raises:
        MentallamError: The message names the fold and what has changed.
    """
    for fold in sorted(_folds(taken)):
        parts = {part: f"fold_{fold}_{part}" for part in ("split", "checkpoint", "dev_predictions", "predictions")}
        there = {part: name for part, name in parts.items() if catalog.exists(name)}
        if parts["predictions"] not in taken:  # they are made again
            there.pop("predictions", None)
        if "split" not in there or not catalog.exists(_CONFIG):
            continue
        checkpoint = catalog[parts["checkpoint"]]
        assert isinstance(checkpoint, CheckpointDataset)
        posts = {
            part: {*_load(catalog, there[part], env)["post_id"]} if part in there else None
            for part in ("dev_predictions", "predictions")
        }
        change = change_of_fold(
            _load(catalog, there["split"], env),
            _load(catalog, _CONFIG, env),
            checkpoint.facts() if "checkpoint" in there else None,
            posts["dev_predictions"],
            posts["predictions"],
        )
        if change:
            raise MentallamError(
                f"{change} since fold {fold} was trained: run `kedro run --pipeline cv_training{env}` again"
            )


def _release_base() -> None:
    """Free the base model; a pipeline that used none has not imported torch, and does not now."""
    if shared_base := sys.modules.get("mentallam.classifier.shared_base"):
        shared_base.release_base()
