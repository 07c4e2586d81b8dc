"""Learned baselines: simple classifiers on the model's folds, with the same training and dev posts.

Each has one estimator per criterion. Its threshold comes from the same dev pairs by the same rule as the model's.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.embeddings import embed_posts
from mentallam.classifier.fold import learnt_from
from mentallam.classifier.model import load_base, load_base_tokenizer
from mentallam.classifier.packed_model import compute_dtype
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.token_counts import count_tokens
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.errors import MentallamError
from mentallam.evaluation.baseline_scores import BASELINE_SCHEMA, no_baselines
from mentallam.evaluation.decision import fit_decision

logger = logging.getLogger(__name__)

# scikit-learn's default of 100 iterations is too few for thousands of words.
_REGRESSION = partial(LogisticRegression, class_weight="balanced", max_iter=1000)


@dataclass(frozen=True)
class Baseline:
    """One learned baseline.

    Attributes:
        description: What it is, for reports; follows "is" in a sentence.
        reads: What it sees of a post: its text, or the frozen base model's mean hidden state of it.
        features: Makes the transformer that is fitted on a fold's training posts.
        estimator: Makes the classifier that is fitted per criterion; it has a decision function.
    """

    description: str
    reads: Literal["text", "hidden state"]
    features: Callable[[], Any]
    estimator: Callable[[], Any]


BASELINES = {
    "tfidf": Baseline(
        "a logistic regression per criterion on counts of words and pairs of words",
        reads="text",
        features=partial(TfidfVectorizer, ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        estimator=_REGRESSION,
    ),
    "embedding": Baseline(
        "a logistic regression per criterion on the mean hidden state of a post in the frozen base model",
        reads="hidden state",
        features=StandardScaler,
        estimator=_REGRESSION,
    ),
}
"""Name to baseline: what `baselines.models` may name."""

DESCRIPTIONS = {name: baseline.description for name, baseline in BASELINES.items()}


def named_baselines(names: Sequence[str]) -> dict[str, Baseline]:
    """Return the baselines of these names, in their order.

    Args:
        names: The value of `baselines.models`.

    Raises:
        MentallamError: A name that is not in `BASELINES`.
    """
    if set(names) - set(BASELINES):
        raise MentallamError(
            f"baselines.models is [{', '.join(names)}]; it takes each of {', '.join(BASELINES)} at most once, and [] "
            f"fits none"
        )
    return {name: BASELINES[name] for name in names}


def fit_baselines(
    config: Config,
    base: BaseModel,
    splits: Sequence[Mapping[str, Any]],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
) -> pd.DataFrame:
    """Fit the configured baselines on every fold and score each held-out pair once.

    Args:
        config: The resolved configuration; `baselines.models` names the baselines.
        base: The base model on disk; its weights are loaded once, and only for a baseline that reads hidden states.
        splits: One per fold: fold, seed, and post ids under train, dev and held_out.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label, explicit_negative; some pairs may be missing.
        groups: Columns post_id, group, cluster.

    Returns:
        The columns of `evaluation.baseline_scores.BASELINE_SCHEMA`, without author_seen: one row per baseline and
        held-out pair; no row without a baseline. `logit` is the estimator's decision function, `probability` is
        calibrated on the dev pairs.

    Raises:
        MentallamError: An unknown baseline, a base model that can't be read, or a post that does not fit into memory.
    """
    baselines = named_baselines(config.baselines.models)
    if not baselines:
        return no_baselines()
    started = time.perf_counter()
    lengths, inputs = _read_posts(config, {baseline.reads for baseline in baselines.values()}, base, posts, criteria)
    reading = time.perf_counter() - started
    pairs = pairs.merge(groups, on="post_id", how="left", validate="many_to_one")
    pairs = pairs.assign(position=lengths.index.get_indexer(pd.Index(pairs["post_id"])))
    tables = []
    for split in splits:
        learn, choose = (
            pairs[pairs["post_id"].isin(part)] for part in learnt_from(split, config.training.sample_fraction).values()
        )
        held_out = pairs[pairs["post_id"].isin(split["held_out"])].assign(fold=split["fold"])
        _warn_of_constant_criteria(split["fold"], learn, held_out)
        for name, baseline in baselines.items():
            logits = _logits(name, baseline, inputs[baseline.reads], learn, pd.concat([choose, held_out]))
            dev_pairs = f"the dev pairs of fold {split['fold']}, as scored by {name},"
            decision = fit_decision(choose.assign(logit=logits[: len(choose)]), config.decision, dev_pairs)
            tables.append(decision.decide(held_out.assign(model=name, logit=logits[len(choose) :])))
    table = pd.concat(tables, ignore_index=True).join(lengths, on="post_id")
    logger.info(
        "baselines %s on %s: %.1f s, of which %.1f s were spent on reading the posts",
        " and ".join(baselines),
        f"{len(splits)} folds" if len(splits) > 1 else f"fold {splits[0]['fold']}",
        time.perf_counter() - started,
        reading,
    )
    return table[[name for name in BASELINE_SCHEMA.columns if name in table]]


def _read_posts(
    config: Config, wanted: set[str], base: BaseModel, posts: pd.DataFrame, criteria: pd.DataFrame
) -> tuple[pd.DataFrame, dict[str, NDArray[Any]]]:
    """Return how much of each post the prompt holds, by post_id, and each post's text and hidden state, if wanted."""
    model = None
    if "hidden state" in wanted:
        model, tokenizer = load_base(base, compute_dtype(config.model.dtype), config.model.quantization)
    else:
        tokenizer = load_base_tokenizer(base)
    wording = wording_by_id(criteria)
    prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)
    inputs: dict[str, NDArray[Any]] = {"text": posts["text"].to_numpy(dtype=object)}
    if model is not None:
        with deterministic_algorithms(config.training.deterministic):
            inputs["hidden state"] = embed_posts(
                model,
                prompter,
                posts["post_id"].tolist(),
                posts["text"].tolist(),
                config.inference.tokens_per_pass,
                progress="embedding",
            )
    n_tokens = count_tokens(prompter, posts["text"]).to_numpy()
    read = {"post_tokens": np.minimum(n_tokens, prompter.post_tokens), "truncated": n_tokens > prompter.post_tokens}
    return pd.DataFrame(read, index=pd.Index(posts["post_id"])), inputs


