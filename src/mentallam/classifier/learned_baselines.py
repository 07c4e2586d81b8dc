"""Learned baselines: simple classifiers on the model's folds, with the same posts to learn and to choose from.

`tfidf` counts words and pairs of words; `embedding` reads the frozen base model's mean hidden state of a post. Each has
one logistic regression per criterion, and its threshold from the same dev pairs by the same rule as the model's.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mentallam.classifier.embeddings import embed_posts
from mentallam.classifier.fold import deterministic_algorithms, learnt_from
from mentallam.classifier.model import compute_dtype, load_base, load_base_tokenizer
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.token_counts import count_tokens
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.baseline_scores import BASELINE_SCHEMA, no_baselines
from mentallam.evaluation.decision import fit_decision

logger = logging.getLogger(__name__)

_MAX_ITERATIONS = 1000  # of the solver; scikit-learn's own 100 are too few for thousands of words


def fit_baselines(
    config: Config,
    base: BaseModel,
    splits: Sequence[Mapping[str, Any]],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
) -> pd.DataFrame:
    """Fits the configured baselines on every fold and scores each held-out pair once.

    Args:
        config: The resolved configuration; `baselines.models` names the baselines.
        base: The base model on disk; its weights are loaded only for `embedding`, once for all folds.
        splits: The folds' files: fold, seed, and post ids under train, dev and held_out.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label, explicit_negative; not every pair needs to be there.
        groups: Columns post_id, group.

    Returns:
        The columns of `evaluation.baselines.BASELINE_SCHEMA`: one row per baseline and held-out pair; no row without
        a baseline. `logit` is the regression's decision function, `probability` is calibrated on the dev pairs.

    Raises:
        MentallamError: The base model can't be read, or a single post does not fit into memory.
    """
    if not config.baselines.models:
        return no_baselines()
    started = time.perf_counter()
    lengths, inputs = _read_posts(config, base, posts, criteria)
    reading = time.perf_counter() - started
    pairs = pairs.merge(groups, on="post_id", how="left", validate="many_to_one")
    pairs = pairs.assign(position=lengths.index.get_indexer(pd.Index(pairs["post_id"])))
    tables = []
    for split in splits:
        learn, choose = (
            pairs[pairs["post_id"].isin(part)] for part in learnt_from(split, config.training.sample_fraction).values()
        )
        held_out = pairs[pairs["post_id"].isin(split["held_out"])].assign(fold=split["fold"])
        _tell_constant_criteria(split["fold"], learn, held_out)
        for name, values in inputs.items():
            logits = _logits(name, values, learn, pd.concat([choose, held_out]))
            decision = fit_decision(choose.assign(logit=logits[: len(choose)]), config.decision)
            tables.append(decision.decide(held_out.assign(model=name, logit=logits[len(choose) :])))
    table = pd.concat(tables, ignore_index=True).join(lengths, on="post_id")
    logger.info(
        "baselines %s on %d folds: %.1f s, of which %.1f s were spent on reading the posts",
        " and ".join(inputs),
        len(splits),
        time.perf_counter() - started,
        reading,
    )
    return table[list(BASELINE_SCHEMA.columns)]


def _read_posts(
    config: Config, base: BaseModel, posts: pd.DataFrame, criteria: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """What the prompt holds of each post, by post_id, and what each baseline sees of it, posts in the same order."""
    model = None
    if "embedding" in config.baselines.models:
        model, tokenizer = load_base(base, compute_dtype(config.model.dtype), config.model.quantization)
    else:
        tokenizer = load_base_tokenizer(base)
    wording = wording_by_id(criteria)
    prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)
    inputs: dict[str, NDArray[Any]] = {}
    for name in config.baselines.models:
        if model is not None and name == "embedding":
            with deterministic_algorithms(config.training.deterministic):
                inputs[name] = embed_posts(
                    model,
                    prompter,
                    posts["post_id"].tolist(),
                    posts["text"].tolist(),
                    config.inference.tokens_per_pass,
                    progress="embedding",
                )
        else:
            inputs[name] = posts["text"].to_numpy(dtype=object)
    n_tokens = count_tokens(prompter, posts["text"]).to_numpy()
    read = {"post_tokens": np.minimum(n_tokens, prompter.post_tokens), "truncated": n_tokens > prompter.post_tokens}
    return pd.DataFrame(read, index=pd.Index(posts["post_id"])), inputs


def _logits(name: str, values: NDArray[Any], learn: pd.DataFrame, asked: pd.DataFrame) -> NDArray[np.float64]:
    """Decision function of one baseline that has learnt from some pairs, for others.

    Args:
        name: Which baseline.
        values: Texts, (posts,), or embeddings, (posts, hidden size).
        learn: Columns position (of the post in `values`), criterion_id, label.
        asked: Columns position, criterion_id.

    Returns:
        (len(asked),). Where the pairs to learn from have one label only, or none, it is their log-odds.
    """
    transformer = (
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2) if name == "tfidf" else StandardScaler()
    )
    try:
        features = transformer.fit(values[learn["position"].unique()]).transform(values)
    except ValueError:  # of so few posts no two share a word
        logger.warning("baseline %s: the training posts share no word; it predicts each criterion's rate", name)
        features = None
    positions = asked["position"].to_numpy()
    logits = np.empty(len(asked))
    for criterion_id, rows in asked.groupby("criterion_id", sort=False).indices.items():
        own = learn[learn["criterion_id"] == criterion_id]
        if features is None or own["label"].nunique() < 2:
            logits[rows] = _log_odds(own["label"])
        else:
            regression = LogisticRegression(class_weight="balanced", max_iter=_MAX_ITERATIONS)
            regression.fit(features[own["position"].to_numpy()], own["label"])
            logits[rows] = regression.decision_function(features[positions[rows]])
    return logits


def _log_odds(labels: "pd.Series[int]") -> float:
    """Log-odds of a rate, half a pair added to each label so that it is finite; 0 without a pair."""
    return float(np.log((labels.sum() + 0.5) / (len(labels) - labels.sum() + 0.5)))


def _tell_constant_criteria(fold: int, learn: pd.DataFrame, held_out: pd.DataFrame) -> None:
    n_labels = learn.groupby("criterion_id")["label"].nunique()
    n_labels = n_labels.reindex(held_out["criterion_id"].unique(), fill_value=0)
    if constant := sorted(n_labels.index[n_labels < 2]):
        logger.warning(
            "fold %s: the baselines predict one constant for %s, of which the training pairs don't hold both labels",
            fold,
            ", ".join(constant),
        )
