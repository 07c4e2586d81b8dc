"""Comparison of two cross-validations of the same labelled pairs: figures, paired differences and intervals.

The wording of the criteria, masking and cleaning may differ, since their effect is a question to a comparison.
"""

from collections.abc import Mapping
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
        criteria: Columns criterion_id, symptom, criterion.
        model: Name of the base model.
    """

    run_id: str
    oof: pd.DataFrame
    data_statistics: dict[str, Any]
    criteria: pd.DataFrame
    model: str


def compare_runs(first: ReportedRun, second: ReportedRun, options: UncertaintyOptions) -> dict[str, Any]:
    """Compare two runs; differences are first minus second.

    Args:
        first: A run.
        second: Another run on the same pairs with the same labels and groups; its folds may differ.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable: `runs` (first and second: cv_run_id, model), `data_hash` (of each), `corpus` (the
        first's), `synthetic` (whether one is), `differs` (what the data differ in, in words; empty for one data hash),
        and what `uncertainty.compare_tables` returns.

    Raises:
        MentallamError: Both are the same run, or their pairs, labels or groups differ.
    """
    if first.run_id == second.run_id:
        raise MentallamError(f"first and second are the same run, {first.run_id}; name two different runs")
    runs = {"first": first, "second": second}
    return {
        "runs": {name: {"cv_run_id": run.run_id, "model": run.model} for name, run in runs.items()},
        "data_hash": {name: run.data_statistics["data_hash"] for name, run in runs.items()},
        "corpus": first.data_statistics["corpus"],
        "synthetic": first.data_statistics["synthetic"] or second.data_statistics["synthetic"],
        "differs": _differences(first, second),
        **compare_tables(first.oof, second.oof, options),
    }


def _differences(first: ReportedRun, second: ReportedRun) -> list[str]:
    """Name what the data of two runs differ in, apart from pairs, labels and groups."""
    one, other = first.data_statistics, second.data_statistics
    if one["data_hash"] == other["data_hash"]:
        return []
    wordings = [run.criteria.set_index("criterion_id")["criterion"] for run in (first, second)]
    reworded = [name for name, wording in wordings[0].items() if wording != wordings[1].get(name)]
    found = [f"the wording of {', '.join(map(str, reworded))}"] if reworded else []
    options, other_options = one.get("options", {}), other.get("options", {})
    for part, chosen in options.items():
        found += [
            f"{part}.{name} ({value}, {other_options[part][name]})"
            for name, value in chosen.items()
            if name in other_options.get(part, {}) and value != other_options[part][name]
        ]
    # A frame's hash also differs where an option has changed it.
    is_cleaned_alike = options.get("cleaning") == other_options.get("cleaning")
    if is_cleaned_alike and "posts" in _other_frames(one, other):
        found.append("the posts' texts or authors")
    if "pairs" in _other_frames(one, other):
        found.append("the annotations beside the labels")
    if one["corpus"] != other["corpus"]:
        found.append(f"the name of the corpus ({one['corpus']}, {other['corpus']})")
    return found or ["something that older versions do not record"]


def _other_frames(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    frames, others = one.get("frames", {}), other.get("frames", {})
    return {name for name in frames if name in others and frames[name] != others[name]}