def _logits(
    name: str, baseline: Baseline, values: NDArray[Any], learn: pd.DataFrame, asked: pd.DataFrame
) -> NDArray[np.float64]:
    """Fit a baseline on some pairs and return its decision function for others.

    Args:
        name: Its name, for a warning.
        baseline: The baseline.
        values: Texts, (posts,), or hidden states, (posts, hidden size).
        learn: Columns position (of the post in `values`), criterion_id, label.
        asked: Columns position, criterion_id.

    Returns:
        (len(asked),). Where the pairs in `learn` have one label only, or there are none, it is their log-odds.
    """
    try:
        features = baseline.features().fit(values[learn["position"].unique()]).transform(values)
    except ValueError:  # with very few posts, no two share a word
        logger.warning("baseline %s: the training posts share no word; it predicts each criterion's rate", name)
        features = None
    positions = asked["position"].to_numpy()
    logits = np.empty(len(asked))
    for criterion_id, rows in asked.groupby("criterion_id", sort=False).indices.items():
        known = learn[learn["criterion_id"] == criterion_id]
        if features is None or known["label"].nunique() < 2:
            logits[rows] = _log_odds(known["label"])
        else:
            estimator = baseline.estimator().fit(features[known["position"].to_numpy()], known["label"])
            logits[rows] = estimator.decision_function(features[positions[rows]])
    return logits


def _log_odds(labels: "pd.Series[int]") -> float:
    """Return the log-odds of the rate, with half a pair added to each label to keep it finite; 0 without a pair."""
    return float(np.log((labels.sum() + 0.5) / (len(labels) - labels.sum() + 0.5)))


def _warn_of_constant_criteria(fold: int, learn: pd.DataFrame, held_out: pd.DataFrame) -> None:
    n_labels = learn.groupby("criterion_id")["label"].nunique()
    n_labels = n_labels.reindex(held_out["criterion_id"].unique(), fill_value=0)
    if constant := sorted(n_labels.index[n_labels < 2]):
        logger.warning(
            "fold %s: the baselines predict one constant for %s, whose training pairs don't hold both labels",
            fold,
            ", ".join(constant),
        )
