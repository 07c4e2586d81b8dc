"""Do the intervals do what they say? Many simulated studies whose truth is known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.metrics import f1_score

from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, interval, permutation_p_values
from mentallam.evaluation.thresholds import best_threshold, predict_labels
from mentallam.evaluation.uncertainty import protocol_intervals
from mentallam.evaluation.weighted import METRICS, WeightedMetrics, confusion_sums, f1_of, weighted_counts

N_POSTS, N_CRITERIA, N_FOLDS = 300, 3, 5
BASE_RATE = 0.08
OPTIONS = UncertaintyOptions(resamples=400, confidence=0.95, seed=0)

Array = NDArray[np.float64]


def clustered(rng: np.random.Generator, *shape: int) -> Array:
    """Standard normal values whose last axis is correlated by one half, as a post's criteria are."""
    return np.asarray((rng.normal(size=(*shape[:-1], 1)) + rng.normal(size=shape)) / np.sqrt(2))


def table(labels: NDArray[np.bool_], probabilities: Array, thresholds: Array, fold: NDArray[np.intp]) -> pd.DataFrame:
    """An out-of-fold table of posts by criteria, all given as shape (posts, criteria) but `fold`, shape (posts,)."""
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
    """Five models that learned nothing: their scores are independent of the labels, both clustered by post."""
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
    """F1 of predictions that know nothing: with q predicted and b positive of all pairs, 2 b q / (b + q)."""
    rate = float(np.mean(predictions))
    return 2 * BASE_RATE * rate / (BASE_RATE + rate)


def is_as_often_as_it_says(covered: list[bool], confidence: float = 0.95) -> bool:
    """Whether 998 of 1000 sets of true intervals would cover about as often."""
    low, high = binom.ppf([0.001, 0.999], len(covered), confidence)
    return bool(low <= sum(covered) <= high)


def covers(own: Mapping[str, Any], truth: float) -> bool:
    return bool(own["low"] <= truth <= own["high"])


@pytest.fixture(scope="module")
def studies() -> list[pd.DataFrame]:
    return [study_of_chance(np.random.default_rng(number)) for number in range(80)]


@pytest.fixture(scope="module")
def predictions(studies: list[pd.DataFrame]) -> list[dict[str, NDArray[np.int8]]]:
    return [protocol_predictions(study) for study in studies]


@pytest.fixture(scope="module")
def protocols(studies: list[pd.DataFrame]) -> list[dict[str, Any]]:
    return [protocol_intervals(study, OPTIONS) for study in studies]


def test_the_honest_protocol_covers_chance_and_same_fold_does_not(
    predictions: list[dict[str, NDArray[np.int8]]], protocols: list[dict[str, Any]]
) -> None:
    covered, excess = {}, {}
    for protocol in ("honest", "same_fold"):
        chance = [f1_of_chance(own[protocol]) for own in predictions]
        found = [own[protocol]["f1"] for own in protocols]
        covered[protocol] = [covers(own, truth) for own, truth in zip(found, chance, strict=True)]
        excess[protocol] = np.array([own["estimate"] for own in found]) - chance
        missed = [own["low"] > truth for own, truth in zip(found, chance, strict=True)]
        if protocol == "same_fold":
            assert sum(missed) == len(missed) - sum(covered[protocol])  # never too low

    error = {protocol: own.std() / np.sqrt(len(own)) for protocol, own in excess.items()}
    assert is_as_often_as_it_says(covered["honest"])
    assert abs(excess["honest"].mean()) < 3 * error["honest"]
    assert np.mean(covered["same_fold"]) < 0.75
    assert excess["same_fold"].mean() > 10 * error["same_fold"]


def test_the_selection_optimism_of_chance_is_seen(protocols: list[dict[str, Any]]) -> None:
    """Nothing was learned, and still most studies find a gain that is surer than 95 %."""
    lows = [own["selection_optimism"]["low"] for own in protocols]
    assert all(own["selection_optimism"]["estimate"] >= 0 for own in protocols)
    assert np.mean(np.array(lows) > 0) > 0.5


def test_the_interval_of_the_ranking_covers_a_half(studies: list[pd.DataFrame]) -> None:
    place = METRICS.index("roc_auc")
    covered = []
    for study in studies[:50]:
        metrics = WeightedMetrics(study, study["group"].astype(int), N_POSTS)
        estimate, draws = bootstrap(metrics, N_POSTS, len(study), OPTIONS)
        covered.append(covers(interval(estimate[place], draws[:, place], 0.95), 0.5))
    assert is_as_often_as_it_says(covered)


def planted(rng: np.random.Generator, n_posts: int) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
    """Labels and predictions of posts by nine criteria whose model is known, but for a part that no text tells."""
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
    assert is_as_often_as_it_says(covered["post"])
    assert not is_as_often_as_it_says(covered["pair"])


def test_two_equal_models_seldom_differ() -> None:
    """Of studies in which nothing differs, a share of 0.05 has a p-value up to 0.05."""
    p_values = []
    for number in range(200):
        rng = np.random.default_rng(number)
        skill, labels = clustered(rng, 100, 3), clustered(rng, 100, 3) > 1
        sums = [
            confusion_sums(labels.ravel(), own.ravel(), np.zeros(300), np.repeat(np.arange(100), 3), 100)
            for own in (skill + rng.normal(size=skill.shape) + labels > 1 for _ in range(2))
        ]
        both = np.concatenate(sums)
        [p] = permutation_p_values(lambda weights, both=both: f1_of(weighted_counts(weights, both)), 100, 300, OPTIONS)
        p_values.append(p)
    assert is_as_often_as_it_says([p > 0.05 for p in p_values])
    assert is_as_often_as_it_says([p > 0.5 for p in p_values], 0.5)
