"""Predictions of a trained checkpoint on new posts."""

from pathlib import Path

import pandas as pd

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.config import InferenceConfig
from mentallam.corpus.cleaning import prepare_text
from mentallam.evaluation.thresholds import predict_labels
from mentallam.tracking import download_checkpoint

LABEL_WORDS = {1: "yes", 0: "no"}


class Predictor:
    """A checkpoint, ready to answer.

    Args:
        trained: The checkpoint.
        tokens_per_pass: Tokens of one pass.
    """

    def __init__(self, trained: TrainedFold, tokens_per_pass: int) -> None:
        self._trained = trained
        self._tokens_per_pass = tokens_per_pass

    @property
    def criteria(self) -> dict[str, str]:
        """Wording by criterion id."""
        return self._trained.prompter.criteria

    @classmethod
    def from_run(cls, run_id: str, base_models: Path, config: InferenceConfig) -> "Predictor":
        """Loads the checkpoint of a fold's MLflow run.

        Raises:
            MentallamError: The run holds no complete checkpoint, or its base model can't be had.
        """
        trained = load_checkpoint(download_checkpoint(run_id), base_models, config.dtype, config.merge_adapter)
        return cls(trained, config.tokens_per_pass)

    def predict(self, posts: pd.DataFrame, progress: str | None = None) -> pd.DataFrame:
        """Asks each post its criteria.

        Args:
            posts: Columns post_id, text, criterion_id (None: all criteria); rows of one post may name several.
            progress: Words before a progress bar; no bar without them.

        Returns:
            Columns post_id, criterion_id, label (yes or no), probability, threshold, run_id; posts in their order,
            criteria in the checkpoint's. Never the text.

        Raises:
            MentallamError: A criterion that the checkpoint doesn't know.
        """
        prompter = self._trained.prompter
        # Posts are read as the training posts were; checkpoints that don't say were trained on unmasked ones.
        mask = self._trained.origin.get("mask", False)
        examples = []
        for post_id, rows in posts.groupby("post_id", sort=False):
            asked = rows["criterion_id"]
            criteria = None if asked.isna().any() else list(dict.fromkeys(asked))
            text, _ = prepare_text(rows["text"].iloc[0], mask)
            examples.append(prompter.example(str(post_id), text, criteria))
        probabilities = sigmoid(score_pairs(self._trained.model, examples, self._tokens_per_pass, progress))
        labels = predict_labels(probabilities, self._trained.threshold)
        return pd.DataFrame(
            {
                "post_id": [example.post_id for example in examples for _ in example.criterion_ids],
                "criterion_id": [criterion for example in examples for criterion in example.criterion_ids],
                "label": [LABEL_WORDS[int(label)] for label in labels],
                "probability": probabilities,
                "threshold": self._trained.threshold,
                "run_id": self._trained.origin["run_id"],
            }
        )
