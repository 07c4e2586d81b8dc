"""Scores of the learned baselines, whose tables are checked against the model's and scored by the same functions."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pandera.pandas as pa

from mentallam.errors import MentallamError
from mentallam.evaluation.aggregate import aggregate_folds, fold_metrics
from mentallam.evaluation.metrics import criterion_metrics, table_metrics
from mentallam.evaluation.oof import OOF_SCHEMA
from mentallam.evaluation.thresholds import predict_labels

BASELINE_SCHEMA = OOF_SCHEMA.add_columns({"post_tokens": pa.Column(int, pa.Check.ge(0)), "model": pa.Column(str)})
"""The columns of the out-of-fold table, and `model`, the baseline's name; none may hold a post's text."""

_DTYPES = {
    **dict.fromkeys(("post_id", "criterion_id", "group", "cluster", "model"), "str"),
    **dict.fromkeys(("fold", "post_tokens"), "int64"),
    **dict.fromkeys(("label", "prediction"), "int8"),
    **dict.fromkeys(("explicit_negative", "truncated"), "bool"),
    **dict.fromkeys(("logit", "probability", "threshold"), "float64"),
}


def no_baselines() -> pd.DataFrame:
    """Return the table of a run without baselines: the columns and types of one with baselines, no row."""
    columns = (name for name in BASELINE_SCHEMA.columns if name in _DTYPES)
    return pd.DataFrame({name: pd.Series(dtype=_DTYPES[name]) for name in columns})


def baseline_fold_metrics(baselines: pd.DataFrame) -> dict[str, dict[str, dict[str, float | int | None]]]:
    """Compute mean and standard deviation over folds of every metric of each baseline.

    Args:
        baselines: Columns of `BASELINE_SCHEMA`; may have no row.

    Returns:
        Baseline to the result of `aggregate_folds`, in the order of the table.
    """
    return {
        str(name): aggregate_folds([{"metrics": metrics} for metrics in fold_metrics(table, table_metrics).values()])
        for name, table in baselines.groupby("model", sort=False)
    }


def summarise_baselines(
    baselines: pd.DataFrame, oof: pd.DataFrame, criteria: pd.DataFrame, descriptions: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Summarise the learned baselines of a cross-validation by the same functions as the model.

    Args:
        baselines: Columns of `BASELINE_SCHEMA`; may have no row.
        oof: The out-of-fold table of the model.
        criteria: Columns criterion_id, symptom, criterion.
        descriptions: Baseline to what it is, in words.

    Returns:
        Baseline to `description` (None for a baseline of an older version that is not described), `metrics` (mean and
        std over folds), `pooled` (all pairs, each at its fold's threshold) and `per_criterion`; JSON-serialisable,
        nothing rounded.

    Raises:
        MentallamError: A table that breaks the schema, or that holds other pairs or folds than the model's.
    """
    try:
        BASELINE_SCHEMA.validate(baselines, lazy=True)
    except pa.errors.SchemaErrors as errors:
        first = errors.failure_cases.iloc[0]
        column = first["failure_case"] if pd.isna(first["column"]) else first["column"]
        raise MentallamError(
            f"the baseline predictions break the rule {first['check']} at column {column!r}; run cv_training again"
        ) from None
    facts = ["post_id", "criterion_id", "fold", "label"]
    expected = oof[facts].sort_values(facts, ignore_index=True).to_numpy()
    for name, table in baselines.groupby("model", sort=False):
        found = table[facts].sort_values(facts, ignore_index=True).to_numpy()
        if found.shape != expected.shape or (found != expected).any():
            raise MentallamError(
                f"the predictions of the baseline {name!r} are of other pairs or folds than the model's: "
                "the data changed after one of them was made; run cv_training again for all folds"
            )
        if (table["prediction"] != predict_labels(table["probability"], table["threshold"])).any():
            raise MentallamError(
                f"the predictions of the baseline {name!r} contradict their threshold; run cv_training again"
            )
    metrics = baseline_fold_metrics(baselines)
    return {
        str(name): {
            "description": descriptions.get(str(name)),
            "metrics": metrics[str(name)],
            "pooled": table_metrics(table),
            "per_criterion": criterion_metrics(table, criteria),
        }
        for name, table in baselines.groupby("model", sort=False)
    }
