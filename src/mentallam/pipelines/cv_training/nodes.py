"""Nodes of cv_training: each calls the classifier or the evaluation, and logs the result to MLflow."""

import logging
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pandas as pd
from plotly.graph_objects import Figure
from sklearn.metrics import average_precision_score
from torch import Tensor

from mentallam import provenance, retries, tracking
from mentallam.classifier import learned_baselines
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, origin_of, save_checkpoint
from mentallam.classifier.fold import CorpusTables, fit_fold, score_fold, states_of_folds
from mentallam.classifier.sources import find_source
from mentallam.classifier.training import TrainingOutcome
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, compose_config, compose_for_corpus, to_dict, with_values
from mentallam.errors import MentallamError
from mentallam.evaluation import ensemble
from mentallam.evaluation.aggregate import aggregate_folds, outcome_of_folds
from mentallam.evaluation.arrays import has_one_label
from mentallam.evaluation.baseline_scores import baseline_fold_metrics
from mentallam.evaluation.metrics import held_out_metrics, pair_metrics
from mentallam.fold_results import FoldResults, load_fold_results, save_fold_results
from mentallam.reports.figures import fold_figures
from mentallam.reports.page import render_figures_page
from mentallam.reports.rounding import figure as rounded
from mentallam.resumption import Attempt, begin, clear, fingerprint, hash_of
from mentallam.search import Search, check_confirmation, check_search
from mentallam.seeds import training_seed as derived_seed
from mentallam.sweep_space import SweepOptions, read_sweep

logger = logging.getLogger(__name__)


def check_configuration(hydra_configs: str, profile: str, overrides: str | None, nested: str | None) -> dict[str, Any]:
    """Compose the Hydra configuration once before the corpus is read, which takes longer.

    Returns:
        What is searched in each fold: `sweep`, the name of its file, and `options`; empty where every fold is trained
        with the configuration as it is.

    Raises:
        MentallamError: It is refused; no earlier configuration has been replaced then.
    """
    config = compose_config(Path(hydra_configs), profile, overrides)
    _refuse_unknown_names(config)
    if nested is None:
        return {}
    options = read_sweep(Path(hydra_configs), nested)
    check_search(options, config)
    return {"sweep": nested, "options": options.model_dump()}


def compose_training_config(
    hydra_configs: str,
    profile: str,
    overrides: str | None,
    data_manifest: dict[str, Any],
    corpus_training_from: int | None,
) -> Config:
    """Compose the Hydra configuration of this run for its corpus; folds take it, they never compose.

    Raises:
        MentallamError: It is refused; no earlier configuration has been replaced then.
    """
    n_posts = data_manifest["counts"]["posts"]
    composed = compose_for_corpus(Path(hydra_configs), profile, overrides, n_posts, corpus_training_from)
    _refuse_unknown_names(composed)
    return tracking.with_local_start(composed)


def _refuse_unknown_names(config: Config) -> None:
    find_source(config.model.source)
    learned_baselines.named_baselines(config.baselines.models)


def compute_frozen_states(
    training_config: Config,
    base_model: dict[str, str],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    *splits: dict[str, Any],
) -> dict[str, Tensor]:
    """Compute what goes into the lowest trained layer, for all folds; empty where every layer is trained."""
    return states_of_folds(training_config, base_model, posts, criteria, pairs, splits)


def fit_baselines(
    training_config: Config,
    base_model: dict[str, str],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    *splits: dict[str, Any],
) -> pd.DataFrame:
    """Return the held-out predictions of the learned baselines, all folds in one table."""
    base = BaseModel(**base_model)
    return learned_baselines.fit_baselines(training_config, base, splits, posts, criteria, pairs, groups)


