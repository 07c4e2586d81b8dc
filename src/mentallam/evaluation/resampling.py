"""Resampling of whole groups: bootstrap intervals and paired permutation tests with Holm's correction."""

import warnings
from collections.abc import Callable, Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
import scipy.stats
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import DegenerateDataWarning

from mentallam.errors import MentallamError
from mentallam.evaluation.counts import Values, Weights

Statistic = Callable[[Weights], Values]

_CELLS_AT_ONCE = 2**21


class UncertaintyOptions(BaseModel):
    """Options of the bootstrap and the permutation tests.

    Attributes:
        resamples: Number of bootstrap resamples, and of permutations of a test.
        confidence: Confidence level of the intervals, from 0 to 1.
        seed: Seed of all draws; the same seed draws the same groups for every table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    resamples: int = Field(ge=100)
    confidence: float = Field(gt=0, lt=1)
    seed: int = Field(ge=0)


class Interval(TypedDict):
    """A figure and its bootstrap interval; None where not defined."""

    estimate: float | None
    low: float | None
    high: float | None
    undefined: float  # share of resamples in which the figure is not defined; they are left out of the interval


def bootstrap(statistic: Statistic, n_groups: int, n_pairs: int, options: UncertaintyOptions) -> tuple[Values, Values]:
    """Draw as many groups as there are, with replacement, many times: the cluster bootstrap.

    A group brings all its pairs each time it is drawn (Davison and Hinkley 1997, section 3.8; Field and
    Welsh 2007, Bootstrapping clustered data).

    Args:
        statistic: From weights of the groups, shape (b, n_groups), to values, shape (b, m); NaN where not defined.
        n_groups: Number of groups.
        n_pairs: Number of pairs, which determines how many resamples are computed at once.
        options: Number of resamples and seed.

    Returns:
        The values of the data, shape (m,), and of the resamples, shape (resamples, m).
    """

    def redrawn(groups: NDArray[np.intp], axis: int) -> Values:
        rows = groups + n_groups * np.arange(len(groups))[:, None]
        times = np.bincount(rows.ravel(), minlength=groups.size).reshape(groups.shape)
        return statistic(times.astype(np.float64)).T  # scipy wants the resamples last

    with warnings.catch_warnings():
        # The interval that scipy returns is not used: it is NaN as soon as one resample is.
        warnings.simplefilter("ignore", DegenerateDataWarning)
        result = scipy.stats.bootstrap(
            (np.arange(n_groups),),
            redrawn,
            vectorized=True,
            n_resamples=options.resamples,
            batch=_at_once(n_pairs),
            method="percentile",
            rng=np.random.default_rng(options.seed),
        )
    draws: Values = result.bootstrap_distribution.T
    return statistic(np.ones((1, n_groups)))[0], draws


def cluster_names(pairs: pd.DataFrame) -> pd.Series:
    """Return the cluster of each row; the group in tables of older versions, which name no cluster."""
    return pairs["cluster"] if "cluster" in pairs else pairs["group"]


def clusters_of(pairs: pd.DataFrame) -> tuple[NDArray[np.intp], int]:
    """Return the number of each row's cluster, shape (n,), and how many clusters there are.

    Args:
        pairs: Column cluster, or group.

    Raises:
        MentallamError: Fewer than two clusters.
    """
    names, cluster = np.unique(cluster_names(pairs).to_numpy(str), return_inverse=True)
    if len(names) < 2:
        raise MentallamError(
            "uncertainty needs two clusters (authors, or groups without authors) or more, since it resamples them; "
            "use more posts"
        )
    return cluster, len(names)


def interval(estimate: float, draws: Values, confidence: float) -> Interval:
    """Compute the percentile interval (Efron and Tibshirani 1993, chapter 13) of the draws that are defined.

    Args:
        estimate: The figure of the data; NaN where not defined.
        draws: The figure of each resample, shape (resamples,); NaN where not defined.
        confidence: Confidence level, such as 0.95.
    """
    defined = draws[~np.isnan(draws)]
    undefined = 1 - len(defined) / len(draws)
    if np.isnan(estimate) or not len(defined):
        return {"estimate": number(estimate), "low": None, "high": None, "undefined": undefined}
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"estimate": float(estimate), "low": float(low), "high": float(high), "undefined": undefined}


def permutation_p_values(
    statistic: Statistic, n_groups: int, n_pairs: int, options: UncertaintyOptions
) -> NDArray[np.float64]:
    """Compute two-sided p-values of the differences between two tables of the same pairs.

    If both were equally good, it would not matter which of them scored a group. Every permutation exchanges the two
    in a random half of the groups (approximate randomisation; Yeh 2000, Dror et al. 2018).

    Args:
        statistic: From weights of the first table's groups followed by the second's, shape (b, 2 * n_groups), to
            values, shape (b, m).
        n_groups: Number of groups of each table.
        n_pairs: Number of pairs of each table.
        options: Number of permutations and seed.

    Returns:
        Shape (m,); NaN where a value is not defined. Never 0, since the observed assignment counts as one of the
        permutations (Phipson and Smyth 2010).
    """

    def difference(first: Weights, second: Weights, axis: int) -> Values:
        # A weight is 1 where a table keeps its group. scipy passes (n_groups,) once and (b, n_groups) after that.
        kept = np.atleast_2d(first), np.atleast_2d(second)
        values = statistic(np.hstack(kept)) - statistic(np.hstack(kept[::-1]))
        return values if first.ndim > 1 else values[0]

    result = scipy.stats.permutation_test(
        (np.ones(n_groups), np.zeros(n_groups)),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=options.resamples,
        batch=_at_once(2 * n_pairs),
        axis=-1,
        rng=np.random.default_rng(options.seed),
    )
    p_values: NDArray[np.float64] = np.where(np.isnan(result.statistic), np.nan, result.pvalue)
    return p_values


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of several tests, so that the chance of any false alarm stays at the level of one test.

    Holm 1979, A simple sequentially rejective multiple test procedure: the i-th smallest of m p-values is multiplied
    by m - i + 1, is never below the one before, and is at most 1.

    Args:
        p_values: One per test; None where nothing could be tested, which does not count as a test.
    """
    tested = [place for place, p in enumerate(p_values) if p is not None]
    p = np.array([p_values[place] for place in tested], np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    result: list[float | None] = [None] * len(p_values)
    for place, value in zip(tested, adjusted, strict=True):
        result[place] = float(value)
    return result


def number(value: float) -> float | None:
    """Return a float for JSON: None instead of NaN."""
    return None if np.isnan(value) else float(value)


def _at_once(n_pairs: int) -> int:
    """Return how many resamples fit into about 16 MB per array."""
    return max(1, _CELLS_AT_ONCE // n_pairs)
