"""The MLflow Model Registry: which cross-validation's model becomes champion, and where its checkpoints are."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlflow.entities.logged_model_status import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from pydantic import BaseModel, ConfigDict, field_validator
from yaml import YAMLError

from mentallam.errors import MentallamError
from mentallam.files import writing
from mentallam.model_folders import ENSEMBLE_FILE, parts_in
from mentallam.names import check_name, check_path_within
from mentallam.tracking import (
    MODEL_CARD,
    download_checkpoint,
    download_report_input,
    existing_run,
    find_cv_run,
    find_fold_run,
    find_fold_runs,
    find_refit_run,
    open_logged_model,
)
from mentallam.tracking_client import download_artifacts, retrying_client

CHAMPION, LATEST = "champion", "latest"
ENSEMBLE, BEST_FOLD, REFIT = "ensemble", "best_fold", "refit"
_MODELS = "name champion, latest, ensemble, best_fold, refit, a run's id, or such a folder"
# The longest description, in characters, that MLflow's database accepts.
_DESCRIPTION_LENGTH = 5000

Use = Literal["ensemble", "best_fold", "refit", "none"]


class RegistryOptions(BaseModel):
    """The parameters under `registry`.

    Attributes:
        model: Name of the registered model.
        use: What is served: all folds together; the one with the best dev F1; the model of the pipeline refit, which
            was trained on all posts; or none, which registers nothing.
        reason: Why a model becomes champion although it isn't better on the same data; null if it does not.
    """

    model_config = ConfigDict(extra="forbid")

    model: str
    use: Use = "ensemble"
    reason: str | None = None

    @field_validator("model")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if '"' in name:
            raise ValueError('a registered model has a name without "')
        try:
            return check_name(name, "registry.model")
        except MentallamError as error:
            raise ValueError(error.message) from None


@dataclass(frozen=True)
class Candidate:
    """A finished cross-validation whose model may become champion.

    Attributes:
        cv_run_id: Its MLflow run.
        data_hash: Hash of its data.
        synthetic: Whether the data are synthetic.
        f1: F1 pooled over all held-out pairs.
        dev_f1: F1 of the best fold on that fold's dev split; None if no fold has one.
    """

    cv_run_id: str
    data_hash: str
    synthetic: bool
    f1: float
    dev_f1: float | None


def offer(
    candidate: Candidate,
    options: RegistryOptions,
    card: str,
    save_model: Callable[[Path, str], None],
    difference_to: Callable[[str], Mapping[str, Any]],
) -> str:
    """Register a cross-validation's model and make it champion, if it beats the champion.

    It does if there is no champion yet, if its pooled F1 is above the champion's on the same data by a difference whose
    interval excludes 0, or if a reason is given. A cross-validation is registered once; a reason makes an older version
    champion again.

    Args:
        candidate: The cross-validation.
        options: The registry's parameters.
        card: The model card; it becomes the description.
        save_model: Writes the MLflow model to a folder, with an id; called only if the model is registered.
        difference_to: Returns estimate, low and high of the candidate's pooled F1 minus that of the cross-validation
            with a run's id; called only if both have the same data. It raises MentallamError where the two can't be
            compared.

    Returns:
        One sentence about the result, for the log.
    """
    name = options.model
    champion = find_champion(name)
    registered = _find_version(name, candidate.cv_run_id, options.use)
    if registered and champion and registered.version == champion.version:
        return f"this run's model is the champion already: {name} version {champion.version}"
    if champion and not options.reason and (objection := _objection(candidate, champion, difference_to)):
        return f"{name} version {champion.version} stays champion: {objection}; registry.reason=... overrules that"
    version = registered.version if registered else _register(candidate, options, card, save_model)
    client = retrying_client()
    if options.reason:
        client.set_model_version_tag(name, version, "reason", options.reason)
    client.set_registered_model_alias(name, CHAMPION, version)
    return f"{name} version {version} is the champion now: models:/{name}@{CHAMPION}"


def find_champion(name: str) -> ModelVersion | None:
    """Return the version of a registered model that is its champion, or None."""
    try:
        return retrying_client().get_model_version_by_alias(name, CHAMPION)
    except MlflowException:
        return None


def find_checkpoints(experiment: str, model: str, options: RegistryOptions) -> list[Path]:
    """Return the parts of a model; download those that lie on a server.

    Args:
        experiment: The MLflow experiment of the latest finished cross-validation.
        model: `champion`; `ensemble`, `best_fold` or `refit` of the latest finished cross-validation; `latest`, the one
            of these three that `registry.use` names; the folder of a checkpoint or an exported model; a fold's run; or
            the run of a cross-validation, of which `registry.use` names what is served.
        options: The registry's parameters: the registered model of `champion`, and `use`.

    Returns:
        The folders of the checkpoints that answer together. If these are all folds, the file with their calibration
        comes first.

    Raises:
        MentallamError: There is no such model, or its files are gone or damaged.
    """
    if model == CHAMPION:
        return champion_checkpoints(options.model)
    if parts := parts_in(Path(model)):
        return parts
    if Path(model).is_dir() or Path(model).name != model:
        raise MentallamError(f"model={model} is no folder of a checkpoint or of an exported model; {_MODELS}")
    configured = ENSEMBLE if options.use == "none" else options.use
    use = model if model in (ENSEMBLE, BEST_FOLD, REFIT) else configured
    run_id = None if model in (LATEST, use) else model
    if cv_run_id := find_cv_run(experiment, run_id):
        return model_parts(experiment, cv_run_id, use)
    return [download_checkpoint(find_fold_run(experiment, run_id))]


def model_parts(experiment: str, cv_run_id: str, use: str) -> list[Path]:
    """Return the parts of what a finished cross-validation serves, as `find_checkpoints` does.

    Args:
        experiment: The MLflow experiment.
        cv_run_id: The run of the cross-validation.
        use: `ensemble`, `best_fold` or `refit`.

    Raises:
        MentallamError: There is no refit of it, or files are gone.
    """
    if use == ENSEMBLE:
        calibration = download_report_input(cv_run_id, ENSEMBLE_FILE)
        return [calibration, *map(download_checkpoint, find_fold_runs(cv_run_id))]
    if use == BEST_FOLD:
        return [download_checkpoint(find_fold_run(experiment, cv_run_id))]
    if (refit := find_refit_run(cv_run_id)) is None:
        raise MentallamError(
            f"no model was trained on all posts of the cross-validation {cv_run_id}: run `kedro run --pipeline refit` "
            f"first, or name ensemble or best_fold"
        )
    return [download_checkpoint(refit)]


def champion_checkpoints(name: str) -> list[Path]:
    """Return the parts of the champion, which exist even if its runs were deleted.

    Returns:
        As `find_checkpoints` does.

    Raises:
        MentallamError: There is no champion, or its artifacts are gone or damaged.
    """
    champion = find_champion(name)
    if champion is None:
        raise MentallamError(
            f"there is no champion yet of the registered model {name!r}: run `kedro run --pipeline reporting` first, "
            f"with the same --env, or take model=latest"
        )
    try:
        folder = Path(download_artifacts(f"models:/{name}/{champion.version}"))
        listed = Model.load(folder).flavors["python_function"]["artifacts"]
        paths = [str(checkpoint["path"]) for _, checkpoint in sorted(listed.items())]
    except (MlflowException, OSError, YAMLError, KeyError, TypeError, AttributeError):
        raise MentallamError(
            f"the files of {name} version {champion.version}, the champion, are gone or damaged: register another with "
            f"`kedro run --pipeline reporting --params registry.reason=...`, or name a run"
        ) from None
    return [folder / check_path_within(path, "the path of a checkpoint in MLmodel") for path in paths]


def _objection(
    candidate: Candidate, champion: ModelVersion, difference_to: Callable[[str], Mapping[str, Any]]
) -> str | None:
    if champion.tags["data_hash"] != candidate.data_hash:
        return "it was measured on other data, so the two figures can't be compared"
    if champion.tags["cv_run_id"] == candidate.cv_run_id:
        return f"it is the same cross-validation, served as {champion.tags['use']}, and no figure compares the two"
    try:
        difference = difference_to(champion.tags["cv_run_id"])
    except MentallamError as error:
        return f"its predictions can't be compared with this run's ({error.message})"
    if difference["low"] is not None and difference["low"] > 0:
        return None
    bounds = "" if difference["low"] is None else f" ({difference['low']:+.3f} to {difference['high']:+.3f})"
    return (
        f"this run's pooled F1 minus its own is {difference['estimate']:+.3f}{bounds} on the same data, an interval "
        f"that does not lie above 0"
    )


def _find_version(name: str, cv_run_id: str, use: Use) -> ModelVersion | None:
    found = retrying_client().search_model_versions(f'name = "{name}"')
    wanted = {"cv_run_id": cv_run_id, "use": use}
    return next((version for version in found if wanted.items() <= version.tags.items()), None)


def _register(
    candidate: Candidate, options: RegistryOptions, card: str, save_model: Callable[[Path, str], None]
) -> str:
    """Log the model to the cross-validation's run, register it with the card as description, return the version."""
    client, description = retrying_client(), _shortened(card)
    run = existing_run("cv_run_id", candidate.cv_run_id)
    model = open_logged_model(run, options.use)
    with writing(f"the model of run {candidate.cv_run_id}"), tempfile.TemporaryDirectory() as folder:
        try:
            save_model(Path(folder) / "model", model.model_id)
            client.log_model_artifacts(model.model_id, str(Path(folder) / "model"))
        except BaseException:
            client.finalize_logged_model(model.model_id, LoggedModelStatus.FAILED)
            raise
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    if not client.search_registered_models(f'name = "{options.model}"'):
        client.create_registered_model(options.model)
    client.update_registered_model(options.model, description)
    tags = {**candidate.__dict__, "use": options.use}
    version = client.create_model_version(
        options.model,
        source=f"models:/{model.model_id}",
        run_id=candidate.cv_run_id,
        tags={tag: str(value) for tag, value in tags.items() if value is not None},
        description=description,
        model_id=model.model_id,
    )
    return str(version.version)


def _shortened(card: str) -> str:
    """Return the card if MLflow's database accepts its length, otherwise its beginning and where to find the rest."""
    if len(card) <= _DESCRIPTION_LENGTH:
        return card
    rest = f"\n\n(shortened; the whole card is the run's artifact {MODEL_CARD})\n"
    return card[: _DESCRIPTION_LENGTH - len(rest)].rsplit("\n", 1)[0] + rest
