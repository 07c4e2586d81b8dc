"""One model of all posts, trained after a cross-validation for as long as its folds were, by the median."""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor
from transformers import set_seed

from mentallam.classifier.callbacks import LogMetrics
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.compiling import compiler_errors, uncompile_layers
from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.fold import CorpusTables, learnt_from, reference_of
from mentallam.classifier.frozen import with_states
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.ranks import open_ranks
from mentallam.classifier.training import TrainingOutcome, train
from mentallam.classifier.warm_start import learnt_posts, start_adapters
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.calibration import fit_calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.one_training import training_alone

FOLD = "refit"
"""What a checkpoint's origin has in place of a fold's number."""


def refit_decision(method: str, oof: pd.DataFrame, folds: Sequence[Decision]) -> Decision:
    """Return the decision of a model that has no held-out posts.

    Its calibration is fitted on the logits of all folds together, as if it were one of the folds, drawn at random; its
    thresholds are the means of theirs. Neither can be checked on the model itself.

    Args:
        method: `decision.calibration`.
        oof: Columns label, logit of the out-of-fold table.
        folds: The decisions of the folds.
    """
    thresholds = [fold.thresholds for fold in folds]
    names = sorted(set(chain.from_iterable(each.by_criterion for each in thresholds)))
    by_criterion = {name: float(np.mean([each.of([name])[0] for each in thresholds])) for name in names}
    calibration = fit_calibration(method, oof["label"], oof["logit"], "the out-of-fold pairs")
    return Decision(calibration, Thresholds(float(np.mean([each.common for each in thresholds])), by_criterion))


def fit_refit(
    config: Config,
    base: BaseModel,
    splits: Sequence[Mapping[str, Any]],
    tables: CorpusTables,
    frozen_states: Mapping[str, Tensor],
    oof: pd.DataFrame,
    decision: Decision,
    epochs: int,
    origin: Mapping[str, Any],
    log_metrics: LogMetrics,
    states_folder: Path,
) -> tuple[TrainedFold, TrainingOutcome]:
    """Train on every post that a fold has learnt from.

    Args:
        config: The resolved configuration.
        base: The base model on disk.
        splits: The folds.
        tables: The corpus.
        frozen_states: As `frozen.frozen_states` returns them; empty where every layer is trained.
        oof: The out-of-fold table: what later posts are compared with, since no post is left to score.
        decision: What `refit_decision` returned.
        epochs: How many epochs of the configured schedule are trained.
        origin: What the checkpoint says about where it comes from, with the seed of the training.
        log_metrics: Called with the figures of each step.
        states_folder: Where training states are kept; a complete one is gone on from.

    Returns:
        The classifier after its last epoch, and how the training went.
    """
    training = config.training
    parts = chain.from_iterable(learnt_from(split, training.sample_fraction).values() for split in splits)
    chosen = set(chain.from_iterable(parts))
    post_ids = [post_id for post_id in tables.posts["post_id"].tolist() if post_id in chosen]
    with training_alone(), deterministic_algorithms(training.deterministic), compiler_errors():
        with open_ranks(base, config) as ranks:
            set_seed(origin["seed"])
            model, tokenizer = build_classifier(base, config)
            prompter = Prompter(tokenizer, config.model.prompt, wording_by_id(tables.criteria), config.model.max_length)
            start_adapters(model, config, prompter.criteria)
            examples = labelled_examples(prompter, post_ids, tables.posts, tables.pairs)
            learn = with_states(examples, frozen_states, model)
            seed = origin["seed"]
            outcome = train(model, learn, [], training, seed, log_metrics, states_folder, FOLD, epochs, ranks)
        uncompile_layers(model)
    learnt = tables.pairs[tables.pairs["post_id"].isin(chosen)]
    reference = reference_of(decision.decide(oof), [example.fertility for example in learn], learnt)
    hashes = learnt_posts(config, tables.posts, chosen)
    return TrainedFold(model, prompter, config, base, decision, origin, reference=reference, learnt=hashes), outcome
