"""The cross-validation summary, from the out-of-fold table and the results of the folds."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isclose
from typing import Any

import pandas as pd

from mentallam.config import DecisionConfig
from mentallam.errors import MentallamError
from mentallam.evaluation.decision import choose_thresholds
from mentallam.evaluation.few_positives import few_positives
from mentallam.evaluation.metrics import (
    PairMetrics,
    criterion_metrics,
    held_out_metrics,
    macro_f1,
    mean_and_std,
    table_metrics,
)
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.slices import explicit_negatives, slice_metrics
from mentallam.evaluation.trivial import trivial_tables


def aggregate_folds(fold_results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | int | None]]:
    """Compute mean and sample standard deviation over folds of every metric.

    Args:
        fold_results: One per fold, each with `metrics`: metric name to value or None, with the same names in all.

    Returns:
        Metric name to {mean, std, n} of the folds in which the metric is defined; n is their number. A fold without a
        positive pair has no F1 and no ROC-AUC, and enters neither mean.
    """
    return {
        name: mean_and_std(result["metrics"][name] for result in fold_results) for name in fold_results[0]["metrics"]
    }


def best_fold(fold_results: Sequence[Mapping[str, Any]]) -> int:
    """Return the fold with the best F1 on its inner dev split, the lowest of equals; held-out scores are not used.

    Args:
        fold_results: One per fold, each with `fold` and `dev_f1`; a fold whose dev F1 is None is best only if
            no fold has one.
    """
    results = [result for result in fold_results if result["dev_f1"] is not None] or fold_results
    return int(min(results, key=lambda result: (-(result["dev_f1"] or 0), result["fold"]))["fold"])


def median_epoch(fold_results: Sequence[Mapping[str, Any]]) -> int:
    """Return the median of the folds' best epochs, rounded down: how long a model of all posts is trained."""
    return int(statistics.median(result["best_epoch"] for result in fold_results))


def outcome_of_folds(
    cv_run: Mapping[str, str], fold_results: Iterable[Mapping[str, Any]], n_folds: int
) -> dict[str, Any]:
    """Return the outcome of a cross-validation.

    Args:
        cv_run: Its run: run_id and experiment_id.
        fold_results: The results of its finished folds.
        n_folds: The number of its folds.

    Returns:
        cv_run_id, experiment_id, n_folds, best_fold, best_run_id, and folds: the results in the order of the folds.

    Raises:
        MentallamError: A result is of another cross-validation.
    """
    results = sorted(fold_results, key=lambda result: int(result["fold"]))
    for result in results:
        if result["cv_run_id"] != cv_run["run_id"]:
            raise MentallamError(
                f"the result of fold {result['fold']} belongs to the run {result['cv_run_id']}, not to "
                f"{cv_run['run_id']} in cv_run.json: run `kedro run --pipeline cv_training` again"
            )
    best = next(result for result in results if result["fold"] == best_fold(results))
    return {
        "cv_run_id": cv_run["run_id"],
        "experiment_id": cv_run["experiment_id"],
        "n_folds": n_folds,
        "best_fold": best["fold"],
        "best_run_id": best["run_id"],
        "folds": results,
    }


def fold_metrics(oof: pd.DataFrame, compute: Callable[[pd.DataFrame], PairMetrics]) -> dict[int, PairMetrics]:
    """Compute the metrics of each held-out fold at the threshold of that fold.

    Args:
        oof: The out-of-fold table.
        compute: From the pairs of a fold to their metrics.

    Returns:
        Fold to its metrics, in the order of the folds.
    """
    return {fold: compute(oof[oof["fold"] == fold]) for fold in oof["fold"].unique().tolist()}