def open_cv_run(
    training_config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
    frozen_states: dict[str, Tensor],
    nested_search: dict[str, Any],
    confirms: str | None,
    study: str | None,
    experiment: str,
    fresh: bool,
    attempts: Path,
    _baselines: pd.DataFrame,
    _statistics: dict[str, Any],
    *splits: dict[str, Any],
) -> dict[str, str]:
    """Open the parent run of this cross-validation and log what is known before the first fold, or go on with it.

    Args:
        training_config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        frozen_states: As `compute_frozen_states` returns them.
        nested_search: As `check_configuration` returns it.
        confirms: The run of the search whose best configuration this cross-validation trains; None for no search.
        study: The study that this cross-validation is a part of, if any.
        experiment: The MLflow experiment.
        fresh: Open a new run even if an earlier one could go on.
        attempts: The folder that records what this cross-validation was begun with.
        _baselines: Predictions of the baselines. Like the statistics they are needed after the folds, and named here so
            that `--to-nodes open_cv_run` makes them as well.
        _statistics: The statistics of the data.
        *splits: The folds.

    Raises:
        MentallamError: The search that this run confirms has found another configuration, or searched other data; or
            each fold makes a search of its own.
    """
    if confirms and nested_search:
        raise MentallamError(
            "confirms and nested exclude each other: one confirms a configuration, the other searches in each fold"
        )
    tags = {tracking.CONFIRMS_TAG: confirms, tracking.STUDY_TAG: study}
    if confirms:
        check_confirmation(confirms, training_config, data_manifest["data_hash"])
    folds = {f"fold_{split['fold']}": hash_of(split) for split in splits}
    decided_by = fingerprint(training_config, base_model, data_manifest, splits=folds, **_searched(nested_search))
    attempt = begin(attempts, decided_by, fresh)
    cv_run = tracking.open_cv_run(f"{base_model['name']} on {data_manifest['corpus']}", experiment, attempt.token)
    _announce(attempt, cv_run)
    if belongs_to := {name: value for name, value in tags.items() if value}:
        tracking.Run(cv_run["run_id"]).set_tags(belongs_to)
    if tracking.is_complete(cv_run["run_id"]):
        return cv_run
    with tracking.failing(cv_run["run_id"]) as run:
        _log_start(run, training_config, base_model, data_manifest)
        run.log_metrics({f"data_{name}": count for name, count in data_manifest["counts"].items()})
        if frozen_states:
            run.log_metrics({"frozen_states_gb": sum(state.nbytes for state in frozen_states.values()) / 1e9})
        run.log_dict(data_manifest, "data_manifest.json")
        if nested_search:
            run.set_tags({tracking.NESTED_TAG: nested_search["sweep"]})
            run.log_dict(nested_search, "nested_search.json")
    return cv_run


def _searched(nested_search: dict[str, Any]) -> dict[str, Any]:
    """Return what a nested search adds to what decides a result."""
    return {"nested": {**nested_search, "optuna": version("optuna")}} if nested_search else {}


def _announce(attempt: Attempt, cv_run: dict[str, str]) -> None:
    """Log which cross-validation this is: a new one, one that goes on, or a finished one."""
    begun = time.strftime("%Y-%m-%d %H:%M", time.localtime(attempt.begun))
    if not attempt.goes_on:
        reason = f", since {attempt.change}" if attempt.change else ""
        logger.info("a new cross-validation%s: run %s", reason, cv_run["run_id"])
    elif tracking.is_complete(cv_run["run_id"]):
        logger.info(
            "the cross-validation of %s is finished and nothing has changed: its folds are kept (run %s); "
            "--params fresh=true trains again",
            begun,
            cv_run["run_id"],
        )
    else:
        logger.info("the cross-validation of %s goes on: run %s", begun, cv_run["run_id"])


