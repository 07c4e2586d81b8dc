"""The out-of-fold table: every pair once, scored by the model that was not trained on its group.

All reported figures come from it.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from mentallam.errors import MentallamError
from mentallam.evaluation.thresholds import predict_labels

_FLAG = pa.Column(checks=pa.Check.isin([0, 1]))  # no type, since coercing 0.5 to an integer would make it 0
_SHARE = pa.Column(float, pa.Check.in_range(0, 1), coerce=True)

OOF_SCHEMA = pa.DataFrameSchema(
    {
        "post_id": pa.Column(str),
        "criterion_id": pa.Column(str),
        "group": pa.Column(str),
        # What intervals and tests draw as a whole, and whether the fold learnt or chose from a post of this author
        # (missing if the author is unknown). Runs of older versions have neither.
        "cluster": pa.Column(str, required=False),
        "author_seen": pa.Column("boolean", nullable=True, coerce=True, required=False),
        "fold": pa.Column(int),
        "label": _FLAG,
        "explicit_negative": pa.Column(bool),
        "logit": pa.Column(float, coerce=True),
        "probability": _SHARE,
        "threshold": _SHARE,
        "prediction": _FLAG,
        "truncated": pa.Column(bool),
        "post_tokens": pa.Column(int, pa.Check.ge(0)),
    },
    strict=True,
)
"""The only columns of a fold's predictions and of the whole table; none may hold a post's text."""

_WAY_OUT = "run cv_training again for all folds"


def out_of_fold_table(*fold_predictions: pd.DataFrame | None) -> pd.DataFrame:
    """Put the folds' held-out predictions into one checked table.

    Args:
        *fold_predictions: One table per fold, in the order of the folds, with the columns of `OOF_SCHEMA`; None for a
            fold that is not finished.

    Returns:
        All rows, in the order of the folds, with the schema's column order and types and a new index.

    Raises:
        MentallamError: A fold that is empty or out of order, a column or value that breaks the schema,
            a pair that occurs twice, a group in more than one fold, or a prediction that contradicts its threshold.
    """
    finished = [(fold, frame) for fold, frame in enumerate(fold_predictions) if frame is not None]
    table = pd.concat([_checked_fold(fold, frame) for fold, frame in finished], ignore_index=True)
    twice = table.duplicated(["post_id", "criterion_id"])
    if twice.any():
        row = table[twice].iloc[0]
        raise MentallamError(
            f"the pair of post {row['post_id']!r} and criterion {row['criterion_id']!r} was predicted "
            f"more than once: the folds overlap; {_WAY_OUT}"
        )
    folds_per_group = table.groupby("group")["fold"].nunique()
    if (folds_per_group > 1).any():
        raise MentallamError(
            f"the group {folds_per_group.idxmax()!r} is in more than one fold, so a model was scored on "
            f"a group that it was trained on; {_WAY_OUT}"
        )
    return table


def read_tables(paths: str) -> dict[str, pd.DataFrame]:
    """Read the out-of-fold tables of other runs.

    Args:
        paths: Parquet files, separated by semicolons; spaces around them and empty names are ignored.

    Returns:
        Path to checked table; empty if no path is named.

    Raises:
        MentallamError: No such file, a file that is not a Parquet table, or a table that `out_of_fold_table` refuses.
    """
    tables = {}
    for path in filter(None, map(str.strip, paths.split(";"))):
        if not Path(path).is_file():
            raise MentallamError(
                f"there is no file {path}: repeats names out-of-fold tables (.../07_model_output/"
                "oof_predictions.parquet), separated by semicolons"
            )
        try:
            table = pd.read_parquet(path)
            folds = [predictions for _, predictions in table.groupby("fold")]
        except (ValueError, KeyError):
            raise MentallamError(
                f"{path} is not an out-of-fold table; name the oof_predictions.parquet of a finished run"
            ) from None
        try:
            tables[path] = out_of_fold_table(*folds)
        except MentallamError as error:
            raise MentallamError(f"{path}: {error}") from None
    return tables


def read_baselines(paths: Iterable[str], names: Iterable[str]) -> dict[str, list[pd.DataFrame]]:
    """Read the tables of baselines that lie beside the out-of-fold tables of other runs.

    Args:
        paths: Out-of-fold tables, as `read_tables` returns them.
        names: The baselines of this run.

    Returns:
        Baseline to its tables, in the order of the paths; of the baselines that every run has.

    Raises:
        MentallamError: There is no such table, or it is not one of baselines.
    """
    if not (names := list(names)):
        return {}
    runs = []
    for path in paths:
        beside = Path(path).with_name("baseline_predictions.parquet")
        try:
            table = pd.read_parquet(beside)
            runs.append({str(model): predictions for model, predictions in table.groupby("model")})
        except (OSError, ValueError, KeyError):
            raise MentallamError(
                f"there is no table of baselines {beside}: repeats needs it beside the out-of-fold table, where a "
                f"finished run leaves it"
            ) from None
    return {name: [run[name] for run in runs] for name in names if all(name in run for run in runs)}


def _checked_fold(fold: int, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fold's predictions in the schema's types; raise one sentence about the first fault."""
    where = f"the predictions of fold {fold}"
    try:
        checked = OOF_SCHEMA.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        first = errors.failure_cases.iloc[0]
        column = first["failure_case"] if pd.isna(first["column"]) else first["column"]
        raise MentallamError(f"{where} break the rule {first['check']} at column {column!r}; {_WAY_OUT}") from None
    if set(checked["fold"]) != {fold}:
        raise MentallamError(f"{where} are empty or belong to another fold; {_WAY_OUT}")
    if (checked["prediction"] != predict_labels(checked["probability"], checked["threshold"])).any():
        raise MentallamError(f"{where} contradict their threshold; {_WAY_OUT}")
    return checked[[name for name in OOF_SCHEMA.columns if name in checked]].astype(
        {"label": "int8", "prediction": "int8"}
    )
