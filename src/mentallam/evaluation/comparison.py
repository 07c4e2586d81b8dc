"""Two cross-validations of the same data beside each other: figures, paired differences, and how sure they are."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mentallam.errors import MentallamError
from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import compare_tables


@dataclass(frozen=True)
class ReportedRun:
    """A cross-validation as its MLflow run keeps it.

    Attributes:
        run_id: The run.
        oof: Its out-of-fold table.
        data_statistics: Of the corpus.
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
        MentallamError: It is the same run twice, or the data, the pairs or the groups are not the same.
    """
    if first.run_id == second.run_id:
        raise MentallamError(f"first and second are the same run, {first.run_id}; name two")
    hashes = [run.data_statistics["data_hash"] for run in (first, second)]
    if hashes[0] != hashes[1]:
        raise MentallamError(
            f"the runs {first.run_id} and {second.run_id} were made with other data (data hashes {hashes[0][:12]} and "
            f"{hashes[1][:12]}), so their pairs can't be compared; train both on the same"
        )
    named = {"first": first, "second": second}
    return {
        "runs": {name: {"cv_run_id": run.run_id, "model": run.model} for name, run in named.items()},
        **{name: first.data_statistics[name] for name in ("data_hash", "corpus", "synthetic")},
        **compare_tables(first.oof, second.oof, options),
    }
