"""Nodes of cv_training: each calls the classifier or the evaluation, and logs the result to MLflow."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, cast

import pandas as pd
from torch import Tensor

from mentallam import provenance, tracking
from mentallam.classifier import frozen, learned_baselines
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.fold import CorpusTables, deterministic_algorithms, fit_fold, learnt_from, score_fold
from mentallam.classifier.model import check_adapter
from mentallam.classifier.sources import find_source
from mentallam.classifier.weights import BaseModel
from mentallam.classifier.weights import prepare_base_model as prepare
from mentallam.config import Config, compose_config, to_dict
from mentallam.evaluation.aggregate import aggregate_folds, best_fold
from mentallam.evaluation.arrays import has_one_label
from mentallam.evaluation.baseline_scores import baseline_fold_metrics
from mentallam.evaluation.metrics import held_out_metrics, pair_metrics
from mentallam.reports.figures import fold_figures
from mentallam.seeds import training_seed


def compose_training_config(hydra_configs: str, profile: str, overrides: str | None) -> Config:
    """Compose the Hydra configuration of this run; folds take it, they never compose.

    Raises:
        MentallamError: It is refused; no earlier configuration has been replaced then.
    """
    composed = compose_config(Path(hydra_configs), profile, overrides)
    find_source(composed.model.source)
    learned_baselines.named_baselines(composed.baselines.models)
    return composed


def prepare_base_model(training_config: Config, base_models: str) -> dict[str, str]:
    """Get the base model onto this machine, once for all folds, and return where it lies."""
    base = prepare(training_config.model, Path(base_models))
    check_adapter(base.architecture(), training_config.adapter)
    return base.to_dict()


def compute_frozen_states(
    training_config: Config,
    base_model: dict[str, str],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    *splits: dict[str, Any],
) -> dict[str, Tensor]:
    """Compute what goes into the lowest trained layer, for all folds; empty where every layer is trained."""
    training = training_config.training
    parts = [part for split in splits for part in learnt_from(split, training.sample_fraction).values()]
    posts = posts[posts["post_id"].isin(set(chain.from_iterable(parts)))]
    with deterministic_algorithms(training.deterministic):
        return frozen.frozen_states(training_config, BaseModel(**base_model), posts, criteria, pairs)


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
    experiment: str,
    *_needed_later: pd.DataFrame,
) -> dict[str, str]:
    """Open the parent run of this cross-validation, and log what is known before the first fold.

    Args:
        training_config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        frozen_states: As `compute_frozen_states` returns them.
        experiment: The MLflow experiment.
        *_needed_later: What the run needs after its folds, so that `--to-nodes open_cv_run` makes that as well.
    """
    cv_run = tracking.open_cv_run(f"{base_model['name']} on {data_manifest['corpus']}", experiment)
    with tracking.failing(cv_run["run_id"]) as run:
        _log_start(run, training_config, base_model, data_manifest)
        run.log_metrics({f"data_{name}": count for name, count in data_manifest["counts"].items()})
        if frozen_states:
            run.log_metrics({"frozen_states_gb": sum(state.nbytes for state in frozen_states.values()) / 1e9})
        run.log_dict(data_manifest, "data_manifest.json")
    return cv_run


def train_fold(
    cv_run: dict[str, str],
    training_config: Config,
    base_model: dict[str, str],
    data_manifest: dict[str, Any],
    split: dict[str, Any],
    frozen_states: dict[str, Tensor],
    system_metrics_interval: float,
    *tables: pd.DataFrame,
) -> tuple[dict[str, str], TrainedFold, dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Train one fold in a child run of the cross-validation's.

    Args:
        cv_run: The parent run.
        training_config: The configuration.
        base_model: The base model on disk.
        data_manifest: The record of the data.
        split: The fold: its number, seed and post ids.
        frozen_states: As `compute_frozen_states` returns them.
        system_metrics_interval: Seconds between two looks at the machine.
        *tables: posts, criteria, pairs and groups, as in `CorpusTables`.

    Returns:
        The child run, the classifier, how the training went, the dev predictions, and the logged metrics.
    """
    fold_run = tracking.open_fold_run(cv_run, split["fold"])
    seeds = {
        "seed": training_seed(training_config.training.seed, split["fold"]),
        "training_seed": training_config.training.seed,
        "folds_seed": split["seed"],
    }
    origin = {
        **{"run_id": fold_run["run_id"], "cv_run_id": cv_run["run_id"], "fold": split["fold"]},
        **seeds,
        "mask": data_manifest["options"]["cleaning"]["mask"],
        **{name: data_manifest[name] for name in ("data_hash", "corpus", "synthetic")},
    }
    history: list[tuple[int, int, str, float]] = []
    started = time.perf_counter()
    with tracking.failing(fold_run["run_id"]) as run:

        def log_metrics(metrics: Mapping[str, float], step: int) -> None:
            history.extend((split["fold"], step, name, float(value)) for name, value in metrics.items())
            run.log_step(metrics, step)

        _log_start(run, training_config, base_model, data_manifest)
        run.log_params({"fold": split["fold"], **seeds, "group_by": split["group_by"]})
        run.log_dict(split, f"fold_{split['fold']}.json")
        with tracking.system_metrics(run.run_id, system_metrics_interval):
            trained, outcome, dev = fit_fold(
                training_config,
                BaseModel(**base_model),
                split,
                CorpusTables(*tables),
                frozen_states,
                origin,
                log_metrics,
            )
    training = {
        **asdict(outcome),
        "decision": trained.decision.to_dict(),
        # With one label F1 is 0 or, if every pair is predicted as matched, 1: no figure to compare folds by.
        "dev_f1": None
        if has_one_label(dev["label"])
        else pair_metrics(dev["label"], dev["probability"], dev["prediction"])["f1"],
        "seconds": time.perf_counter() - started,
    }
    run.set_tags({"mentallam.selected_by": outcome.selected_by})
    if training["dev_f1"] is None:
        run.set_tags({"mentallam.decision": "not fitted, since all dev pairs have the same label"})
    return fold_run, trained, training, dev, pd.DataFrame(history, columns=["fold", "step", "metric", "value"])


