"""The fields of a prediction: predictor, registered model, command line and docs read this one list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mentallam.evaluation.thresholds import predict_labels

ANSWERS = {1: "yes", 0: "no"}


@dataclass(frozen=True)
class FoldDecisions:
    """What one or several folds decided about the same pairs.

    Attributes:
        pairs: Columns post_id and criterion_id, one row per pair.
        by_fold: A table per fold, as `Decision.decide` returns it for these pairs.
        run_id: MLflow run of the fold, or of the cross-validation if there are several folds.
    """

    pairs: pd.DataFrame
    by_fold: Sequence[pd.DataFrame]
    run_id: str

    def mean(self, column: str) -> Any:
        """Return the mean of a column over the folds, one value per pair."""
        return sum(table[column] for table in self.by_fold) / len(self.by_fold)

    @property
    def labels(self) -> list[str]:
        """The answer per pair: the mean probability compared with the mean threshold."""
        return [ANSWERS[int(label)] for label in predict_labels(self.mean("probability"), self.mean("threshold"))]


@dataclass(frozen=True)
class OutputField:
    """One field of a prediction.

    Attributes:
        name: Column of the table, key of the JSON object.
        type: MLflow's name of the data type: string or double.
        meaning: One sentence for the docs.
        compute: Returns the field's values from the folds' decisions.
        heading: Heading in the table of `mentallam predict`; empty leaves the field out.
        format: How that table writes a value.
        served: Whether a registered model returns the field.
    """

    name: str
    type: str
    meaning: str
    compute: Callable[[FoldDecisions], Any]
    heading: str = ""
    format: str = "{}"
    served: bool = True


OUTPUT_FIELDS = (
    OutputField("post_id", "string", "the post's id", lambda decisions: decisions.pairs["post_id"]),
    OutputField(
        "criterion_id",
        "string",
        "the criterion's id",
        lambda decisions: decisions.pairs["criterion_id"],
        heading="criterion",
    ),
    OutputField(
        "label",
        "string",
        "`yes` where `probability` >= `threshold`, otherwise `no`",
        lambda decisions: decisions.labels,
        heading="match",
    ),
    OutputField(
        "probability",
        "double",
        "calibrated probability of a match",
        lambda decisions: decisions.mean("probability"),
        heading="probability",
        format="{:.3f}",
    ),
    OutputField(
        "threshold",
        "double",
        "probability from which on the pair counts as a match",
        lambda decisions: decisions.mean("threshold"),
        heading="threshold",
        format="{:.2f}",
    ),
    OutputField(
        "run_id",
        "string",
        "MLflow run of the fold that answered, or of the cross-validation where all its folds answered",
        lambda decisions: decisions.run_id,
        served=False,
    ),
)


def output_table(decisions: FoldDecisions) -> pd.DataFrame:
    """Return one row per pair, with the columns of `OUTPUT_FIELDS` in their order."""
    columns = {field.name: field.compute(decisions) for field in OUTPUT_FIELDS}
    return decisions.pairs.assign(**columns)[list(columns)]
