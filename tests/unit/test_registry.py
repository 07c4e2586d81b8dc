import re
import shutil
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from mentallam.errors import MentallamError
from mentallam.registry import Candidate, RegistryOptions, champion_checkpoints, find_champion, find_checkpoints, offer
from mentallam.reported_runs import find_candidates
from mentallam.tracking import (
    BEST_RUN_TAG,
    CHECKPOINT,
    Run,
    keep_report_inputs,
    open_cv_run,
    open_fold_run,
    open_refit_run,
)
from mentallam.tracking_client import TOKEN_TAG

CARD = "# Model card"
HASH = "ab" * 32


@pytest.fixture
def options(experiment: str) -> RegistryOptions:
    """Return options with a registered model that no other test uses, since all share a database."""
    return RegistryOptions(model=experiment.replace("/", "-").replace(":", "-"))


@pytest.fixture
def candidate(experiment: str) -> Callable[..., Candidate]:
    """Return a function that opens a new cross-validation."""

    def new(f1: float, data_hash: str = HASH) -> Candidate:
        run_id = open_cv_run("a study", experiment, uuid.uuid4().hex)["run_id"]
        return Candidate(run_id, data_hash, True, f1, 0.9)

    return new


def save_model(folder: Path, model_id: str) -> None:
    folder.mkdir()
    (folder / "MLmodel").write_text(f"model_id: {model_id}\n")


def never(folder: Path, model_id: str) -> None:
    raise AssertionError("a model was written that nobody wants")


def differs(low: float, high: float) -> Callable[[str], dict[str, float]]:
    """Return a comparison with a champion whose interval is known."""
    return lambda cv_run_id: {"estimate": (low + high) / 2, "low": low, "high": high}


better = differs(0.01, 0.2)


def versions(options: RegistryOptions) -> int:
    return len(MlflowClient().search_model_versions(f"name = '{options.model}'"))


