"""Predictions of a trained checkpoint on new posts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.scoring import score_pairs
from mentallam.config import InferenceConfig
from mentallam.corpus.cleaning import prepare_text
from mentallam.evaluation.decision import Thresholds

LABEL_WORDS = {1: "yes", 0: "no"}


class Predictor:
    """A checkpoint, ready to answer.

    Args:
        trained: The checkpoint.
        tokens_per_pass: Tokens of one pass.
        threshold: For all criteria, instead of those that training chose.
    """

    def __init__(self, trained: TrainedFold, tokens_per_pass: int, threshold: float | None = None) -> None:
        self._trained = trained
        self._tokens_per_pass = tokens_per_pass
        chosen = trained.decision.thresholds if threshold is None else Thresholds(threshold)
        self._decision = replace(trained.decision, thresholds=chosen)

    @property
    def criteria(self) -> dict[str, str]:
        """Wording by criterion id."""
        return self._trained.prompter.criteria

    @classmethod
    def load(cls, folders: Sequence[Path], base_models: Path, config: InferenceConfig) -> "Predictor":
        """Load a checkpoint.

        Raises:
            MentallamError: The folder holds no complete checkpoint, or its base model can't be had.
        """
        (folder,) = folders
        trained = load_checkpoint(folder, base_models, config.dtype, config.merge_adapter)
        return cls(trained, config.tokens_per_pass, config.threshold)

    def predict(self, posts: pd.DataFrame, progress: str | None = None) -> pd.DataFrame:
        """Asks each post its criteria.

        Args:
            posts: Columns post_id, text, criterion_id (None: all criteria); rows of one post may name several.
            progress: Words before a progress bar; no bar without them.

        Returns:
            Columns post_id, criterion_id, label (yes or no), probability (calibrated), threshold, run_id; posts in
            their order, criteria in the checkpoint's. Never the text.

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
        logits = score_pairs(self._trained.model, examples, self._tokens_per_pass, progress)
        asked_pairs = pd.DataFrame(
            [(example.post_id, criterion) for example in examples for criterion in example.criterion_ids],
            columns=["post_id", "criterion_id"],
        )
        decided = self._decision.decide(asked_pairs.assign(logit=logits))
        labels = decided["prediction"].map(LABEL_WORDS)
        decided = decided.assign(label=labels, run_id=self._trained.origin["run_id"])
        return decided[["post_id", "criterion_id", "label", "probability", "threshold", "run_id"]]
