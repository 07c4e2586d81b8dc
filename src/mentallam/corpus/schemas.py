"""The schemas of the frames between nodes; an error names columns and checks, never a value."""

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
    {"post_id": _ID, "duplicate_of": _ID, "similarity": _PROBABILITY, "containment": _PROBABILITY},
    strict=True,
    unique=["post_id", "duplicate_of"],
    name="duplicates",
)
GROUPS = pa.DataFrameSchema(
    {"post_id": _ID, "group": _ID, "cluster": _ID}, strict=True, unique=["post_id"], name="groups"
)


def validate(frame: pd.DataFrame, schema: pa.DataFrameSchema) -> pd.DataFrame:
    """Return `frame` if it satisfies `schema`.

    Raises:
        MentallamError: It does not; the message names columns and checks, never values, which may be a post's text.
    """
    try:
        schema.validate(frame.reset_index(drop=True), lazy=True)
        return frame
    except SchemaErrors as errors:
        cases = errors.failure_cases
        # In these two checks the failing "value" is a column's name; in any other it may be a post's text.
        about_columns = cases["check"].isin(["column_in_dataframe", "column_in_schema"])
        column = cases["column"].where(~about_columns, cases["failure_case"]).fillna("rows")
        breaches = ", ".join(sorted(set(column + ": " + cases["check"].astype(str))))
    raise MentallamError(f"the frame {schema.name} does not satisfy its schema ({breaches}); run data_processing again")


def wording_by_id(criteria: pd.DataFrame) -> dict[str, str]:
    """Return the wording of each criterion, the column `criterion`, by criterion_id."""
    return dict(zip(criteria["criterion_id"], criteria["criterion"], strict=True))
