"""What happens around a run: errors become one sentence, missing inputs name the command that makes them."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import Pipeline
from safetensors import SafetensorError

from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import KEYS, find_changed_file, frame_hash, options
from mentallam.datasets import CorpusDataset, ReportInputDataset
from mentallam.errors import MentallamError
from mentallam.runners import refuse_threads
from mentallam.tracking import find_report_inputs


class ProjectHooks:
    """Hooks of this project."""

    _saving, _dataset = False, ""  # what the run does with a dataset at the moment, or did last, and with which

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Refuses an environment without a folder, which Kedro would read as an empty one.

        Raises:
            MentallamError: The message names the environments that exist.
        """
        conf = Path(context.project_path) / "conf"
        if context.env and not (conf / context.env).is_dir():
            known = ", ".join(sorted(folder.name for folder in conf.iterdir() if folder.is_dir()))
            raise MentallamError(f"--env {context.env}: there is no folder conf/{context.env}; there are: {known}")

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Stops at once if an input is missing that another pipeline would make, or fits the corpus no longer.

        With `cv_run_id` these inputs come from that run's artifacts instead, and nothing in the data folder is asked.

        Raises:
            MentallamError: The message names the input or what has changed, and the command that comes first.
        """
        refuse_threads(run_params, pipeline.all_outputs())
        made_here = pipelines["data_processing"].all_outputs()
        made_by_training = made_here | pipelines["cv_training"].all_outputs()
        wanted = pipeline.inputs() & made_by_training
        if cv_run_id := (run_params["runtime_params"] or {}).get("cv_run_id"):
            if not wanted or pipeline.all_outputs() & made_by_training:
                raise MentallamError("cv_run_id reports a finished run again: it goes with `--pipeline reporting`")
            _take_from_run(str(cv_run_id), wanted, catalog)
            return
        if wanted & made_here:
            wanted.add("data_manifest")
        missing = sorted(name for name in wanted if not catalog.exists(name))
        env = _env_option(run_params)
        if missing:
            maker = "data_processing" if made_here.issuperset(missing) else "cv_training"
            raise MentallamError(f"{missing[0]} does not exist yet: run `kedro run --pipeline {maker}{env}` first")
        if wanted & made_here and (change := _change_since_folds(pipeline, catalog, made_here, env)):
            raise MentallamError(
                f"{change} since the folds were made: run `kedro run --pipeline data_processing{env}` to make them anew"
            )

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


def _change_since_folds(pipeline: Pipeline, catalog: DataCatalog, made_here: set[str], env: str) -> str | None:
    """Says what no longer is as data_manifest has it, of what this run takes as it was saved."""
    manifest, corpus = _load(catalog, "data_manifest", env), catalog["corpus"]
    assert isinstance(corpus, CorpusDataset)
    if changed := find_changed_file(manifest, corpus.folder):
        return f"{changed} has changed"
    made_now = pipeline.all_outputs()
    saved = sorted(name for name in made_here - made_now if catalog.exists(name))
    for name in saved:
        if name in KEYS and frame_hash(_load(catalog, name, env), KEYS[name]) != manifest["frames"][name]:
            return f"the dataset {name} has changed"
        carries_hash = name == "data_statistics" or name.endswith("_split")
        if carries_hash and _load(catalog, name, env)["data_hash"] != manifest["data_hash"]:
            return f"other data have been prepared than those of {name}"
    folds = FoldOptions.model_validate(catalog.load("params:folds"))
    for split in (_load(catalog, name, env) for name in saved if name.endswith("_split")):
        for name, value in folds.model_dump(include={"seed", "dev_splits"}).items():
            if split[name] != value:
                return f"folds.{name} has changed from {split[name]} to {value}"
    chosen = options(CleaningOptions.model_validate(catalog.load("params:cleaning")), folds)
    for part, result in (("cleaning", "posts"), ("folds", "groups")):
        for name, value in chosen[part].items():
            if result in saved and (before := manifest["options"][part].get(name)) != value:
                return f"{part}.{name} has changed from {before} to {value}"
    return None


def _release_base() -> None:
    """Free the base model; a pipeline that used none has not imported torch, and does not now."""
    if shared_base := sys.modules.get("mentallam.classifier.shared_base"):
        shared_base.release_base()
