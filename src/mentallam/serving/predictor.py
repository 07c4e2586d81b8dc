"""Predictions on new posts by one trained fold, or by several folds of one cross-validation together."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.shared_base import release_base
from mentallam.config import InferenceConfig
from mentallam.corpus.cleaning import prepare_text
from mentallam.errors import MentallamError
from mentallam.evaluation.decision import Thresholds
from mentallam.serving.output_fields import FoldDecisions, output_table


class Predictor:
    """One or several trained folds, ready to answer.

    Several folds answer with the mean of their probabilities and the mean of their thresholds.

    Args:
        folds: The trained folds. All read a post alike, so it is cleaned and tokenized once.
        tokens_per_pass: Tokens of one forward pass.
        threshold: One threshold for all criteria, in place of those that training chose.

    Raises:
        MentallamError: Two folds differ in what they read or in how they decide.
    """

    def __init__(self, folds: Sequence[TrainedFold], tokens_per_pass: int, threshold: float | None = None) -> None:
        _refuse_mixture(folds)
        self._folds = folds
        self._tokens_per_pass = tokens_per_pass
        self._decisions = [
            fold.decision if threshold is None else replace(fold.decision, thresholds=Thresholds(threshold))
            for fold in folds
        ]
        self._run_id = folds[0].origin["run_id" if len(folds) == 1 else "cv_run_id"]

    @property
    def criteria(self) -> dict[str, str]:
        """Wording by criterion id."""
        return self._folds[0].prompter.criteria

    @classmethod
    def load(cls, folders: Sequence[Path], base_models: Path, config: InferenceConfig) -> "Predictor":
        """Load one or several checkpoints.

        Args:
            folders: A checkpoint per fold.
            base_models: Folder of the base weights that were converted or made on this machine.
            config: How predictions are made.

        Raises:
            MentallamError: A folder holds no complete checkpoint, its base model can't be loaded, or the folds differ
                in what they read or in how they decide.
        """
        try:
            folds = [load_checkpoint(folder, base_models, config.dtype, config.merge_adapter) for folder in folders]
        finally:
            release_base()  # the models hold what they need of it; merged ones need little
        return cls(folds, config.tokens_per_pass, config.threshold)

    def predict(self, posts: pd.DataFrame, progress: str | None = None) -> pd.DataFrame:
        """Compare each post with its criteria.

        Args:
            posts: Columns post_id, text, criterion_id (None: all criteria); a post may have several rows.
            progress: Words before a progress bar; None shows no bar.

        Returns:
            One row per post and criterion with the columns of `output_fields.OUTPUT_FIELDS`, never the text; posts in
            their order, criteria in the checkpoint's.

        Raises:
            MentallamError: The checkpoint doesn't know a criterion.
        """
        examples = self._examples(posts)
        pairs = pd.DataFrame(
            [(example.post_id, criterion) for example in examples for criterion in example.criterion_ids],
            columns=["post_id", "criterion_id"],
        )
        by_fold = [
            decision.decide(pairs.assign(logit=score_pairs(fold.model, examples, self._tokens_per_pass, progress)))
            for fold, decision in zip(self._folds, self._decisions, strict=True)
        ]
        return output_table(FoldDecisions(pairs, by_fold, self._run_id))

    def _examples(self, posts: pd.DataFrame) -> list[PostExample]:
        fold = self._folds[0]
        examples = []
        for post_id, rows in posts.groupby("post_id", sort=False):
            asked = rows["criterion_id"]
            criteria = None if asked.isna().any() else list(dict.fromkeys(asked))
            text, _ = prepare_text(rows["text"].iloc[0], _masked(fold))
            examples.append(fold.prompter.example(str(post_id), text, criteria))
        return examples


def _masked(fold: TrainedFold) -> bool:
    """Return whether the posts were masked in training; a checkpoint that does not say so was trained without."""
    return bool(fold.origin.get("mask", False))


def _refuse_mixture(folds: Sequence[TrainedFold]) -> None:
    first, *others = ((fold, _shared_facts(fold)) for fold in folds)
    for fold, facts in others:
        differing = [name for name, value in facts.items() if value != first[1][name]]
        if differing:
            raise MentallamError(
                f"the folds {first[0].origin['fold']} and {fold.origin['fold']} can't answer together, since they "
                f"differ in {', '.join(differing)}; take the folds of one cross-validation"
            )


def _shared_facts(fold: TrainedFold) -> Mapping[str, Any]:
    """Return what folds must share, or the mean of their probabilities has no meaning."""
    config = fold.config
    return {
        "cross-validation": fold.origin["cv_run_id"],
        "data": fold.origin["data_hash"],
        "masking": _masked(fold),
        "base model": fold.base.fingerprint,
        "prompt": config.model.prompt,
        "max_length": config.model.max_length,
        "criteria": list(fold.prompter.criteria.items()),
        "decision": config.decision,
    }