def test_the_first_is_champion_and_says_what_it_is(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    first = candidate(0.4)
    sentence = offer(first, options, CARD, save_model, better)
    assert sentence == f"{options.model} version 1 is the champion now: models:/{options.model}@champion"
    champion = find_champion(options.model)
    assert champion is not None
    assert {name: value for name, value in champion.tags.items() if name != TOKEN_TAG} == {
        "cv_run_id": first.cv_run_id,
        "data_hash": HASH,
        "synthetic": "True",
        "f1": "0.4",
        "dev_f1": "0.9",
        "use": "ensemble",
    }
    assert champion.run_id == first.cv_run_id
    assert champion.description == MlflowClient().get_registered_model(options.model).description == CARD
    model = MlflowClient().get_logged_model(champion.source.removeprefix("models:/"))
    assert (model.source_run_id, model.name, model.status.name) == (first.cv_run_id, "ensemble", "READY")
    folder = mlflow.artifacts.download_artifacts(f"models:/{options.model}@champion")
    assert Path(folder, "MLmodel").read_text().startswith(f"model_id: {model.model_id}")


def test_a_run_is_registered_once(options: RegistryOptions, candidate: Callable[..., Candidate]) -> None:
    first = candidate(0.4)
    offer(first, options, CARD, save_model, better)
    assert "is the champion already" in offer(first, options, CARD, never, better)
    assert "is the champion already" in offer(
        first, options.model_copy(update={"reason": "again"}), CARD, never, better
    )
    offer(candidate(0.5), options, CARD, save_model, better)
    assert "does not lie above 0" in offer(first, options, CARD, never, differs(-0.2, 0.1))
    assert versions(options) == 2


def test_only_a_better_one_on_the_same_data_takes_over(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    offer(candidate(0.4), options, CARD, save_model, better)
    for low, high in ((-0.2, -0.1), (-0.01, 0.3), (0.0, 0.3)):  # a higher F1 alone is not enough
        sentence = offer(candidate(0.9), options, CARD, never, differs(low, high))
        estimate = (low + high) / 2
        assert (
            f"{options.model} version 1 stays champion: this run's pooled F1 minus its own is {estimate:+.3f} ("
            in sentence
        )
    assert "measured on other data" in offer(candidate(0.9, "cd" * 32), options, CARD, never, better)
    assert versions(options) == 1
    assert "version 2 is the champion now" in offer(candidate(0.41), options, CARD, save_model, better)


def test_a_reason_overrules_and_is_recorded(options: RegistryOptions, candidate: Callable[..., Candidate]) -> None:
    first = candidate(0.8)
    offer(first, options, CARD, save_model, better)
    other = candidate(0.2, "cd" * 32)
    offer(other, options.model_copy(update={"reason": "newer corpus"}), CARD, save_model, better)
    champion = find_champion(options.model)
    assert champion is not None
    assert (champion.tags["cv_run_id"], champion.tags["reason"]) == (other.cv_run_id, "newer corpus")
    offer(first, options.model_copy(update={"reason": "back to the first"}), CARD, never, better)
    champion = find_champion(options.model)
    assert champion is not None
    assert (str(champion.version), champion.tags["reason"]) == ("1", "back to the first")
    assert versions(options) == 2


def test_the_ensemble_of_a_run_is_another_model_than_its_best_fold(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    first = candidate(0.4)
    options = options.model_copy(update={"use": "best_fold"})
    offer(first, options, CARD, save_model, better)
    ensemble = options.model_copy(update={"use": "ensemble"})
    assert "it is the same cross-validation, served as best_fold" in offer(first, ensemble, CARD, never, better)
    assert "version 2" in offer(first, ensemble.model_copy(update={"reason": "steadier"}), CARD, save_model, better)


def test_a_long_card_is_shortened_to_what_the_database_takes(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    offer(candidate(0.4), options, "| a row |\n" * 900, save_model, better)
    champion = find_champion(options.model)
    assert champion is not None
    assert 4900 < len(champion.description) <= 5000
    assert champion.description.endswith(
        "| a row |\n\n(shortened; the whole card is the run's artifact reporting/model_card.md)\n"
    )


def test_a_model_that_cannot_be_written_leaves_the_registry_as_it_was(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    first = candidate(0.4)
    with pytest.raises(AssertionError):
        offer(first, options, CARD, never, better)
    assert find_champion(options.model) is None
    with pytest.raises(MlflowException):
        MlflowClient().get_registered_model(options.model)
    assert "version 1 is the champion now" in offer(first, options, CARD, save_model, better)


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "call", ["log_model_artifacts", "finalize_logged_model", "create_model_version", "set_registered_model_alias"]
)
def test_a_registration_that_was_interrupted_leaves_no_second_model(
    options: RegistryOptions, candidate: Callable[..., Candidate], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise _Killed

    first = candidate(0.4)
    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(MlflowClient, call, die)
        offer(first, options, CARD, save_model, better)
    assert "version 1 is the champion now" in offer(first, options, CARD, save_model, better)
    experiment_id = MlflowClient().get_run(first.cv_run_id).info.experiment_id
    (model,) = MlflowClient().search_logged_models([experiment_id], f"source_run_id = '{first.cv_run_id}'")
    assert model.status.name == "READY"
    assert versions(options) == 1


def save_pyfunc(folder: Path, model_id: str, folds: tuple[int, ...] = (2,)) -> None:
    """Write what MLflow writes for a model with the checkpoints of these folds."""
    for fold in folds:
        (folder / "artifacts" / f"fold_{fold}").mkdir(parents=True)
        (folder / "artifacts" / f"fold_{fold}" / "mentallam.json").write_text("{}")
    artifacts = {f"fold_{fold}": {"path": f"artifacts/fold_{fold}", "uri": "/where/it/was"} for fold in folds}
    Model(model_id=model_id, flavors={"python_function": {"artifacts": artifacts}}).save(folder / "MLmodel")


def test_the_champions_checkpoint_is_the_registered_models_own(
    options: RegistryOptions, candidate: Callable[..., Candidate], experiment: str, tmp_path: Path
) -> None:
    with pytest.raises(MentallamError, match="there is no champion yet of the registered model .*--pipeline reporting"):
        champion_checkpoints(options.model)
    first = candidate(0.4)
    offer(first, options, CARD, save_pyfunc, better)
    MlflowClient().delete_run(first.cv_run_id)
    (checkpoint,) = find_checkpoints(experiment, "champion", options)
    assert (checkpoint.name, (checkpoint / "mentallam.json").is_file()) == ("fold_2", True)

    shutil.rmtree(tmp_path / "mlruns")
    with pytest.raises(MentallamError, match=r"version 1, the champion, are gone or damaged: .*registry\.reason"):
        champion_checkpoints(options.model)


def test_an_ensemble_has_a_checkpoint_per_fold(options: RegistryOptions, candidate: Callable[..., Candidate]) -> None:
    save = partial(save_pyfunc, folds=(2, 0, 1))
    offer(candidate(0.4), options.model_copy(update={"use": "ensemble"}), CARD, save, better)
    assert [folder.name for folder in champion_checkpoints(options.model)] == ["fold_0", "fold_1", "fold_2"]


def test_a_name_with_an_apostrophe_is_a_name(options: RegistryOptions, candidate: Callable[..., Candidate]) -> None:
    quoted = RegistryOptions(model=f"o'neill {options.model}")
    first = candidate(0.4)
    assert "version 1 is the champion now" in offer(first, quoted, CARD, save_model, better)
    assert "is the champion already" in offer(first, quoted, CARD, never, better)


@pytest.mark.parametrize("name", ["a/b", "b:c", 'a "b"', "", "..", "../a", "a\\b", "a\0b", ".a", "a" * 256])
def test_a_name_that_mlflow_refuses_or_that_leaves_its_folder_is_refused_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=r"a registered model has a name without|can't be part of a path"):
        RegistryOptions(model=name)


@pytest.mark.parametrize("path", ["../fold_2", "/etc", "artifacts/../../fold_2"])
def test_a_model_that_names_a_checkpoint_outside_itself_is_refused(
    options: RegistryOptions, candidate: Callable[..., Candidate], path: str
) -> None:
    def save(folder: Path, model_id: str) -> None:
        folder.mkdir()
        flavors = {"python_function": {"artifacts": {"fold_2": {"path": path, "uri": "/where/it/was"}}}}
        Model(model_id=model_id, flavors=flavors).save(folder / "MLmodel")

    offer(candidate(0.4), options, CARD, save, better)
    with pytest.raises(MentallamError, match="the path of a checkpoint in MLmodel=.* can't be part of a path"):
        champion_checkpoints(options.model)


def test_a_champion_whose_predictions_are_gone_stays(
    options: RegistryOptions, candidate: Callable[..., Candidate]
) -> None:
    def gone(cv_run_id: str) -> dict[str, float]:
        raise MentallamError(f"{cv_run_id} is no run")

    first = candidate(0.4)
    offer(first, options, CARD, save_model, better)
    sentence = offer(candidate(0.9), options, CARD, never, gone)
    assert f"can't be compared with this run's ({first.cv_run_id} is no run); registry.reason" in sentence


def study(experiment: str, folds: int = 2) -> tuple[str, list[str]]:
    """Log a finished cross-validation whose second fold is the best; return its run and those of its folds."""
    cv_run = open_cv_run("a study", experiment, uuid.uuid4().hex)
    runs = [open_fold_run(cv_run, fold, uuid.uuid4().hex)["run_id"] for fold in range(folds)]
    for run_id in runs:
        MlflowClient().log_text(run_id, "{}", f"{CHECKPOINT}/mentallam.json")
        Run(run_id).finish()
    parent = Run(cv_run["run_id"])
    parent.link_folds(cv_run["experiment_id"], dict(enumerate(runs)))
    parent.set_tags({BEST_RUN_TAG: runs[1]})
    keep_report_inputs(cv_run["run_id"], {"ensemble": {"slope": 2.0, "intercept": 0.5}})
    return cv_run["run_id"], runs


def test_what_is_served_is_what_the_option_names(options: RegistryOptions, experiment: str) -> None:
    cv_run_id, runs = study(experiment)

    def found(model: str, use: str = "ensemble") -> list[str]:
        chosen = options.model_copy(update={"use": use})
        return [
            path.name if path.is_file() else path.parent.parent.name
            for path in find_checkpoints(experiment, model, chosen)
        ]

    all_folds = ["ensemble.json", *runs]
    for model in ("latest", "ensemble", cv_run_id):
        assert found(model) == all_folds
    assert found("latest", "none") == all_folds == found("ensemble", "best_fold")
    for model, use in (("latest", "best_fold"), ("best_fold", "ensemble"), (cv_run_id, "best_fold")):
        assert found(model, use) == [runs[1]]
    assert found(runs[0]) == [runs[0]]

    with pytest.raises(MentallamError, match=r"no model was trained on all posts .* `kedro run --pipeline refit`"):
        found("refit")
    cv_run = {"run_id": cv_run_id, "experiment_id": MlflowClient().get_run(cv_run_id).info.experiment_id}
    refit = open_refit_run(cv_run, uuid.uuid4().hex)
    with pytest.raises(MentallamError, match="no model was trained on all posts"):  # it has not finished
        found("latest", "refit")
    MlflowClient().log_text(refit, "{}", f"{CHECKPOINT}/mentallam.json")
    Run(refit).finish()
    assert found("refit") == found("latest", "refit") == found(cv_run_id, "refit") == [refit]


def test_the_candidates_are_the_finished_cross_validations_of_the_same_data(experiment: str) -> None:
    (first, folds), (second, _), (third, _) = study(experiment), study(experiment), study(experiment)
    for run_id, data_hash in ((first, HASH), (second, HASH), (third, "cd" * 32), (folds[0], HASH)):
        Run(run_id).set_tags({"mentallam.data_hash": data_hash})
    unfinished = open_cv_run("a study", experiment, uuid.uuid4().hex)
    Run(unfinished["run_id"]).set_tags({"mentallam.data_hash": HASH})
    summary = {"cv_run_id": first, "data_hash": HASH, "pooled": {"f1": 0.5}, "search_optimism": None}
    outcome = {"experiment_id": unfinished["experiment_id"]}
    found = find_candidates(summary, outcome)
    assert (found["n"], found["f1"]) == (2, {first: 0.5})
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", found["this"].pop("begun"))
    assert found["this"] == {"commit": None, "dirty": False, "confirms": None}
    assert (found["confirms"], found["flat"]) == (None, None)
    Run(first).set_tags({"mentallam.code.commit": "feed", "mentallam.code.dirty": True})
    Run(second).log_metrics({"pooled_f1": 0.25})
    found = find_candidates(summary, outcome)
    assert (found["n"], found["f1"]) == (2, {first: 0.5, second: 0.25})
    assert (found["this"]["commit"], found["this"]["dirty"]) == ("feed", True)


def test_a_misspelt_option_is_refused() -> None:
    with pytest.raises(ValueError, match="best_fold"):
        RegistryOptions(model="m", use="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Extra inputs"):
        RegistryOptions.model_validate({"model": "m", "reasons": "x"})
