"""How far the figures of a cross-validation could be off, and whether two tables differ by more than that.

The unit that is drawn again is the group (a post or an author), since pairs of one group share text and annotator.

What the intervals cover: other groups from where these came from, scored by the very same trained models at the very
same thresholds. What they do not cover: training the models again, on other posts or with another seed. No unbiased
estimator of the variance of k-fold cross-validation exists, as folds share training posts (Bengio and Grandvalet 2004),
and intervals of this kind are too narrow for what the recipe would reach on another corpus (Bates, Hastie and Tibshirani
2023). `seed_spread` shows a part of the rest.

Folds are not strata. Groups are drawn from people and only then dealt out to folds, and a table with other folds (another
seed, another run) must take the same draws. The price is small: how many groups each model scores varies from draw to
draw, which widens an interval a little.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mentallam.errors import MentallamError
from mentallam.evaluation.metrics import mean_and_std
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.resampling import (
    Interval,
    UncertaintyOptions,
    bootstrap,
    holm,
    interval,
    number,
    permutation_p_values,
)
from mentallam.evaluation.weighted import (
    METRICS,
    Values,
    WeightedMetrics,
    Weights,
    confusion_sums,
    f1_of,
    ranks,
    weighted_counts,
)

PAIR = ["post_id", "criterion_id"]

METHOD = {
    "resampled": "groups with all their pairs; folds are not strata",
    "interval": "percentile",
    "test": "two tables change places in a random half of the groups; two-sided",
    "correction": "Holm, over criteria",
    "conditional_on": "the trained models and their thresholds",
}


@dataclass(frozen=True)
class Draws:
    """The metrics of a table (shape (m,)) and of its resamples (shape (resamples, m)), and the criteria behind them."""

    estimate: Values
    resampled: Values
    criteria: list[str]


def estimate_uncertainty(
    oof: pd.DataFrame, baselines: Mapping[str, pd.DataFrame], options: UncertaintyOptions
) -> dict[str, Any]:
    """Intervals of every headline figure, and what is gained over each baseline.

    Args:
        oof: The out-of-fold table.
        baselines: Name to a table of the same pairs: post_id, criterion_id, group, label, probability, prediction.
            `trivial_tables` join them.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable, None where not defined: `method`, `n_groups`, `n_pairs`, `headline` (metric to interval),
        `per_criterion` (rows of criterion_id, n_positive, f1), `protocols` (F1 of each under `f1` (pooled) and
        `f1_mean` (over folds), and `selection_optimism`), `baselines` (name to its `headline`, the `difference` to it
        and that of the F1 `per_criterion`).

    Raises:
        MentallamError: A baseline's table is not one of the same pairs, or there are fewer than two groups.
    """
    own = _draw(oof, options)
    return {
        "method": {**METHOD, **options.model_dump()},
        "n_groups": int(oof["group"].nunique()),
        "n_pairs": len(oof),
        "headline": _headline(own, options),
        "per_criterion": [
            {**row, "f1": interval(own.estimate[column], own.resampled[:, column], options.confidence)}
            for column, row in enumerate(_criterion_rows(oof, own.criteria), start=len(METRICS))
        ],
        "protocols": _protocols(oof, options),
        "baselines": {
            name: _compared(oof, own, paired(oof, table, name), options)
            for name, table in (trivial_tables(oof) | dict(baselines)).items()
        },
    }


def compare_tables(first: pd.DataFrame, second: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """Compare two cross-validations of the same pairs; the folds may differ, the groups may not.

    Args:
        first: Columns post_id, criterion_id, group, label, probability, prediction.
        second: The same columns and pairs, in any order.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable: `method`, `n_groups`, `n_pairs`, `first` and `second` (metric to interval), `difference`
        (metric to interval and p_value of first minus second), `per_criterion` (rows of criterion_id, n_positive and
        the F1's difference, interval, p_value and p_holm).

    Raises:
        MentallamError: The tables hold other pairs, labels or groups, or there are fewer than two groups.
    """
    own = _draw(first, options)
    compared = _compared(first, own, paired(first, second, "the second"), options)
    return {
        "method": {**METHOD, **options.model_dump()},
        "n_groups": int(first["group"].nunique()),
        "n_pairs": len(first),
        "first": _headline(own, options),
        "second": compared.pop("headline"),
        **compared,
    }


def seed_spread(tables: Mapping[str, pd.DataFrame], options: UncertaintyOptions) -> dict[str, Any]:
    """Repeat the cross-validation with other seeds and see what they change.

    Args:
        tables: Name of the repeat to its out-of-fold table; two or more, of the same pairs and groups.
        options: Number of resamples, confidence and seed of the draws.

    Returns:
        `repeats` (the names) and `metrics`: metric to `estimates` (one per repeat), `mean`, `std_between_seeds` (sample
        standard deviation of the estimates; not a bootstrap figure), and `low`, `high`, `undefined`: the bootstrap
        interval of the mean over the repeats, every repeat taking the same draws of groups.

    Raises:
        MentallamError: Fewer than two tables, or tables of other pairs, labels or groups.
    """
    if len(tables) < 2:
        raise MentallamError("One table shows no spread between seeds: name the tables of two or more runs.")
    [(_, first), *others] = tables.items()
    aligned = [first, *(paired(first, table, name) for name, table in others)]
    drawn = [_draw(table, options) for table in aligned]
    metrics = {}
    for column, metric in enumerate(METRICS):
        estimates = [number(own.estimate[column]) for own in drawn]
        spread = mean_and_std(estimates)
        mean = np.nan if None in estimates else np.mean([own.estimate[column] for own in drawn])
        resampled = np.mean([own.resampled[:, column] for own in drawn], axis=0)
        own_interval = interval(mean, resampled, options.confidence)
        metrics[metric] = {
            "estimates": dict(zip(tables, estimates, strict=True)),
            "mean": own_interval["estimate"],
            "std_between_seeds": None if None in estimates else spread["std"],
            **{name: own_interval[name] for name in ("low", "high", "undefined")},
        }
    return {"repeats": list(tables), "metrics": metrics}


def trivial_tables(oof: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of two classifiers that read nothing: `all_negative` and `all_positive`.

    Args:
        oof: The out-of-fold table.
    """
    return {
        name: oof.assign(probability=float(answer), prediction=np.int8(answer))
        for answer, name in enumerate(("all_negative", "all_positive"))
    }


def paired(first: pd.DataFrame, second: pd.DataFrame, name: str) -> pd.DataFrame:
    """The second table in the first's order, once it is clear that both speak of the same pairs.

    Args:
        first: Columns post_id, criterion_id, group, label.
        second: The same columns.
        name: What the second is called in an error.

    Raises:
        MentallamError: A pair that only one of them has or has twice, or that has another label or group.
    """
    own, other = (table.set_index(PAIR, drop=False) for table in (first, second))
    for where, these, those in (("the first table", own, other), (f"the table of {name}", other, own)):
        if these.index.has_duplicates:
            _refuse(name, f"{_named(these.index[these.index.duplicated()][0])} stands twice in {where}")
        if len(lacking := these.index.difference(those.index)):
            _refuse(name, f"{_named(lacking[0])} is only in {where}")
    other = other.loc[own.index]
    for column in ("label", "group"):
        if (differing := own[column].to_numpy() != other[column].to_numpy()).any():
            _refuse(name, f"{_named(own.index[differing][0])} has another {column} there")
    return other.reset_index(drop=True)


def _named(pair: tuple[str, str]) -> str:
    return f"the pair of post {pair[0]!r} and criterion {pair[1]!r}"


def _refuse(name: str, reason: str) -> None:
    raise MentallamError(
        f"The table of {name} cannot be compared with the first: {reason}; compare runs of the same data and groups."
    )


def _groups(pairs: pd.DataFrame) -> tuple[NDArray[np.intp], int]:
    """The number of each row's group, and how many groups there are."""
    names, group = np.unique(pairs["group"].to_numpy(str), return_inverse=True)
    if len(names) < 2:
        raise MentallamError("Uncertainty needs two groups or more: fewer cannot be drawn anew; use more posts.")
    return group, len(names)


def _draw(pairs: pd.DataFrame, options: UncertaintyOptions) -> Draws:
    group, n_groups = _groups(pairs)
    metrics = WeightedMetrics(pairs, group, n_groups)
    return Draws(*bootstrap(metrics, n_groups, len(pairs), options), metrics.criteria)


def _headline(draws: Draws, options: UncertaintyOptions) -> dict[str, Interval]:
    return {
        metric: interval(draws.estimate[column], draws.resampled[:, column], options.confidence)
        for column, metric in enumerate(METRICS)
    }


def _criterion_rows(pairs: pd.DataFrame, criteria: list[str]) -> list[dict[str, Any]]:
    positive = pairs.groupby("criterion_id")["label"].sum()
    return [{"criterion_id": criterion_id, "n_positive": int(positive[criterion_id])} for criterion_id in criteria]


def _compared(first: pd.DataFrame, own: Draws, second: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """The second table's headline, and the first minus the second in every draw; both have the same draws."""
    other = _draw(second, options)
    p_values = [number(p) for p in _p_values(first, second, options)]
    differences = [
        {**interval(estimate, resampled, options.confidence), "p_value": p_value}
        for estimate, resampled, p_value in zip(
            own.estimate - other.estimate, (own.resampled - other.resampled).T, p_values, strict=True
        )
    ]
    of_criteria = slice(len(METRICS), None)
    rows = zip(_criterion_rows(first, own.criteria), differences[of_criteria], holm(p_values[of_criteria]), strict=True)
    return {
        "headline": _headline(other, options),
        "difference": dict(zip(METRICS, differences, strict=False)),
        "per_criterion": [{**row, **difference, "p_holm": p_holm} for row, difference, p_holm in rows],
    }


def _p_values(first: pd.DataFrame, second: pd.DataFrame, options: UncertaintyOptions) -> Values:
    group, n_groups = _groups(first)
    # Exchanged scores meet in one ranking, whatever scale each model has: its own ranks (Venkatraman and Begg 1996).
    rank = np.concatenate([ranks(table["probability"]) for table in (first, second)])
    both = pd.concat([first, second], ignore_index=True)
    metrics = WeightedMetrics(both, np.concatenate([group, group + n_groups]), 2 * n_groups, rank)
    return permutation_p_values(metrics, n_groups, len(first), options)


def _protocols(oof: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """F1 under each protocol, every threshold as chosen once on the whole table.

    Choosing again in every resample would be optimistic twice: once for the table, once for the resample, whose pairs
    stand in it several times. So the interval says how sure the figure is, not how biased; the bias is the estimate
    of `selection_optimism` itself.
    """
    group, n_groups = _groups(oof)
    fold = np.unique(oof["fold"], return_inverse=True)[1]
    protocols = protocol_predictions(oof)
    sums = np.stack([confusion_sums(oof["label"], own, fold, group, n_groups) for own in protocols.values()], axis=1)
    has_positives = sums[:, 0, :, 2:].any(axis=(0, 2))

    def statistic(weights: Weights) -> Values:
        counts = weighted_counts(weights, sums)
        mean = np.where(has_positives, f1_of(counts), 0.0).mean(axis=2)  # without a positive 0, as in the summary
        return np.hstack([f1_of(counts.sum(axis=2)), mean, mean[:, [-1]] - mean[:, [0]]])

    estimate, resampled = bootstrap(statistic, n_groups, len(oof), options)
    intervals = [interval(estimate[k], resampled[:, k], options.confidence) for k in range(len(estimate))]
    names = list(protocols)
    return {
        **{
            name: {"f1": intervals[place], "f1_mean": intervals[len(names) + place]} for place, name in enumerate(names)
        },
        "selection_optimism": intervals[-1],
    }