def summarise(
    oof: pd.DataFrame,
    cv_outcome: dict[str, Any],
    data_statistics: dict[str, Any],
    criteria: pd.DataFrame,
    decision: DecisionConfig,
) -> dict[str, Any]:
    """Summarise one cross-validation; all metrics come from the out-of-fold table.

    Args:
        oof: The out-of-fold table of the run.
        cv_outcome: cv_run_id, n_folds, best_fold and folds, as cv_training saved them.
        data_statistics: Statistics of the corpus the folds were made from: n_pairs, synthetic, data_hash.
        criteria: Columns criterion_id, symptom, criterion.
        decision: How the thresholds of the table were chosen, for the protocols.

    Returns:
        A JSON-serialisable summary: counts (n_folds of the finished folds, planned_folds of all; n_marked pairs
        predicted positive, n_found positive pairs among them), `metrics` (mean and std over folds), `pooled` (all
        pairs, each at its fold's threshold), `protocols`, `selection_optimism` and `cross_fitted_difference` (mean F1
        minus that of dev_split), `baselines`, `per_criterion`, `macro_f1`, `slices`, `few_positives` (criteria whose
        figures rest on few positive pairs), `explicit_negatives`, `folds`, `best_fold`,
        `search_optimism` (of `_search_optimism`).
        Nothing is rounded; a metric that is not defined is None.

    Raises:
        MentallamError: The table belongs to another run or other data, or has a criterion that is not listed.
    """
    metrics = fold_metrics(oof, partial(held_out_metrics, options=decision))
    results = {result["fold"]: result for result in cv_outcome["folds"]}
    _check_same_run(metrics, results)
    is_partial = len(results) < cv_outcome["n_folds"]
    _check_complete(
        oof, sum(result["n_pairs"] for result in results.values()) if is_partial else data_statistics["n_pairs"]
    )
    per_criterion = criterion_metrics(oof, criteria)
    protocols = protocol_metrics(oof, decision)
    mean_f1 = {name: protocol["mean"]["f1"]["mean"] for name, protocol in protocols.items()}
    return {
        "cv_run_id": cv_outcome["cv_run_id"],
        "data_hash": data_statistics["data_hash"],
        "synthetic": data_statistics["synthetic"],
        "n_folds": len(metrics),
        "planned_folds": cv_outcome["n_folds"],
        "n_posts": oof["post_id"].nunique(),
        "n_groups": oof["group"].nunique(),
        "n_pairs": len(oof),
        "n_positive": int(oof["label"].sum()),
        "n_marked": int(oof["prediction"].sum()),
        "n_found": int((oof["label"] & oof["prediction"]).sum()),
        "best_fold": cv_outcome["best_fold"],
        "metrics": aggregate_folds([{"metrics": of_fold} for of_fold in metrics.values()]),
        "selection_optimism": _difference(mean_f1["same_fold"], mean_f1["dev_split"]),
        "cross_fitted_difference": _difference(mean_f1["cross_fitted"], mean_f1["dev_split"]),
        "pooled": table_metrics(oof),
        "protocols": protocols,
        "baselines": {name: table_metrics(table) for name, table in trivial_tables(oof).items()},
        "per_criterion": per_criterion,
        "macro_f1": macro_f1(per_criterion),
        "few_positives": few_positives(per_criterion),
        "slices": slice_metrics(oof),
        "explicit_negatives": explicit_negatives(oof),
        "search_optimism": _search_optimism(results, metrics),
        "folds": [_fold_row(results[fold], oof[oof["fold"] == fold], metrics[fold], decision) for fold in metrics],
    }


def _search_optimism(
    results: Mapping[int, Mapping[str, Any]], metrics: Mapping[int, PairMetrics]
) -> dict[str, float | int | None] | None:
    """Return by how much the best dev score of each fold's search lies above its held-out average precision.

    Returns:
        mean, std and n over the folds; None where folds have not searched.
    """
    found = {fold: result["search"]["score"] for fold, result in results.items() if result.get("search")}
    if not found:
        return None
    return mean_and_std(_difference(score, metrics[fold]["average_precision"]) for fold, score in found.items())


