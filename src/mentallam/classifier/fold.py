"""One fold: learn on its training posts, choose on its dev posts, score its held-out posts."""

import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from peft import PeftModel
from torch import Tensor
from transformers import set_seed

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.compiling import compiler_errors, uncompile_layers
from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.frozen import with_states
from mentallam.classifier.model import build_classifier
from mentallam.classifier.progress import LogMetrics
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import TrainingOutcome, train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.decision import fit_decision
from mentallam.runners import training_alone
from mentallam.seeds import sample_seed, training_seed

logger = logging.getLogger(__name__)


def fit_fold(
    config: Config,
    base: BaseModel,
    split: Mapping[str, Any],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    frozen_states: Mapping[str, Tensor],
    origin: Mapping[str, Any],
    log_metrics: LogMetrics,
) -> tuple[TrainedFold, TrainingOutcome, pd.DataFrame]:
    """Trains one fold and fits its decision on the dev posts; the held-out posts are not looked at.

    Args:
        config: The resolved configuration.
        base: The base model on disk.
        split: The fold's file: fold, seed, and post ids under train and dev.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label, explicit_negative.
        groups: Columns post_id, group.
        frozen_states: What `frozen.frozen_states` gives; empty where every layer is trained.
        origin: What the checkpoint shall say of where it comes from.
        log_metrics: Called with the figures of each step and epoch.

    Returns:
        The classifier at its best epoch, how the training went, and the dev pairs as `score_fold` gives the held-out
        ones; those that the decision was fitted on.

    Raises:
        MentallamError: Another fold is trained in this process at the same time.
    """
    training = config.training
    seed = training_seed(training.seed, split["fold"])
    parts = learnt_from(split, training.sample_fraction)
    if training.sample_fraction < 1:
        sizes = [f"{len(chosen)} of {len(split[part])} {part} posts" for part, chosen in parts.items()]
        logger.warning("fold %s learns from %s: training.sample_fraction", split["fold"], " and ".join(sizes))
    with training_alone(), deterministic_algorithms(training.deterministic), compiler_errors():
        set_seed(seed)  # head and adapter start from it
        model, tokenizer = build_classifier(base, config)
        wording = wording_by_id(criteria)
        prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)
        learn, choose = (
            with_states(labelled_examples(prompter, parts[part], posts, pairs), frozen_states, model)
            for part in ("train", "dev")
        )
        outcome = train(
            model,
            learn,
            choose,
            training,
            seed,
            log_metrics,
            title=f"fold {split['fold']}",
        )
        uncompile_layers(model)
        scored = score_posts(model, prompter, config, split["fold"], parts["dev"], posts, pairs, groups, "dev")
    decision = fit_decision(scored, config.decision)
    return TrainedFold(model, prompter, config, base, decision, origin), outcome, decision.decide(scored)


def score_fold(
    trained: TrainedFold, split: Mapping[str, Any], posts: pd.DataFrame, pairs: pd.DataFrame, groups: pd.DataFrame
) -> pd.DataFrame:
    """Scores the held-out pairs of one fold, once.

    Args:
        trained: The fold's classifier.
        split: The fold's file: fold, and post ids under held_out.
        posts: Columns post_id, text.
        pairs: Columns post_id, criterion_id, label, explicit_negative.
        groups: Columns post_id, group.

    Returns:
        The fold's part of the out-of-fold table: post_id, criterion_id, group, fold, label, explicit_negative, logit,
        probability, threshold, prediction, truncated, post_tokens.
    """
    config, held_out = trained.config, split["held_out"]
    with deterministic_algorithms(config.training.deterministic), compiler_errors():
        scored = score_posts(
            trained.model, trained.prompter, config, split["fold"], held_out, posts, pairs, groups, "held out"
        )
    return trained.decision.decide(scored)


def score_posts(
    model: PeftModel,
    prompter: Prompter,
    config: Config,
    fold: int,
    post_ids: Sequence[str],
    posts: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
    part: str,
) -> pd.DataFrame:
    """The logit of every labelled pair of some posts, and what is known of the pair.

    Args:
        model: The classifier.
        prompter: Tokenizer and criteria.
        config: The resolved configuration.
        fold: The fold's number.
        post_ids: Which posts.
        posts: Columns post_id, text.
        pairs: Columns post_id, criterion_id, label, explicit_negative.
        groups: Columns post_id, group.
        part: What these posts are to the fold; words in the progress bar.

    Returns:
        Columns post_id, criterion_id, group, fold, label, explicit_negative, logit, truncated, post_tokens (of the post
        as the model read it, with what the template puts before it).
    """
    examples = labelled_examples(prompter, post_ids, posts, pairs)
    logits = score_pairs(model, examples, config.inference.tokens_per_pass, progress=f"fold {fold} {part}")
    table = pd.DataFrame(
        [
            (example.post_id, criterion_id, example.truncated, len(example.prefix) - prompter.template_tokens)
            for example in examples
            for criterion_id in example.criterion_ids
        ],
        columns=["post_id", "criterion_id", "truncated", "post_tokens"],
    )
    facts = pairs[["post_id", "criterion_id", "label", "explicit_negative"]]
    table = table.merge(facts, on=["post_id", "criterion_id"], how="left", validate="one_to_one")
    group = table["post_id"].map(groups.set_index("post_id")["group"])
    return table.assign(group=group, fold=fold, logit=logits)


def learnt_from(split: Mapping[str, Any], fraction: float) -> dict[str, list[str]]:
    """Return the posts under train and dev that a fold takes.

    Args:
        split: The fold's file.
        fraction: Share of them, `training.sample_fraction`.
    """
    seed = sample_seed(split["seed"], split["fold"])
    return {part: sample(split[part], fraction, seed) for part in ("train", "dev")}


def sample(post_ids: Sequence[str], fraction: float, seed: int) -> list[str]:
    """A random share of the posts, at least one, in their order.

    Args:
        post_ids: All of them.
        fraction: Above 0 and at most 1.
        seed: Chooses them.
    """
    size = min(len(post_ids), max(1, round(fraction * len(post_ids))))
    chosen = random.Random(seed).sample(range(len(post_ids)), size)
    return [post_ids[position] for position in sorted(chosen)]


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """PyTorch's deterministic algorithms for the work inside; torch is left as it was.

    Not transformers' `enable_full_determinism`: it also makes each GPU kernel wait for the last, which changes no
    result, and can't be taken back.

    Args:
        wanted: False leaves everything as it is.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses products on a GPU
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
