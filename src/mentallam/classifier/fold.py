"""One fold: learn on its training posts, choose on its dev posts, score its held-out posts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from transformers import set_seed

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training import LogMetrics, TrainingOutcome, train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.folds import group_of
from mentallam.evaluation.thresholds import predict_labels


def fit_fold(
    config: Config,
    base: BaseModel,
    split: Mapping[str, Any],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    origin: Mapping[str, Any],
    log_metrics: LogMetrics,
) -> tuple[TrainedFold, TrainingOutcome]:
    """Trains one fold; the held-out posts are not looked at.

    Args:
        config: The resolved configuration.
        base: The base model on disk.
        split: The fold's file: fold, seed, and post ids under train and dev.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label.
        origin: What the checkpoint shall say of where it comes from.
        log_metrics: Called with the figures of each step and epoch.
    """
    seed = fold_seed(split)
    set_seed(seed)  # head and adapter start from it
    model, tokenizer = build_classifier(base, config)
    wording = dict(zip(criteria["criterion_id"], criteria["criterion"], strict=True))
    prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)
    outcome = train(
        model,
        labelled_examples(prompter, split["train"], posts, pairs),
        labelled_examples(prompter, split["dev"], posts, pairs),
        config.training,
        seed,
        log_metrics,
        title=f"fold {split['fold']}",
    )
    return TrainedFold(model, prompter, config, base, outcome.threshold, origin), outcome


def score_fold(
    trained: TrainedFold, split: Mapping[str, Any], posts: pd.DataFrame, pairs: pd.DataFrame
) -> pd.DataFrame:
    """Scores the held-out pairs of one fold, once.

    Returns:
        The fold's part of the out-of-fold table: post_id, criterion_id, group, fold, label, explicit_negative, logit,
        probability, threshold, prediction, truncated.
    """
    examples = labelled_examples(trained.prompter, split["held_out"], posts, pairs)
    logits = score_pairs(
        trained.model, examples, trained.config.inference.posts_per_batch, progress=f"fold {split['fold']} held out"
    )
    probabilities = sigmoid(logits)
    table = pd.DataFrame(
        [
            (example.post_id, criterion_id, example.truncated)
            for example in examples
            for criterion_id in example.criterion_ids
        ],
        columns=["post_id", "criterion_id", "truncated"],
    ).merge(
        pairs[["post_id", "criterion_id", "label", "explicit_negative"]],
        on=["post_id", "criterion_id"],
        how="left",
        validate="one_to_one",
    )
    return table.assign(
        group=group_of(table["post_id"], split["group_by"]),
        fold=split["fold"],
        logit=logits,
        probability=probabilities,
        threshold=trained.threshold,
        prediction=predict_labels(probabilities, trained.threshold),
    )


def labelled_examples(
    prompter: Prompter, post_ids: Sequence[str], posts: pd.DataFrame, pairs: pd.DataFrame
) -> list[PostExample]:
    """The named posts with the criteria that have a label for them.

    Args:
        prompter: Makes the token ids.
        post_ids: Which posts, in this order.
        posts: Columns post_id, text.
        pairs: Columns post_id, criterion_id, label.
    """
    texts = posts.set_index("post_id")["text"]
    labels = pairs[pairs["post_id"].isin(set(post_ids))].groupby("post_id", sort=False)
    asked = {post_id: (list(own["criterion_id"]), list(own["label"].astype(int))) for post_id, own in labels}
    return [prompter.example(post_id, texts[post_id], *asked[post_id]) for post_id in post_ids]


def fold_seed(split: Mapping[str, Any]) -> int:
    """The seed of a fold's head, adapter and order of posts."""
    return int(split["seed"]) + int(split["fold"])