def evaluate_fold(
    trained: TrainedFold,
    training: dict[str, Any],
    fold_run: dict[str, str],
    split: dict[str, Any],
    data_manifest: dict[str, Any],
    *tables: pd.DataFrame,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Score the held-out pairs with the saved checkpoint, and close the fold's run.

    Args:
        trained: The checkpoint.
        training: How the training went.
        fold_run: The fold's run.
        split: The fold: its number and post ids.
        data_manifest: The record of the data.
        *tables: posts, criteria, pairs and groups, as in `CorpusTables`.

    Returns:
        The held-out predictions and the fold's result.
    """
    corpus = CorpusTables(*tables)
    with tracking.failing(fold_run["run_id"]) as run:
        predictions = score_fold(trained, split, corpus)
        metrics = held_out_metrics(predictions)
        threshold = trained.decision.thresholds.common
        run.log_metrics(
            {**cast(dict[str, float | None], metrics), "threshold": threshold, "dev_f1": training["dev_f1"]}
        )
        run.log_metrics({name: training[name] for name in ("best_epoch", "epochs", "seconds")})
        for name, figure in fold_figures(predictions, corpus.criteria, data_manifest["synthetic"]).items():
            run.log_figure(figure, f"{name}.html")
        assert trained.folder is not None
        run.log_folder(trained.folder, tracking.CHECKPOINT)
        run.finish()
    return predictions, {
        "fold": split["fold"],
        "run_id": run.run_id,
        "checkpoint": run.artifact_address(tracking.CHECKPOINT),
        **training,
        "metrics": metrics,
        "n_pairs": len(predictions),
    }


def close_cv_run(
    cv_run: dict[str, str], baseline_predictions: pd.DataFrame, *fold_results: dict[str, Any]
) -> dict[str, Any]:
    """Return the outcome of all folds; log their means and deviations, the baselines' and the best fold."""
    results = sorted(fold_results, key=lambda result: int(result["fold"]))
    best = next(result for result in results if result["fold"] == best_fold(results))
    tracking.continue_run("cv_run.json", cv_run["run_id"])
    run = tracking.Run(cv_run["run_id"])
    for metric, values in aggregate_folds(results).items():
        run.log_metrics({f"{metric}_mean": values["mean"], f"{metric}_std": values["std"]})
    for name, metrics in baseline_fold_metrics(baseline_predictions).items():
        for metric, values in metrics.items():
            run.log_metrics({f"baseline_{name}_{metric}_{part}": values[part] for part in ("mean", "std")})
    run.link_folds(cv_run["experiment_id"], {result["fold"]: result["run_id"] for result in results})
    run.set_tags({"mentallam.best_fold": best["fold"], tracking.BEST_RUN_TAG: best["run_id"]})
    return {
        "cv_run_id": cv_run["run_id"],
        "experiment_id": cv_run["experiment_id"],
        "n_folds": len(results),
        "best_fold": best["fold"],
        "best_run_id": best["run_id"],
        "folds": results,
    }


def keep_report_inputs(cv_run: dict[str, str], **report_inputs: pd.DataFrame | Config | dict[str, Any]) -> None:
    """Save the inputs of reporting to the parent run, and close it."""
    tracking.continue_run("cv_run.json", cv_run["run_id"])
    tracking.keep_report_inputs(cv_run["run_id"], report_inputs)
    run = tracking.Run(cv_run["run_id"])
    run.log_dict(cast(dict[str, Any], report_inputs["data_statistics"]), "data_statistics.json")
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
    run.log_dict(provenance.machine_facts(), "machine.json")
    about = {name: data_manifest[name] for name in ("data_hash", "corpus", "synthetic")}
    run.set_tags({f"mentallam.{name}": value for name, value in about.items()})
    source, counts = data_manifest["source"]["folder"], data_manifest["counts"]
    run.log_data_input(data_manifest["corpus"], data_manifest["data_hash"], source, counts)
