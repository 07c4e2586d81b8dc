import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from mentallam.evaluation.resampling import (
    UncertaintyOptions,
    bootstrap,
    holm,
    interval,
    number,
    permutation_p_values,
)

Array = NDArray[np.float64]


@pytest.mark.parametrize(
    "wrong", [{"resamples": 50}, {"confidence": 95}, {"confidence": 0}, {"seed": -1}, {"samples": 3}]
)
def test_wrong_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        UncertaintyOptions.model_validate({"resamples": 200, "confidence": 0.95, "seed": 1, **wrong})


def test_every_resample_draws_as_many_groups_as_there_are(options: UncertaintyOptions) -> None:
    seen: list[Array] = []

    def statistic(weights: Array) -> Array:
        seen.append(weights)
        return weights[:, :2]

    estimate, draws = bootstrap(statistic, n_groups=7, n_pairs=100_000, options=options)
    assert estimate.tolist() == [1, 1]
    assert draws.shape == (200, 2)
    resamples = np.concatenate([weights for weights in seen if len(weights) > 1])
    assert len(seen) > 3 and len(resamples) == 200  # in batches
    assert (resamples.sum(axis=1) == 7).all() and len(np.unique(resamples, axis=0)) > 150


def test_the_interval_of_a_mean_has_the_textbooks_width() -> None:
    """A mean over groups has the standard error s / sqrt(n), and a normal distribution."""
    values = np.random.default_rng(0).normal(size=400)
    options = UncertaintyOptions(resamples=4000, confidence=0.9, seed=1)
    estimate, draws = bootstrap(lambda weights: weights @ values[:, None] / 400, 400, 400, options)
    found = interval(estimate[0], draws[:, 0], 0.9)
    expected = scipy.stats.norm(values.mean(), values.std() / 20).ppf([0.05, 0.95])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.008)
    assert found["estimate"] == pytest.approx(values.mean()) and found["undefined"] == 0


def test_undefined_resamples_are_left_out_and_counted() -> None:
    assert interval(0.5, np.array([np.nan, 0.0, 0.5, 1.0]), 0.5) == {
        "estimate": 0.5,
        "low": 0.25,
        "high": 0.75,
        "undefined": 0.25,
    }
    nothing = {"low": None, "high": None, "undefined": 1.0}
    assert interval(0.5, np.array([np.nan, np.nan]), 0.95) == {"estimate": 0.5, **nothing}
    assert interval(np.nan, np.array([np.nan, np.nan]), 0.95) == {"estimate": None, **nothing}
    assert number(np.nan) is None and number(np.float64(1)) == 1.0


def test_few_groups_are_permuted_in_all_ways(options: UncertaintyOptions) -> None:
    """Fisher's paired test: of the 2^5 sign flips of the differences 1, 1, 1, 1, 3, two are as extreme as their sum."""
    first, second = np.array([2.0, 2, 2, 2, 4]), np.ones(5)
    values = np.concatenate([first, second])[:, None]
    [p] = permutation_p_values(lambda weights: weights @ values, 5, 5, options)
    differences = first - second
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1)
    assert p == np.mean(np.abs(differences @ signs) >= differences.sum()) == 2 / 32


def test_many_groups_give_the_p_value_of_the_normal_distribution() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(0.15, size=300), rng.normal(size=300)
    values = np.concatenate([first, second])[:, None]
    options = UncertaintyOptions(resamples=4000, confidence=0.95, seed=0)
    [p] = permutation_p_values(lambda weights: weights @ values, 300, 300, options)
    difference = first - second
    expected = 2 * scipy.stats.norm.sf(abs(difference.sum()) / np.sqrt((difference**2).sum()))
    assert 0.01 < expected < 0.5
    assert p == pytest.approx(expected, abs=0.03)


def test_a_p_value_is_never_zero_and_is_one_for_equal_tables(options: UncertaintyOptions) -> None:
    values = np.concatenate([np.ones((50, 1)), np.zeros((50, 1))])
    assert permutation_p_values(lambda weights: weights @ values, 50, 50, options)[0] == pytest.approx(2 / 201)
    same = np.ones((100, 1))
    assert permutation_p_values(lambda weights: weights @ same, 50, 50, options)[0] == 1.0
    nothing = permutation_p_values(lambda weights: np.full((len(weights), 1), np.nan), 50, 50, options)
    assert np.isnan(nothing[0])


def test_holms_correction_of_a_textbook_example() -> None:
    # https://en.wikipedia.org/wiki/Holm-Bonferroni_method, its example: H4 and H1 are rejected at 0.05.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None, 0.04, 0.03, 0.005])[1] is None
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == [] and holm([None]) == [None]


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_rejects_what_its_stepwise_rule_rejects(p_values: list[float]) -> None:
    """Holm's rule: go up from the smallest p-value and stop at the first above alpha / (m - i + 1)."""
    rejected = set()
    for step, place in enumerate(np.argsort(p_values, kind="stable").tolist()):
        if p_values[place] * (len(p_values) - step) > 0.05:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p is not None and p <= 0.05} == rejected
