"""Predictions of several folds together: the mean of their probabilities against the mean of their thresholds."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mentallam.classifier.checkpoint import load_checkpoint
from mentallam.classifier.shared_base import release_base
from mentallam.config import InferenceConfig
from mentallam.evaluation.thresholds import predict_labels
from mentallam.serving.predictor import LABEL_WORDS, Predictor


class Ensemble:
    """Folds of one cross-validation that answer together; one fold answers as it does alone.

    Args:
        members: A predictor per fold; all know the same criteria.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self._members = members

    def predict(self, posts: pd.DataFrame) -> pd.DataFrame:
        """Asks each post its criteria.

        Args:
            posts: As `Predictor.predict` takes them.

        Returns:
            Columns post_id, criterion_id, label, probability, threshold, in the order of `Predictor.predict`: the
            means of the folds' probabilities and thresholds, and the label that follows.

        Raises:
            MentallamError: A criterion that the checkpoints don't know.
        """
        tables = [member.predict(posts) for member in self._members]
        means = {name: sum(table[name] for table in tables) / len(tables) for name in ("probability", "threshold")}
        labels = predict_labels(means["probability"], means["threshold"])
        label = [LABEL_WORDS[int(label)] for label in labels]
        return tables[0][["post_id", "criterion_id"]].assign(label=label, **means)


def load_ensemble(folders: Sequence[Path], base_models: Path, config: InferenceConfig) -> Ensemble:
    """Loads the checkpoints of one cross-validation; the base model is held once, unless adapters are merged into it.

    Args:
        folders: A checkpoint per fold.
        base_models: Where base weights made on this machine lie.
        config: How predictions are made.

    Raises:
        MentallamError: A folder holds no complete checkpoint, or its base model can't be had.
    """
    try:
        members = [
            Predictor(
                load_checkpoint(folder, base_models, config.dtype, config.merge_adapter),
                config.tokens_per_pass,
                config.threshold,
            )
            for folder in folders
        ]
    finally:
        release_base()  # the members hold what they need of it; merged ones need little
    return Ensemble(members)
