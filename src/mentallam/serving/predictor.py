"""Predictions on new posts: one trained fold, or several folds of one cross-validation that answer together."""

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
from mentallam.evaluation.thresholds import predict_labels

LABEL_WORDS = {1: "yes", 0: "no"}


class Predictor:
    """One or several trained folds, ready to answer; several answer with the means of probabilities and thresholds.

    Args:
        folds: The trained folds. They read a post alike, so it is cleaned and tokenized once for all of them.
        tokens_per_pass: Tokens of one pass.
        threshold: For all criteria, instead of the thresholds that training chose.

    Raises:
        MentallamError: Two of the folds differ in what they read or in how they decide.
    """

    def __init__(self, folds: Sequence[TrainedFold], tokens_per_pass: int, threshold: float | None = None) -> None:
        _refuse_mixture(folds)
        self._folds = folds
        self._tokens_per_pass = tokens_per_pass
        self._decisions = [
            fold.decision if threshold is None else replace(fold.decision, thresholds=Thresholds(threshold))
            for fold in folds
        ]
        run = "run_id" if len(folds) == 1 else "cv_run_id"
        self._run_id = folds[0].origin[run]

    @property
    def criteria(self) -> dict[str, str]:
        """Wording by criterion id."""
        return self._folds[0].prompter.criteria

    @classmethod
    def load(cls, folders: Sequence[Path], base_models: Path, config: InferenceConfig) -> "Predictor":
        """Load one or several checkpoints.

        Args:
            folders: A checkpoint per fold.
            base_models: Where base weights made on this machine lie.
            config: How predictions are made.

        Raises:
            MentallamError: A folder holds no complete checkpoint, its base model can't be had, or the folds differ in
                what they read or in how they decide.
        """
        try:
            folds = [load_checkpoint(folder, base_models, config.dtype, config.merge_adapter) for folder in folders]
        finally:
            release_base()  # the models hold what they need of it; merged ones need little
        return cls(folds, config.tokens_per_pass, config.threshold)

    def predict(self, posts: pd.DataFrame, progress: str | None = None) -> pd.DataFrame:
        """Compare each post with its criteria.

        Args:
            posts: Columns post_id, text, criterion_id (None: all criteria); rows of one post may name several.
            progress: Words before a progress bar; no bar without them.

        Returns:
            Columns post_id, criterion_id, label (yes or no), probability (calibrated), threshold, run_id (the fold's,
            or the cross-validation's for several folds); posts in their order, criteria in the checkpoint's. Never the
            text.

        Raises:
            MentallamError: A criterion that the checkpoint doesn't know.
        """
        examples = self._examples(posts)
        pairs = pd.DataFrame(
            [(example.post_id, criterion) for example in examples for criterion in example.criterion_ids],
            columns=["post_id", "criterion_id"],
        )
        decided = [
            decision.decide(pairs.assign(logit=score_pairs(fold.model, examples, self._tokens_per_pass, progress)))
            for fold, decision in zip(self._folds, self._decisions, strict=True)
        ]
        means = {name: sum(table[name] for table in decided) / len(decided) for name in ("probability", "threshold")}
        labels = [LABEL_WORDS[int(label)] for label in predict_labels(means["probability"], means["threshold"])]
        return pairs.assign(label=labels, **means, run_id=self._run_id)

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
    """Whether the posts were masked in training; they were not in a checkpoint that does not say."""
    return bool(fold.origin.get("mask", False))


def _refuse_mixture(folds: Sequence[TrainedFold]) -> None:
    first, *others = ((fold, _read_and_decided_by(fold)) for fold in folds)
    for fold, facts in others:
        differing = [name for name, value in facts.items() if value != first[1][name]]
        if differing:
            raise MentallamError(
                f"the folds {first[0].origin['fold']} and {fold.origin['fold']} can't answer together, since they "
                f"differ in {', '.join(differing)}; take the folds of one cross-validation"
            )


def _read_and_decided_by(fold: TrainedFold) -> Mapping[str, Any]:
    """What folds must share for the mean of their probabilities to have a meaning."""
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
