"""One fold: train on its training posts, decide on its dev posts, score its held-out posts."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn
from transformers import set_seed

from mentallam.classifier.callbacks import EndsAfter, LogMetrics
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.compiling import compiler_errors, uncompile_layers
from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.frozen import frozen_states, with_states
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.ranks import open_ranks
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import TrainingOutcome, train
from mentallam.classifier.warm_start import check_start, learnt_posts, start_adapters
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.decision import fit_decision
from mentallam.evaluation.tallies import Tally
from mentallam.one_training import training_alone
from mentallam.seeds import sample_seed, training_seed

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CorpusTables:
    """The tables of a corpus.

    Attributes:
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label, explicit_negative.
        groups: Columns post_id, group, cluster.
    """

    posts: pd.DataFrame
    criteria: pd.DataFrame
    pairs: pd.DataFrame
    groups: pd.DataFrame


def fit_fold(
    config: Config,
    base: BaseModel,
    split: Mapping[str, Any],
    tables: CorpusTables,
    frozen_states: Mapping[str, Tensor],
    origin: Mapping[str, Any],
    log_metrics: LogMetrics,
    states_folder: Path,
    ends: EndsAfter | None = None,
) -> tuple[TrainedFold, TrainingOutcome, pd.DataFrame]:
    """Train one fold and fit its decision on the dev posts; the held-out posts are not looked at.

    Args:
        config: The resolved configuration.
        base: The base model on disk.
        split: The fold: its number, seed, and post ids under train and dev.
        tables: The corpus.
        frozen_states: As `frozen.frozen_states` returns them; empty where every layer is trained.
        origin: What the checkpoint says about where it comes from.
        log_metrics: Called with the figures of each step and epoch.
        states_folder: Where the fold's training states are kept; a complete one is gone on from (`train`).
        ends: Called after each epoch; true ends the training there. None ends nothing.

    Returns:
        The classifier at its best epoch, how the training went, and the predictions of the dev pairs that the decision
        was fitted on, with the columns of `score_fold`.

    Raises:
        MentallamError: Another fold is trained in this process at the same time.
        RunStoppedError: A signal has stopped the training; its state is saved.
    """
    training, fold = config.training, split["fold"]
    seed = training_seed(training.seed, fold)
    parts = learnt_from(split, training.sample_fraction)
    if training.sample_fraction < 1:
        sizes = [f"{len(chosen)} of {len(split[part])} {part} posts" for part, chosen in parts.items()]
        logger.warning("fold %s learns from %s: training.sample_fraction", fold, " and ".join(sizes))
    with training_alone(), deterministic_algorithms(training.deterministic), compiler_errors():
        with open_ranks(base, config) as ranks:
            set_seed(seed)  # head and adapter start from it
            model, tokenizer = build_classifier(base, config)
            prompter = Prompter(tokenizer, config.model.prompt, wording_by_id(tables.criteria), config.model.max_length)
            start_adapters(model, config, prompter.criteria)
            learn, choose = (
                with_states(labelled_examples(prompter, parts[part], tables.posts, tables.pairs), frozen_states, model)
                for part in ("train", "dev")
            )
            title = f"fold {fold}"
            outcome = train(
                model, learn, choose, training, seed, log_metrics, states_folder, title, ranks=ranks, ends=ends
            )
        uncompile_layers(model)
        budget = config.inference.tokens_per_pass
        scored = _score_posts(model, prompter, fold, parts["dev"], tables, budget, "dev")
    decision = fit_decision(scored, config.decision, f"the dev pairs of fold {fold}")
    dev = decision.decide(scored)
    chosen = {*parts["train"], *parts["dev"]}
    learnt = tables.pairs[tables.pairs["post_id"].isin(chosen)]
    reference = reference_of(dev, [example.fertility for example in choose], learnt)
    hashes = learnt_posts(config, tables.posts, chosen)
    trained = TrainedFold(model, prompter, config, base, decision, origin, reference=reference, learnt=hashes)
    return trained, outcome, dev


def reference_of(dev: pd.DataFrame, fertilities: Sequence[float], learnt: pd.DataFrame) -> dict[str, Any]:
    """Return what the posts of a fold were like; see `TrainedFold`."""
    tally, posts = Tally(), dev.drop_duplicates("post_id")
    tally.add_posts(posts["post_tokens"].tolist(), int(posts["truncated"].sum()), fertilities)
    tally.add_pairs(dev["criterion_id"], dev["probability"].tolist(), dev["prediction"] == 1)
    matched = (learnt["label"] == 1).groupby(learnt["criterion_id"], sort=False)
    return {
        "positive_rate": matched.mean().to_dict(),
        "positive": matched.sum().to_dict(),
        "dev": tally.to_dict(),
    }


def score_fold(trained: TrainedFold, split: Mapping[str, Any], tables: CorpusTables) -> pd.DataFrame:
    """Score the held-out pairs of one fold, once.

    Args:
        trained: The fold's classifier.
        split: The fold: its number, and post ids under train, dev and held_out.
        tables: The corpus.

    Returns:
        The fold's part of the out-of-fold table: post_id, criterion_id, group, cluster, author_seen, fold, label,
        explicit_negative, logit, probability, threshold, prediction, truncated, post_tokens.
    """
    fold, budget = split["fold"], trained.config.inference.tokens_per_pass
    with deterministic_algorithms(trained.config.training.deterministic), compiler_errors():
        scored = _score_posts(trained.model, trained.prompter, fold, split["held_out"], tables, budget, "held out")
    learnt = learnt_from(split, trained.config.training.sample_fraction).values()
    seen = _author_seen(tables.posts, {*chain.from_iterable(learnt)})
    return trained.decision.decide(scored.assign(author_seen=seen[scored["post_id"]].array))


def _author_seen(posts: pd.DataFrame, learnt: set[str]) -> "pd.Series[bool]":
    """Return by post_id whether its author wrote one of the posts that a fold learnt or chose from; else missing.

    Args:
        posts: Columns post_id, author.
        learnt: Ids of these posts.
    """
    authors = posts.set_index("post_id")["author"]
    seen = authors.isin(authors[authors.index.isin(learnt)].dropna()).astype("boolean")
    return seen.mask(authors.isna())


def _score_posts(
    model: nn.Module,
    prompter: Prompter,
    fold: int,
    post_ids: Sequence[str],
    tables: CorpusTables,
    tokens_per_pass: int,
    part: str,
) -> pd.DataFrame:
    """Return the logit of every labelled pair of some posts, with the facts about the pair.

    Args:
        model: The classifier.
        prompter: Tokenizer and criteria.
        fold: The number of the fold.
        post_ids: Which posts.
        tables: The corpus.
        tokens_per_pass: As in `score_pairs`.
        part: What these posts are to the fold; the progress bar names it.

    Returns:
        Columns post_id, criterion_id, group, cluster, fold, label, explicit_negative, logit, truncated, post_tokens (of
        the post as the model read it, with what the template puts before it).
    """
    examples = labelled_examples(prompter, post_ids, tables.posts, tables.pairs)
    logits = score_pairs(model, examples, tokens_per_pass, progress=f"fold {fold} {part}")
    table = pd.DataFrame(
        [
            (example.post_id, criterion_id, example.truncated, len(example.prefix) - prompter.template_tokens)
            for example in examples
            for criterion_id in example.criterion_ids
        ],
        columns=["post_id", "criterion_id", "truncated", "post_tokens"],
    )
    facts = tables.pairs[["post_id", "criterion_id", "label", "explicit_negative"]]
    table = table.merge(facts, on=["post_id", "criterion_id"], how="left", validate="one_to_one")
    table = table.merge(tables.groups, on="post_id", how="left", validate="many_to_one")
    return table.assign(fold=fold, logit=logits)


def learnt_from(split: Mapping[str, Any], fraction: float) -> dict[str, list[str]]:
    """Return the post ids under train and dev that a fold learns from.

    Args:
        split: The fold: its number, seed and post ids.
        fraction: The share of them that it takes, `training.sample_fraction`.
    """
    seed = sample_seed(split["seed"], split["fold"])
    return {part: sample(split[part], fraction, seed) for part in ("train", "dev")}


def states_of_folds(
    config: Config,
    base_model: Mapping[str, str],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    splits: Sequence[Mapping[str, Any]],
) -> dict[str, Tensor]:
    """Compute what goes into the lowest trained layer, for all posts that some folds learn from.

    Args:
        config: The resolved configuration.
        base_model: The base model on disk, as `model.prepare_base` returns it.
        posts: As in `CorpusTables`, like the next two.
        criteria: See posts.
        pairs: See posts.
        splits: The folds.

    Returns:
        As `frozen.frozen_states`; empty where every layer is trained.

    Raises:
        MentallamError: `training.start_from` doesn't fit, or has learnt from one of the posts.
    """
    training = config.training
    check_start(config, BaseModel(**base_model), posts)
    parts = (part for split in splits for part in learnt_from(split, training.sample_fraction).values())
    posts = posts[posts["post_id"].isin(set(chain.from_iterable(parts)))]
    with deterministic_algorithms(training.deterministic):
        return frozen_states(config, BaseModel(**base_model), posts, criteria, pairs)


def sample(post_ids: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Draw a random share of the posts, at least one, in their order.

    Args:
        post_ids: All posts.
        fraction: Above 0 and at most 1.
        seed: Seed of the draw.
    """
    size = min(len(post_ids), max(1, round(fraction * len(post_ids))))
    chosen = random.Random(seed).sample(range(len(post_ids)), size)
    return [post_ids[position] for position in sorted(chosen)]
