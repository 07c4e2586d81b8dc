"""Checks and types of the arrays that every metric reads: labels and probabilities."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mentallam.errors import MentallamError

Labels: TypeAlias = NDArray[np.int8]
Probabilities: TypeAlias = NDArray[np.float64]


def checked_labels(labels: ArrayLike) -> Labels:
    """Return labels as an int8 array.

    Args:
        labels: 0 (unmatched) or 1 (matched), shape (n,), any numeric or boolean type.

    Raises:
        MentallamError: No pair, or a label that is neither 0 nor 1.
    """
    values = np.asarray(labels)
    if values.size == 0:
        raise MentallamError(
            "there is no pair to evaluate: the fold or table is empty; run data_processing again to make the folds"
        )
    if not np.isin(values, (0, 1)).all():
        raise MentallamError("a label to evaluate is neither 0 nor 1; check the label column of the pairs")
    return values.astype(np.int8)


def has_one_label(labels: ArrayLike) -> bool:
    """Return whether all pairs have the same label: no threshold, epoch or fold can then be chosen by them.

    Args:
        labels: 0 or 1, shape (n,).

    Raises:
        MentallamError: No pair, or a label that is not 0 or 1.
    """
    return len(np.unique(checked_labels(labels))) == 1


def checked_pairs(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Labels, Probabilities]:
    """Return labels and probabilities as arrays of fixed types.

    Probabilities are compared as float64 everywhere. Otherwise a float32 probability and a threshold of 0.37 could be
    compared in float32 in one place and in float64 in another, and the same pair would get two predictions.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: Of label 1, from 0 to 1, shape (n,).

    Returns:
        int8 labels and float64 probabilities, both of shape (n,).

    Raises:
        MentallamError: No pair, a label that is not 0 or 1, or a probability that is not a number from 0 to 1.
        ValueError: The two differ in length.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    targets = checked_labels(labels)
    if len(targets) != len(scores):
        raise ValueError(f"{len(targets)} labels and {len(scores)} probabilities")
    if not ((scores >= 0) & (scores <= 1)).all():
        raise MentallamError(
            "a probability to evaluate is not a number from 0 to 1: the training has probably diverged; "
            "lower training.learning_rate and train again"
        )
    return targets, scores
