"""Coverage of the intervals in simulated studies whose truth is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.metrics import f1_score

from mentallam.config import DecisionConfig
from mentallam.evaluation.counts import confusion_sums, f1_of, weighted_counts
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, interval, permutation_p_values
from mentallam.evaluation.thresholds import best_threshold, predict_labels
from mentallam.evaluation.uncertainty import protocol_intervals
from mentallam.evaluation.weighted import HEADLINE, WeightedMetrics

N_POSTS, N_CRITERIA, N_FOLDS = 300, 3, 5
BASE_RATE = 0.08
DECISION = DecisionConfig()
OPTIONS = UncertaintyOptions(resamples=400, confidence=0.95, seed=0)

Array = NDArray[np.float64]


def clustered(rng: np.random.Generator, *shape: int) -> Array:
    """Draw standard normal values, correlated by one half along the last axis as the criteria of a post are."""
    return np.asarray((rng.normal(size=(*shape[:-1], 1)) + rng.normal(size=shape)) / np.sqrt(2))


def table(labels: NDArray[np.bool_], probabilities: Array, thresholds: Array, fold: NDArray[np.intp]) -> pd.DataFrame:
    """Return an out-of-fold table; all arguments have shape (posts, criteria), except `fold`, shape (posts,)."""
    post, criterion = (index.ravel() for index in np.indices(labels.shape))
    return pd.DataFrame(
        {
            "post_id": post.astype(str),
            "criterion_id": criterion.astype(str),
            "group": post.astype(str),
            "fold": fold[post],
            "label": labels.ravel().astype(np.int8),
            "probability": probabilities.ravel(),
            "prediction": predict_labels(probabilities, thresholds).ravel(),
        }
    )


def study_of_chance(rng: np.random.Generator) -> pd.DataFrame:
    """Simulate five models that learned nothing: scores are independent of labels, both clustered by post."""
    labels = clustered(rng, N_POSTS, N_CRITERIA) > norm.ppf(1 - BASE_RATE)
    scores = expit(clustered(rng, N_FOLDS, N_POSTS, N_CRITERIA))
    fold = rng.permutation(N_POSTS) % N_FOLDS
    probabilities, thresholds = scores[fold, np.arange(N_POSTS)], np.zeros((N_POSTS, 1))
    for number in range(N_FOLDS):
        dev = rng.permutation(np.flatnonzero(fold != number))[: N_POSTS // N_FOLDS]
        chosen = best_threshold(labels[dev].ravel(), scores[number, dev].ravel())
        thresholds[fold == number] = chosen.threshold
    return table(labels, probabilities, thresholds, fold)


def f1_of_chance(predictions: Array) -> float:
    """Return the expected F1 of random predictions: with shares q predicted and b positive, 2 b q / (b + q)."""
    rate = float(np.mean(predictions))
    return 2 * BASE_RATE * rate / (BASE_RATE + rate)


def covers_as_often_as_stated(covered: list[bool], confidence: float = 0.95) -> bool:
    """Return whether the coverage lies in the range of 998 of 1000 sets of correct intervals."""
    low, high = binom.ppf([0.001, 0.999], len(covered), confidence)
    return bool(low <= sum(covered) <= high)


def covers(bounds: Mapping[str, Any], truth: float) -> bool:
    return bool(bounds["low"] <= truth <= bounds["high"])


@pytest.fixture(scope="module")
def studies() -> list[pd.DataFrame]:
    return [study_of_chance(np.random.default_rng(number)) for number in range(80)]


@pytest.fixture(scope="module")
def predictions(studies: list[pd.DataFrame]) -> list[dict[str, NDArray[np.int8]]]:
    return [protocol_predictions(study, DECISION) for study in studies]


@pytest.fixture(scope="module")
def protocols(studies: list[pd.DataFrame]) -> list[dict[str, Any]]:
    return [protocol_intervals(study, OPTIONS, DECISION) for study in studies]


def test_the_dev_split_protocol_covers_chance_and_same_fold_does_not(
    predictions: list[dict[str, NDArray[np.int8]]], protocols: list[dict[str, Any]]
) -> None:
    covered, excess = {}, {}
    for protocol in ("dev_split", "same_fold"):
        chance = [f1_of_chance(predicted[protocol]) for predicted in predictions]
        found = [intervals[protocol]["f1"] for intervals in protocols]
        covered[protocol] = [covers(bounds, truth) for bounds, truth in zip(found, chance, strict=True)]
        excess[protocol] = np.array([bounds["estimate"] for bounds in found]) - chance
        missed = [bounds["low"] > truth for bounds, truth in zip(found, chance, strict=True)]
        if protocol == "same_fold":
            assert sum(missed) == len(missed) - sum(covered[protocol])  # never too low

    error = {protocol: values.std() / np.sqrt(len(values)) for protocol, values in excess.items()}
    assert covers_as_often_as_stated(covered["dev_split"])
    assert abs(excess["dev_split"].mean()) < 3 * error["dev_split"]
    assert np.mean(covered["same_fold"]) < 0.75
    assert excess["same_fold"].mean() > 10 * error["same_fold"]


def test_chance_shows_selection_optimism(protocols: list[dict[str, Any]]) -> None:
    """Nothing was learned, and yet most studies find a gain with more than 95 % confidence."""
    lows = [intervals["selection_optimism"]["low"] for intervals in protocols]
    assert all(intervals["selection_optimism"]["estimate"] >= 0 for intervals in protocols)
    assert np.mean(np.array(lows) > 0) > 0.5


def test_the_interval_of_the_ranking_covers_a_half(studies: list[pd.DataFrame]) -> None:
    place = HEADLINE.index("roc_auc")
    covered = []
    for study in studies[:50]:
        metrics = WeightedMetrics(study, study["group"].astype(int), N_POSTS)
        estimate, draws = bootstrap(metrics, N_POSTS, len(study), OPTIONS)
        covered.append(covers(interval(estimate[place], draws[:, place], 0.95), 0.5))
    assert covers_as_often_as_stated(covered)


def planted(rng: np.random.Generator, n_posts: int) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Return labels and predictions of posts by nine criteria; the model knows all but a part that no text shows."""
    known, unknown = clustered(rng, n_posts, 9), clustered(rng, n_posts, 9)
    labels = rng.random((n_posts, 9)) < expit(2 * known + unknown - 3)
    return labels, predict_labels(expit(2 * known - 3), 0.3)


