"""The fields of a prediction: predictor, registered model, command line and docs read this one list."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mentallam.evaluation.few_positives import FEW
from mentallam.serving.evidence import MOST_NAMED, Evidence

ANSWERS = {1: "yes", 0: "no"}

TRAINED, UNTRAINED = "trained", "untrained wording, uncalibrated"
"""What an answer says about the wording of its criterion: whether the model was trained on it."""

INVENTED, FEW_MATCHES = "SYNTHETIC training posts", f"fewer than {FEW} training matches"
"""What weakens an answer, whatever its probability."""

Answers = dict[str, list[Any]]
"""Answers by field, in the order of `OUTPUT_FIELDS`; one value per pair."""


class Pair(NamedTuple):
    """A pair that was asked.

    Attributes:
        post_id: The post.
        criterion_id: The criterion.
        truncated: Whether the post was cut to fit.
        wording: `TRAINED` or `UNTRAINED`.
    """

    post_id: str
    criterion_id: str
    truncated: bool
    wording: str


@dataclass(frozen=True)
class FoldDecisions:
    """What F folds decided about the same n pairs.

    Attributes:
        pairs: The pairs.
        probability: (n,) float64, calibrated, of all folds together.
        thresholds: (F, n) float64.
        run_id: MLflow run of the fold, or of the cross-validation if there are several folds.
        cautions: What weakens the answers to a criterion, by its id; none without an entry.
        evidence: The sentences that carry each yes, per pair; None if nobody asked for them.
    """

    pairs: Sequence[Pair]
    probability: NDArray[np.float64]
    thresholds: NDArray[np.float64]
    run_id: str
    cautions: Mapping[str, str] = field(default_factory=dict)
    evidence: Sequence[list[Evidence]] | None = None

    @property
    def threshold(self) -> NDArray[np.float64]:
        """The mean over the folds, (n,)."""
        return np.asarray(self.thresholds.mean(axis=0))

    @property
    def labels(self) -> list[str]:
        """The answer per pair: the probability compared with the mean threshold."""
        return [ANSWERS[int(label)] for label in self.probability >= self.threshold]


@dataclass(frozen=True)
class OutputField:
    """One field of a prediction.

    Attributes:
        name: Column of the table, key of the JSON object.
        type: The data type, by MLflow's name: string, boolean or double; evidence is an array of objects.
        meaning: One sentence for the docs.
        compute: Returns the field's values from the folds' decisions, one per pair.
        heading: Heading in the table of `mentallam predict`; empty leaves the field out.
        format: How that table writes a value.
        served: Whether a registered model returns the field.
        explains: Whether only answers with evidence have the field.
    """

    name: str
    type: str
    meaning: str
    compute: Callable[[FoldDecisions], list[Any]]
    heading: str = ""
    format: str = "{}"
    served: bool = True
    explains: bool = False


OUTPUT_FIELDS = (
    OutputField("post_id", "string", "the post's id", lambda decisions: [pair.post_id for pair in decisions.pairs]),
    OutputField(
        "criterion_id",
        "string",
        "the criterion's id",
        lambda decisions: [pair.criterion_id for pair in decisions.pairs],
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
        lambda decisions: decisions.probability.tolist(),
        heading="probability",
        format="{:.3f}",
    ),
    OutputField(
        "threshold",
        "double",
        "probability from which on the pair counts as a match",
        lambda decisions: decisions.threshold.tolist(),
        heading="threshold",
        format="{:.2f}",
    ),
    OutputField(
        "truncated",
        "boolean",
        "whether the end of the post was cut off, since the model reads `model.max_length` tokens",
        lambda decisions: [pair.truncated for pair in decisions.pairs],
    ),
    OutputField(
        "wording",
        "string",
        f"`{TRAINED}`, or `{UNTRAINED}` for a criterion of your own that the model was not trained on",
        lambda decisions: [pair.wording for pair in decisions.pairs],
    ),
    OutputField(
        "caution",
        "string",
        f"what weakens every answer to the criterion: `{INVENTED}` (invented, not people's), `{FEW_MATCHES}` "
        "(posts that match), both with `; ` between them, or empty",
        lambda decisions: [decisions.cautions.get(pair.criterion_id, "") for pair in decisions.pairs],
    ),
    OutputField(
        "run_id",
        "string",
        "MLflow run of the fold that answered, or of the cross-validation where all its folds answered",
        lambda decisions: [decisions.run_id] * len(decisions.pairs),
        served=False,
    ),
    OutputField(
        "evidence",
        "array",
        f"the sentences that carry a yes, at most {MOST_NAMED}, best first, as objects of `sentence`, `start`, `end` "
        "and `drop`; only with `explain`",
        lambda decisions: list(decisions.evidence or ()),
        served=False,
        explains=True,
    ),
)


def cautions_for(criteria: Iterable[str], synthetic: bool, positive: Mapping[str, int]) -> dict[str, str]:
    """Return what weakens the answers of a model, by criterion; an entry is empty if nothing does.

    Args:
        criteria: The criteria that are asked.
        synthetic: Whether the model was trained on invented posts.
        positive: Matched pairs that it learnt from, by criterion; one without an entry is not judged.
    """
    return {
        name: "; ".join([INVENTED] * synthetic + [FEW_MATCHES] * (positive.get(name, FEW) < FEW)) for name in criteria
    }


def fields_with(explain: bool) -> list[OutputField]:
    """Return the fields of answers with or without evidence."""
    return [field for field in OUTPUT_FIELDS if explain or not field.explains]


def answers_of(decisions: FoldDecisions) -> Answers:
    """Return the fields of all pairs."""
    return {field.name: field.compute(decisions) for field in fields_with(decisions.evidence is not None)}
