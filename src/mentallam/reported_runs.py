"""Finished cross-validations as MLflow stores them: the tables of one, and how many there are of the same data."""

from typing import Any

from mentallam import tracking
from mentallam.evaluation.comparison import ReportedRun
from mentallam.evaluation.oof import out_of_fold_table


def load_reported_run(option: str, run_id: str) -> ReportedRun:
    """Load the out-of-fold table of a finished cross-validation from its run.

    Args:
        option: What named the run, for messages.
        run_id: The run.

    Raises:
        MentallamError: There is no such run, or it lacks what its report was made from.
    """
    saved = tracking.find_report_inputs(run_id, option)
    outcome, data_statistics, training_config, criteria = (
        tracking.load_report_input(run_id, saved[name])
        for name in ("cv_outcome", "data_statistics", "training_config", "criteria")
    )
    folds = [f"fold_{fold}_predictions" for fold in range(outcome["n_folds"])]
    oof = out_of_fold_table(*(tracking.load_report_input(run_id, saved[name]) for name in folds))
    return ReportedRun(run_id, oof, data_statistics, criteria, training_config.model.name)


def find_candidates(cv_summary: dict[str, Any], cv_outcome: dict[str, Any]) -> dict[str, Any]:
    """Find the finished cross-validations of the same data in the experiment, among which a champion is chosen.

    Args:
        cv_summary: The summary of this cross-validation.
        cv_outcome: Its outcome, with the id of its experiment.

    Returns:
        `n`, with this one; `f1`: run id to the pooled F1 of those that have been reported, this one first; `this`, as
        `tracking.beginning_of` returns it; `confirms`: the search whose best configuration this one trains, and
        `flat`: where each fold has searched, the latest cross-validation that confirms one search over all. Both are
        None where there is none.
    """
    found = tracking.find_finished_cv_runs(cv_outcome["experiment_id"], cv_summary["data_hash"])
    this = cv_summary["cv_run_id"]
    others = {run_id: f1 for run_id, f1 in found.items() if run_id != this}
    reported = {run_id: f1 for run_id, f1 in others.items() if f1 is not None}
    f1 = {this: cv_summary["pooled"]["f1"], **reported}
    about = tracking.beginning_of(this)
    nested = cv_summary["search_optimism"] is not None
    return {
        "n": 1 + len(others),
        "f1": f1,
        "this": about,
        "confirms": _confirmed_search(about["confirms"]) if about["confirms"] else None,
        "flat": _flat(cv_outcome["experiment_id"], cv_summary["data_hash"]) if nested else None,
    }


def _confirmed_search(run_id: str) -> dict[str, Any]:
    """Return about a search: its run, its best dev score, out of how many trials, and the seed of its folds."""
    found = tracking.load_search(run_id)
    return {
        "run_id": run_id,
        "score": found["best"]["score"],
        "trials": len(found["trials"]),
        "folds_seed": found["folds_seed"],
    }


def _flat(experiment_id: str, data_hash: str) -> dict[str, Any] | None:
    run = tracking.find_confirmed(experiment_id, data_hash)
    if run is None:
        return None
    pooled = {name: run.data.metrics.get(f"pooled_{name}") for name in ("f1", "average_precision")}
    return {"run_id": run.info.run_id, **pooled}