def run_fold(
    cv_run: dict[str, str],
    training_config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
    split: dict[str, Any],
    frozen_states: dict[str, Tensor],
    nested_search: dict[str, Any],
    base_models: str,
    system_metrics_interval: float,
    fresh: bool,
    attempts: Path,
    *tables: pd.DataFrame,
) -> tuple[dict[str, str], Path, pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Train one fold, score its held-out pairs, and finish its run, a child of the cross-validation's.

    A fold that is finished is kept, and one that was interrupted goes on, as long as all that decides its result is the
    same.

    Args:
        cv_run: The parent run.
        training_config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        split: The fold: its number, seed and post ids.
        frozen_states: As `compute_frozen_states` returns them.
        nested_search: As `check_configuration` returns it; unless empty, the fold is trained with what its search
            finds.
        base_models: The folder of base weights that were converted or made on this machine.
        system_metrics_interval: Seconds between two looks at the machine.
        fresh: Train anew in any case.
        attempts: The folder that records what the fold was begun with, and holds its training states.
        *tables: posts, criteria, pairs and groups, as in `CorpusTables`.

    Returns:
        The child run, the folder of the checkpoint, the dev predictions, the logged metrics, the held-out predictions
        and the fold's result.
    """
    fold = split["fold"]
    others = {"split": hash_of(split), "cv_run_id": cv_run["run_id"], **_searched(nested_search)}
    decided_by = fingerprint(training_config, base_model, data_manifest, **others)
    attempt = begin(attempts, decided_by, fresh)
    fold_run = tracking.open_fold_run(cv_run, fold, attempt.token)
    if tracking.is_complete(fold_run["run_id"]):
        if kept := load_fold_results(fold_run["run_id"], attempts):
            logger.info("fold %s is finished: its results are kept", fold)
            return fold_run, *kept.outputs()
        attempt = begin(attempts, decided_by, fresh=True)
        fold_run = tracking.open_fold_run(cv_run, fold, attempt.token)
    if not fresh:  # its results or the record of it are gone, and this run takes its place
        tracking.fail_replaced_runs(cv_run, fold, fold_run["run_id"])
    if attempt.change and not attempt.change.startswith("cv_run_id"):  # that one has been named
        logger.info("fold %s begins anew: %s", fold, attempt.change)
    corpus, base = CorpusTables(*tables), BaseModel(**base_model)
    seeds = _seeds(training_config, split)
    origin = origin_of(fold_run["run_id"], cv_run["run_id"], fold, seeds, data_manifest)
    found: dict[str, Any] | None = None
    config, states = training_config, attempts
    with tracking.failing(fold_run["run_id"]) as run:
        if nested_search:
            found = search_in_fold(nested_search, config, base, split, corpus, fold_run, attempts)
            run.log_dict(found, "search.json")
            config, states = with_values(config, found["best"]["values"]), attempts / hash_of(found["best"]["values"])
            states.mkdir(exist_ok=True)
            frozen_states = states_of_folds(config, base_model, corpus.posts, corpus.criteria, corpus.pairs, [split])
        _log_start(run, config, base_model, data_manifest)
        run.log_params({"fold": fold, **seeds, "group_by": split["group_by"]})
        run.log_dict(split, f"fold_{fold}.json")
        with tracking.system_metrics(run.run_id, system_metrics_interval):
            trained, outcome, dev = fit_fold(config, base, split, corpus, frozen_states, origin, run.log_step, states)
        checkpoint = attempts / tracking.CHECKPOINT
        save_checkpoint(trained, checkpoint)
        predictions = score_fold(load_checkpoint(checkpoint, Path(base_models)), split, corpus)
        history, result = _fold_result(run, trained, outcome, dev, predictions)
        result["search"] = found and winner_of(found)
        results = FoldResults(checkpoint, dev, history, predictions, result)
        save_fold_results(run, results)
        about = {"model": config.model.name, "adapter.r": config.adapter.r}
        run.log_model(f"fold_{fold}", about, result["metrics"])
        _log_scores(run, result, fold_figures(predictions, corpus.criteria, data_manifest["synthetic"]))
        run.set_tags({"mentallam.retries": retries.count()})
        run.finish()
    _announce_fold(result, config)
    clear(attempts)
    logged = tracking.download_checkpoint(run.run_id, attempts)
    return fold_run, *replace(results, checkpoint=logged).outputs()


def search_in_fold(
    nested_search: dict[str, Any],
    config: Config,
    base: BaseModel,
    split: dict[str, Any],
    corpus: CorpusTables,
    fold_run: dict[str, str],
    attempts: Path,
) -> dict[str, Any]:
    """Search a configuration on the training and dev posts of one fold, and return what `Search.find` does."""
    options = SweepOptions.model_validate(nested_search["options"])
    learnt = {part: split[part] for part in ("fold", "seed", "train", "dev")}  # no held-out post
    found = Search(options, config, base, [learnt], corpus, fold_run, attempts / "search").find()
    best = found["best"]
    logger.info("fold %s: its search has found %s (dev %.3f)", split["fold"], best["overrides"], best["score"])
    return found


def winner_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the result of a fold keeps of its search: the configuration, its dev score, and out of how many."""
    best = {name: found["best"][name] for name in ("values", "overrides", "score")}
    return {**best, "trials": len(found["trials"]), "pruned": sum(trial["pruned"] for trial in found["trials"])}


def _announce_fold(result: dict[str, Any], training_config: Config) -> None:
    f1, dev_f1 = (rounded(value) for value in (result["metrics"]["f1"], result["dev_f1"]))
    logger.info(
        "fold %s: F1 %s on %s held-out pairs; on the dev posts %s, in epoch %s of %s",
        *(result["fold"], f1, result["n_pairs"], dev_f1, result["best_epoch"], training_config.training.max_epochs),
    )


def _seeds(training_config: Config, split: dict[str, Any]) -> dict[str, int]:
    """Return the seeds of a fold: the one it is trained with, and those of the training and of the folds."""
    seed = training_config.training.seed
    return {"seed": derived_seed(seed, split["fold"]), "training_seed": seed, "folds_seed": split["seed"]}


def _fold_result(
    run: tracking.Run, trained: TrainedFold, outcome: TrainingOutcome, dev: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the metrics that were logged in training as a table, and the fold's result."""
    fold, training = trained.origin["fold"], asdict(outcome)
    history = pd.DataFrame(training.pop("history"), columns=["step", "metric", "value"])
    history.insert(0, "fold", fold)
    # With one label F1 is 0 or, if every pair is predicted as matched, 1: no figure to compare folds by.
    dev_f1 = (
        None if has_one_label(dev["label"]) else pair_metrics(dev["label"], dev["probability"], dev["prediction"])["f1"]
    )
    return history, {
        "fold": fold,
        "cv_run_id": trained.origin["cv_run_id"],
        "run_id": run.run_id,
        "checkpoint": run.artifact_address(tracking.CHECKPOINT),
        **training,
        "decision": trained.decision.to_dict(),
        "dev_f1": dev_f1,
        "dev_average_precision": None
        if has_one_label(dev["label"])
        else float(average_precision_score(dev["label"], dev["logit"])),
        "dev_positive": int(dev["label"].sum()),
        "metrics": held_out_metrics(predictions, trained.config.decision),
        "n_pairs": len(predictions),
    }


def _log_scores(run: tracking.Run, result: dict[str, Any], figures: dict[str, Figure]) -> None:
    run.set_tags({"mentallam.selected_by": result["selected_by"]})
    if result["dev_f1"] is None:
        run.set_tags({"mentallam.decision": "not fitted, since all dev pairs have the same label"})
    threshold = result["decision"]["threshold"]
    run.log_metrics({"threshold": threshold, "dev_f1": result["dev_f1"]})
    run.log_metrics({name: result[name] for name in ("best_epoch", "epochs", "seconds")})
    run.log_text(render_figures_page(f"Figures of fold {result['fold']}", figures), "figures.html")
    f1, dev_f1 = (rounded(value) for value in (result["metrics"]["f1"], result["dev_f1"]))
    run.describe(f"F1 **{f1}** on {result['n_pairs']} held-out pairs; on the dev posts {dev_f1}")


def close_cv_run(
    cv_run: dict[str, str], baseline_predictions: pd.DataFrame, *fold_results: dict[str, Any]
) -> dict[str, Any]:
    """Return the outcome of all folds; log means, deviations and duration, the baselines' metrics and the best fold."""
    outcome = outcome_of_folds(cv_run, fold_results, len(fold_results))
    results = outcome["folds"]
    run = tracking.Run(cv_run["run_id"])
    for metric, values in aggregate_folds(results).items():
        run.log_metrics({f"{metric}_mean": values["mean"], f"{metric}_std": values["std"]})
    for name, metrics in baseline_fold_metrics(baseline_predictions).items():
        for metric, values in metrics.items():
            run.log_metrics({f"baseline_{name}_{metric}_{part}": values[part] for part in ("mean", "std")})
    run.log_metrics({"duration_s": sum(result["seconds"] for result in results)})
    run.link_folds(cv_run["experiment_id"], {result["fold"]: result["run_id"] for result in results})
    run.set_tags({"mentallam.best_fold": outcome["best_fold"], tracking.BEST_RUN_TAG: outcome["best_run_id"]})
    return outcome


def calibrate_ensemble(
    training_config: Config, cv_outcome: dict[str, Any], *predictions: pd.DataFrame
) -> dict[str, Any]:
    """Calibrate the mean of all folds; the predictions are those of held-out pairs, then those of dev pairs."""
    results = cv_outcome["folds"]
    held_out, dev = predictions[: len(results)], predictions[len(results) :]
    return ensemble.calibrate_ensemble(training_config.decision.calibration, held_out, dev, results)


def keep_report_inputs(cv_run: dict[str, str], **report_inputs: pd.DataFrame | Config | dict[str, Any]) -> None:
    """Save the inputs of reporting to the parent run, and finish it."""
    if tracking.is_complete(cv_run["run_id"]):
        return
    run = tracking.Run(cv_run["run_id"])
    run.log_dict(cast(dict[str, Any], report_inputs["data_statistics"]), "data_statistics.json")
    run.set_tags({"mentallam.retries": retries.count()})
    tracking.keep_report_inputs(cv_run["run_id"], report_inputs)  # last, since the run is complete with them
    run.finish()


def _log_start(
    run: tracking.Run,
    training_config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
) -> None:
    """Log what is known before training starts, the same for the parent and each child."""
    plain = to_dict(training_config)
    run.log_params({**plain, "base_model": {**base_model, "folder": None}, **data_manifest["options"]})
    run.log_dict(plain, "training_config.yaml")
    run.log_dict(provenance.package_versions(), "package_versions.json")
    run.set_tags({f"mentallam.code.{name}": value for name, value in provenance.code_version().items()})
    run.log_dict(provenance.machine_facts(), "machine.json")
    about = {name: data_manifest[name] for name in ("data_hash", "corpus", "synthetic")}
    run.set_tags({f"mentallam.{name}": value for name, value in about.items()})
    source, counts = data_manifest["source"]["folder"], data_manifest["counts"]
    run.log_data_input(data_manifest["corpus"], data_manifest["data_hash"], source, counts)
