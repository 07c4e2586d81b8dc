"""What the frames between nodes must look like; a breach is told without showing a value."""

from __future__ import annotations

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from mentallam.errors import MentallamError

_ID = pa.Column(str, pa.Check.str_length(min_value=1))
_LABEL = pa.Column("int8", pa.Check.isin([0, 1]))
_PROBABILITY = pa.Column(float, pa.Check.in_range(0, 1))

POSTS = pa.DataFrameSchema(
    {
        "post_id": _ID,
        "text": pa.Column(str, pa.Check.str_length(min_value=1)),
        "raw_sha256": pa.Column(str, pa.Check.str_length(64, 64)),
        "author": pa.Column(str, pa.Check.str_length(min_value=1), nullable=True),
    },
    strict=True,
    unique=["post_id"],
    name="posts",
)
CRITERIA = pa.DataFrameSchema(
    {"criterion_id": _ID, "symptom": _ID, "criterion": _ID},
    strict=True,
    unique=["criterion_id"],
    name="criteria",
)
PAIRS = pa.DataFrameSchema(
    {
        "post_id": _ID,
        "criterion_id": _ID,
        "label": _LABEL,
        "explicit_negative": pa.Column(bool),
        "evidence": pa.Column(str),
    },
    pa.Check(
        lambda pairs: ~((pairs["label"] == 1) & pairs["explicit_negative"]),
        name="a positive pair is no explicit negative",
    ),
    strict=True,
    unique=["post_id", "criterion_id"],
    name="pairs",
)
DUPLICATES = pa.DataFrameSchema(
    {"post_id": _ID, "duplicate_of": _ID, "similarity": _PROBABILITY},
    strict=True,
    unique=["post_id", "duplicate_of"],
    name="duplicates",
)
GROUPS = pa.DataFrameSchema({"post_id": _ID, "group": _ID}, strict=True, unique=["post_id"], name="groups")


def validate(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return `frame` if it is as `schema` says.

    Raises:
        MentallamError: It is not; the sentence names columns and checks, never values (they may be text).
    """
    try:
        schema.validate(frame.reset_index(drop=True), lazy=True)
        return frame
    except SchemaErrors as errors:
        cases = errors.failure_cases
        # Here the failing "value" is a column's name; everywhere else it may be somebody's words.
        about_columns = cases["check"].isin(["column_in_dataframe", "column_in_schema"])
        column = cases["column"].where(~about_columns, cases["failure_case"]).fillna("rows")
        breaches = ", ".join(sorted(set(column + ": " + cases["check"].astype(str))))
    raise MentallamError(f"The {schema.name} break their schema ({breaches}); run data_processing again.")