def protocol_metrics(oof: pd.DataFrame, decision: DecisionConfig) -> dict[str, dict[str, Any]]:
    """Compute precision, recall and F1 under each protocol of `protocols.protocol_predictions`.

    Args:
        oof: The out-of-fold table.
        decision: How the thresholds of the table were chosen.

    Returns:
        Protocol to {pooled: metric to value, mean: metric to {mean, std, n} over the folds}.
    """
    names = ("precision", "recall", "f1")
    table = {}
    for protocol, prediction in protocol_predictions(oof, decision).items():
        decided = oof.assign(prediction=prediction)
        pooled, *folds = map(table_metrics, (decided, *(pairs for _, pairs in decided.groupby("fold"))))
        table[protocol] = {
            "pooled": {name: pooled[name] for name in names},
            "mean": {name: mean_and_std(fold[name] for fold in folds) for name in names},
        }
    return table


def threshold_summary(summary: dict[str, Any], rule: str) -> dict[str, Any]:
    """Summarise the thresholds of a cross-validation and how they were chosen.

    Args:
        summary: As `summarise` returns it.
        rule: How they were chosen, in words.

    Returns:
        cv_run_id, chosen_by, `folds` (fold to the common threshold), `by_criterion` (fold to criterion to threshold;
        empty where all criteria have the common one), `calibration` (fold to slope and intercept), `same_fold` (fold
        to the common threshold that the same rule chooses on its held-out pairs), mean and std over `folds`.
    """
    chosen = {str(fold["fold"]): fold["threshold"] for fold in summary["folds"]}
    spread = mean_and_std(chosen.values())
    return {
        "cv_run_id": summary["cv_run_id"],
        "chosen_by": rule,
        "folds": chosen,
        "by_criterion": {str(fold["fold"]): fold["by_criterion"] for fold in summary["folds"]},
        "calibration": {
            str(fold["fold"]): {name: fold[name] for name in ("slope", "intercept")} for fold in summary["folds"]
        },
        "same_fold": {str(fold["fold"]): fold["threshold_same_fold"] for fold in summary["folds"]},
        "mean": spread["mean"],
        "std": spread["std"],
    }


def _check_same_run(metrics: dict[int, PairMetrics], results: dict[int, dict[str, Any]]) -> None:
    """Refuse a table whose folds or scores differ from the training's: one of them is stale."""
    if set(metrics) != set(results):
        raise MentallamError(
            f"the out-of-fold table has the folds {sorted(metrics)}, the training reports {sorted(results)}: "
            "run cv_training again for all folds"
        )
    for fold, of_fold in metrics.items():
        if not _is_same(of_fold["f1"], results[fold]["metrics"]["f1"]):
            raise MentallamError(
                f"the predictions of fold {fold} have another F1 than the training reports: they come from "
                "another run; run cv_training again for all folds"
            )


def _is_same(found: float | None, reported: float | None) -> bool:
    if found is None or reported is None:
        return found is reported
    return isclose(found, reported, abs_tol=1e-9)


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second


def _check_complete(oof: pd.DataFrame, n_pairs: int) -> None:
    """Refuse a table without every pair of its folds; the table holds no pair twice, so each is there once."""
    if len(oof) != n_pairs:
        raise MentallamError(
            f"the out-of-fold table holds {len(oof)} pairs, the data {n_pairs}: "
            "the data changed after the training; run cv_training again for all folds"
        )


def _fold_row(
    result: dict[str, Any], pairs: pd.DataFrame, metrics: PairMetrics, decision: DecisionConfig
) -> dict[str, Any]:
    """Return one row of the fold table: how the fold was trained, what it was scored on, and its metrics."""
    return {
        "fold": result["fold"],
        "run_id": result["run_id"],
        "checkpoint": result["checkpoint"],
        "best_epoch": result["best_epoch"],
        "epochs": result["epochs"],
        "selected_by": result.get("selected_by"),  # older runs lack it
        "seconds": result["seconds"],
        "dev_f1": result["dev_f1"],
        "dev_positive": result.get("dev_positive"),  # older runs lack it, like the next two
        "dev_average_precision": result.get("dev_average_precision"),
        "search": result.get("search"),
        **result["decision"],
        "threshold_same_fold": choose_thresholds(
            pairs["criterion_id"], pairs["label"], pairs["probability"], decision
        ).common,
        "n_pairs": len(pairs),
        "n_positive": int(pairs["label"].sum()),
        "n_marked": int(pairs["prediction"].sum()),
        **metrics,
    }
