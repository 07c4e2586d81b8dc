"""Comparison of two cross-validations of the same data: figures, paired differences and intervals."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mentallam.errors import MentallamError
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import compare_tables


@dataclass(frozen=True)
class ReportedRun:
    """A cross-validation as its MLflow run stores it.

    Attributes:
        run_id: MLflow id of the run.
        oof: Its out-of-fold table.
        data_statistics: Statistics of the corpus.
        model: Name of the base model.
    """

    run_id: str
    oof: pd.DataFrame
    data_statistics: dict[str, Any]
    model: str


def compare_runs(first: ReportedRun, second: ReportedRun, options: UncertaintyOptions) -> dict[str, Any]:
    """Compare two runs; differences are first minus second.

    Args:
        first: A run.
        second: Another run on the same data; its folds may differ.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable: `runs` (first and second: cv_run_id, model), `data_hash`, `corpus`, `synthetic`, and what
        `uncertainty.compare_tables` returns.

    Raises:
        MentallamError: Both are the same run, or their data, pairs or groups differ.
    """
    if first.run_id == second.run_id:
        raise MentallamError(f"first and second are the same run, {first.run_id}; name two different runs")
    hashes = [run.data_statistics["data_hash"] for run in (first, second)]
    if hashes[0] != hashes[1]:
        raise MentallamError(
            f"the runs {first.run_id} and {second.run_id} have different data (data hashes {hashes[0][:12]} and "
            f"{hashes[1][:12]}), so their pairs can't be compared; train both on the same data"
        )
    runs = {"first": first, "second": second}
    return {
        "runs": {name: {"cv_run_id": run.run_id, "model": run.model} for name, run in runs.items()},
        **{name: first.data_statistics[name] for name in ("data_hash", "corpus", "synthetic")},
        **compare_tables(first.oof, second.oof, options),
    }