def test_the_planted_f1_is_covered_when_groups_are_drawn_and_not_when_pairs_are() -> None:
    labels, predictions = planted(np.random.default_rng(10**6), 300_000)
    truth = f1_score(labels.ravel(), predictions.ravel())
    n_posts = 300
    post = np.repeat(np.arange(n_posts), 9)
    covered: dict[str, list[bool]] = {"post": [], "pair": []}
    for number in range(200):
        labels, predictions = planted(np.random.default_rng(number), n_posts)
        for unit, index in {"post": post, "pair": np.arange(len(post))}.items():
            sums = confusion_sums(labels.ravel(), predictions.ravel(), np.zeros_like(index), index, index.max() + 1)
            estimate, draws = bootstrap(
                lambda weights, sums=sums: f1_of(weighted_counts(weights, sums)), len(sums), len(index), OPTIONS
            )
            covered[unit].append(covers(interval(estimate[0], draws[:, 0], 0.95), truth))
    assert covers_as_often_as_stated(covered["post"])
    assert not covers_as_often_as_stated(covered["pair"])


def test_two_equal_models_seldom_differ() -> None:
    """Where nothing differs, a share of 0.05 of the studies has a p-value up to 0.05."""
    p_values = []
    for number in range(200):
        rng = np.random.default_rng(number)
        skill, labels = clustered(rng, 100, 3), clustered(rng, 100, 3) > 1
        sums = [
            confusion_sums(labels.ravel(), predicted.ravel(), np.zeros(300), np.repeat(np.arange(100), 3), 100)
            for predicted in (skill + rng.normal(size=skill.shape) + labels > 1 for _ in range(2))
        ]
        both = np.concatenate(sums)
        [p] = permutation_p_values(lambda weights, both=both: f1_of(weighted_counts(weights, both)), 100, 300, OPTIONS)
        p_values.append(p)
    assert covers_as_often_as_stated([p > 0.05 for p in p_values])
    assert covers_as_often_as_stated([p > 0.5 for p in p_values], 0.5)


def test_the_interval_by_author_covers_where_authors_have_effects_and_that_by_post_does_not() -> None:
    """The quick form of `studies/author_coverage.py`, through the functions of the report: 50 authors x 30 posts."""

    def study_of_authors(rng: np.random.Generator, authors: int, posts: int) -> pd.DataFrame:
        def latent() -> Array:
            effect, rest = rng.normal(size=(authors, 1, 1)), rng.normal(size=(authors, posts, 9))
            return np.asarray((np.sqrt(0.2) * effect + np.sqrt(0.8) * rest).reshape(-1, 9))

        truth, cut = latent(), norm.isf(0.1)
        scores = norm.cdf(0.8 * truth + 0.6 * latent())
        found = table(truth > cut, scores, np.full((len(truth), 1), norm.cdf(cut)), np.arange(len(truth)) % N_FOLDS)
        return found.assign(cluster=(found["post_id"].astype(int) // posts).astype(str))

    population = study_of_authors(np.random.default_rng(10**6), 100_000, 1)
    truth = f1_score(population["label"], population["prediction"])
    covered: dict[str, list[bool]] = {"author": [], "post": []}
    for number in range(60):
        study = study_of_authors(np.random.default_rng(number), 50, 30)
        for unit, pairs in {"author": study, "post": study.drop(columns="cluster")}.items():
            covered[unit].append(covers(protocol_intervals(pairs, OPTIONS, DECISION)["dev_split"]["f1"], truth))
    assert covers_as_often_as_stated(covered["author"])
    assert np.mean(covered["post"]) < np.mean(covered["author"]) - 0.05
    assert not covers_as_often_as_stated(covered["post"])
