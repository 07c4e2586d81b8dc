"""Uncertainty of the figures of a cross-validation, and of the difference between two tables.

The resampling unit is the cluster: an author where authors are known, else a group of the folds (near copies, or one
post), since pairs of a cluster share text, writer and annotator. `corpus.groups` makes the clusters; they do not depend
on what the folds group by. `studies/author_coverage.py` shows what intervals by post miss.

The intervals cover other clusters from the same source, scored by the same trained models at the same thresholds. They
do not cover training the models again, on other posts or with another seed. No unbiased estimator of the variance of
k-fold cross-validation exists, since folds share training posts (Bengio and Grandvalet 2004). Such intervals are too
narrow for the figures that the recipe would reach on another corpus (Bates, Hastie and Tibshirani 2023).
`seed_spread` estimates a part of the rest.

Folds are not strata. Clusters are drawn from people and only then dealt to folds, and a table with other folds (another
seed, another run) must get the same draws. The cost is small: the number of clusters that each model scores varies
between draws, which widens an interval a little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mentallam.config import DecisionConfig
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration_check import check_calibration
from mentallam.evaluation.counts import Values, Weights, confusion_sums, f1_of, weighted_counts
from mentallam.evaluation.few_positives import MACRO_F1_COVERAGE, simulated_coverage
from mentallam.evaluation.metrics import mean_and_std
from mentallam.evaluation.net_benefit import decision_curve
from mentallam.evaluation.protocols import protocol_predictions
from mentallam.evaluation.resampling import (
    Interval,
    UncertaintyOptions,
    bootstrap,
    cluster_names,
    clusters_of,
    holm,
    interval,
    number,
    permutation_p_values,
)
from mentallam.evaluation.trivial import trivial_tables
from mentallam.evaluation.weighted import HEADLINE, WeightedMetrics, ranks

PAIR = ["post_id", "criterion_id"]
COMPARED_COLUMNS = [*PAIR, "group", "label", "probability", "prediction"]

METHOD = {
    "resampled": "clusters with all their pairs; folds are not strata",
    "interval": "percentile",
    "test": "two tables change places in a random half of the clusters; two-sided",
    "correction": "Holm: F1 over the baselines, F1 of criteria over criteria; other p-values are not corrected",
    "conditional_on": "the trained models and their thresholds",
}


@dataclass(frozen=True)
class Draws:
    """Metrics of a table (shape (m,)) and of its resamples (shape (resamples, m)), and its criteria."""

    estimate: Values
    resampled: Values
    criteria: list[str]


def estimate_uncertainty(
    oof: pd.DataFrame, baselines: Mapping[str, pd.DataFrame], options: UncertaintyOptions, decision: DecisionConfig
) -> dict[str, Any]:
    """Estimate the interval of every headline figure and the difference to each baseline.

    Args:
        oof: The out-of-fold table.
        baselines: Name to a table of the same pairs: post_id, criterion_id, group, label, probability, prediction.
            `trivial_tables` are added.
        options: Number of resamples, confidence and seed.
        decision: How the thresholds of the table were chosen, for the protocols.

    Returns:
        JSON-serialisable, None where not defined: `method`, `clusters` (`describe_clusters`), `n_pairs`, `headline`
        (metric to interval), `per_criterion` (rows of criterion_id, n_positive, f1 and the `simulated_coverage` of its
        interval), `macro_f1_coverage` (rows of posts and the coverage of macro F1's interval in simulations),
        `protocols` (F1 of each under `f1` (pooled) and `f1_mean` (over folds), and `selection_optimism`), `calibration`
        (of `calibration_check`), `decision_curve` (of `net_benefit`), `baselines` (name to its `headline`, the
        `difference` to it, of F1 with `p_holm` over the baselines, and that of the F1 `per_criterion`).

    Raises:
        MentallamError: A baseline's table is not one of the same pairs, or there are fewer than two clusters.
    """
    draws = _draw(oof, options)
    compared = {
        name: _compared(oof, draws, paired(oof, table, name), options)
        for name, table in (trivial_tables(oof) | dict(baselines)).items()
    }
    of_f1 = [other["difference"]["f1"] for other in compared.values()]
    for difference, p_holm in zip(of_f1, holm([difference["p_value"] for difference in of_f1]), strict=True):
        difference["p_holm"] = p_holm
    return {
        "method": {**METHOD, **options.model_dump()},
        "clusters": describe_clusters(oof),
        "n_pairs": len(oof),
        "headline": _headline(draws, options),
        "per_criterion": [
            {
                **row,
                "f1": interval(draws.estimate[column], draws.resampled[:, column], options.confidence),
                "simulated_coverage": simulated_coverage(row["n_positive"]),
            }
            for column, row in enumerate(_criterion_rows(oof, draws.criteria), start=len(HEADLINE))
        ],
        "macro_f1_coverage": [{"posts": posts, "coverage": coverage} for posts, coverage in MACRO_F1_COVERAGE],
        "protocols": protocol_intervals(oof, options, decision),
        "calibration": check_calibration(oof, options),
        "decision_curve": decision_curve(oof, options),
        "baselines": compared,
    }


def f1_intervals(uncertainty: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Select the intervals of F1 that a figure draws.

    Args:
        uncertainty: As `estimate_uncertainty` returns it.

    Returns:
        "model" or a baseline's name, to criterion_id or "all" (all pairs), to the interval. A baseline has only
        "all". Intervals that are not defined are left out.
    """
    of_criteria = {
        row["criterion_id"]: row["f1"] for row in uncertainty["per_criterion"] if row["f1"]["low"] is not None
    }
    of_all = {name: other["headline"]["f1"] for name, other in uncertainty["baselines"].items()}
    of_all["model"] = uncertainty["headline"]["f1"]
    drawn = {name: {"all": f1} for name, f1 in of_all.items() if f1["low"] is not None}
    return {**drawn, "model": {**drawn.get("model", {}), **of_criteria}}


def compare_tables(first: pd.DataFrame, second: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """Compare two cross-validations of the same pairs; the folds may differ, the groups may not.

    Args:
        first: Columns post_id, criterion_id, group, label, probability, prediction.
        second: The same columns and pairs, in any order.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable: `method`, `clusters` (`describe_clusters`), `n_pairs`, `first` and `second` (metric to
        interval), `difference`
        (metric to interval and p_value of first minus second), `per_criterion` (rows of criterion_id, n_positive and
        the F1's difference, interval, p_value and p_holm).

    Raises:
        MentallamError: The tables hold other pairs, labels or groups, or there are fewer than two clusters.
    """
    draws = _draw(first, options)
    compared = _compared(first, draws, paired(first, second, "the second"), options)
    return {
        "method": {**METHOD, **options.model_dump()},
        "clusters": describe_clusters(first),
        "n_pairs": len(first),
        "first": _headline(draws, options),
        "second": compared.pop("headline"),
        **compared,
    }


def seed_spread(
    tables: Mapping[str, pd.DataFrame],
    options: UncertaintyOptions,
    baselines: Mapping[str, Sequence[pd.DataFrame]] | None = None,
) -> dict[str, Any]:
    """Estimate the spread between cross-validations with different seeds, and their differences to each baseline.

    An interval covers other clusters and other seeds. Each resample of the clusters, the same for every repeat, gets
    the mean over the repeats, plus the error of a mean of R seeds: their standard deviation / sqrt(R), times a draw
    from Student's t with R - 1 degrees of freedom. Resampling the seeds themselves would be too narrow: of three seeds,
    a bootstrap sees 2/3 of the variance.

    Args:
        tables: Name of the repeat to its out-of-fold table; at least two, of the same pairs and groups.
        options: Number of resamples, confidence and seed of the draws.
        baselines: Name of a baseline to its tables, one per repeat in their order.

    Returns:
        `repeats` (the names), `metrics` and `differences` (baseline to metric, of the model minus the baseline): metric
        to `estimates` (one per repeat), `mean`, `std_between_seeds` (sample standard deviation of the estimates), and
        `low`, `high`, `undefined`: the interval of the mean over the repeats.

    Raises:
        MentallamError: Fewer than two tables, or tables of other pairs, labels or groups.
    """
    if len(tables) < 2:
        raise MentallamError("one table shows no spread between seeds; name the tables of two or more runs")
    [(_, first), *others] = tables.items()
    drawn = [_draw(table, options) for table in [first, *(paired(first, table, name) for name, table in others)]]
    differences = {}
    for baseline, of_repeats in (baselines or {}).items():
        aligned = (
            paired(first, table, f"{baseline} of {name}") for name, table in zip(tables, of_repeats, strict=True)
        )
        against = [_less(draws, _draw(table, options)) for draws, table in zip(drawn, aligned, strict=True)]
        differences[baseline] = _over_seeds(list(tables), against, options)
    return {
        "repeats": list(tables),
        "metrics": _over_seeds(list(tables), drawn, options),
        "differences": differences,
    }


def _less(draws: Draws, other: Draws) -> Draws:
    return Draws(draws.estimate - other.estimate, draws.resampled - other.resampled, draws.criteria)


def _over_seeds(names: Sequence[str], drawn: Sequence[Draws], options: UncertaintyOptions) -> dict[str, Any]:
    """Return metric to the estimates of the repeats, their mean, its interval, and their standard deviation."""
    n_seeds = len(drawn)
    luck = np.random.default_rng([options.seed, n_seeds]).standard_t(n_seeds - 1, options.resamples) / np.sqrt(n_seeds)
    metrics = {}
    for column, metric in enumerate(HEADLINE):
        estimates = [number(draws.estimate[column]) for draws in drawn]
        spread = None if None in estimates else mean_and_std(estimates)["std"]
        mean = np.nan if None in estimates else np.mean([draws.estimate[column] for draws in drawn])
        resampled = np.mean([draws.resampled[:, column] for draws in drawn], axis=0) + (spread or 0.0) * luck
        of_mean = interval(mean, resampled, options.confidence)
        metrics[metric] = {
            "estimates": dict(zip(names, estimates, strict=True)),
            "mean": of_mean["estimate"],
            "std_between_seeds": spread,
            **{name: of_mean[name] for name in ("low", "high", "undefined")},
        }
    return metrics


def protocol_intervals(oof: pd.DataFrame, options: UncertaintyOptions, decision: DecisionConfig) -> dict[str, Any]:
    """Estimate intervals of F1 under each protocol, with every threshold chosen once on the whole table.

    Choosing again in every resample would be optimistic twice: for the table, and for the resample, which holds some
    pairs several times. So the interval shows the uncertainty of the figure, not its bias; the estimate of
    `selection_optimism` is the bias.

    Args:
        oof: The out-of-fold table.
        options: Number of resamples, confidence and seed.
        decision: How the thresholds of the table were chosen.

    Returns:
        Protocol to the intervals of `f1` (pooled) and `f1_mean` (over the folds that hold a positive pair, as in the
        summary), and `selection_optimism`: the interval of f1_mean under same_fold minus under dev_split.

    Raises:
        MentallamError: Fewer than two clusters.
    """
    cluster, n_clusters = clusters_of(oof)
    fold = np.unique(oof["fold"], return_inverse=True)[1]
    protocols = protocol_predictions(oof, decision)
    sums = np.stack(
        [confusion_sums(oof["label"], predicted, fold, cluster, n_clusters) for predicted in protocols.values()], axis=1
    )
    has_positives = sums[:, 0, :, 2:].any(axis=(0, 2))

    def statistic(weights: Weights) -> Values:
        counts = weighted_counts(weights, sums)
        of_folds = f1_of(counts[:, :, has_positives])
        mean = of_folds.mean(axis=2) if has_positives.any() else np.full(of_folds.shape[:2], np.nan)
        return np.hstack([f1_of(counts.sum(axis=2)), mean, mean[:, [-1]] - mean[:, [0]]])

    estimate, resampled = bootstrap(statistic, n_clusters, len(oof), options)
    intervals = [interval(estimate[k], resampled[:, k], options.confidence) for k in range(len(estimate))]
    names = list(protocols)
    return {
        **{
            name: {"f1": intervals[place], "f1_mean": intervals[len(names) + place]} for place, name in enumerate(names)
        },
        "selection_optimism": intervals[-1],
    }


def paired(first: pd.DataFrame, second: pd.DataFrame, name: str) -> pd.DataFrame:
    """Check that two tables hold the same pairs, and return the second in the order of the first.

    Args:
        first: Columns post_id, criterion_id, group, label.
        second: `COMPARED_COLUMNS`. Its clusters are replaced by those of the first.
        name: Name of the second table in an error.

    Raises:
        MentallamError: A missing column, a pair that is in only one table or twice in one, or a pair with another
            label or group in the second.
    """
    if lacks := [column for column in COMPARED_COLUMNS if column not in second]:
        _refuse(name, f"it has no column {lacks[0]!r}")
    expected, found = (table.set_index(PAIR, drop=False) for table in (first, second))
    for where, these, those in (("the first table", expected, found), (f"the table of {name}", found, expected)):
        if these.index.has_duplicates:
            _refuse(name, f"{_named(these.index[these.index.duplicated()][0])} is twice in {where}")
        if len(lacking := these.index.difference(those.index)):
            _refuse(name, f"{_named(lacking[0])} is only in {where}")
    found = found.loc[expected.index]
    for column in ("label", "group"):
        if (differing := expected[column].to_numpy() != found[column].to_numpy()).any():
            _refuse(name, f"{_named(expected.index[differing][0])} has another {column} there")
    return found.reset_index(drop=True).assign(cluster=cluster_names(first).array)


def describe_clusters(oof: pd.DataFrame) -> dict[str, Any]:
    """Describe what is resampled.

    Args:
        oof: An out-of-fold table.

    Returns:
        `unit`: author, if some posts name theirs; group, if some posts share one; else post. `n`: the number of
        clusters. `posts_without_author`: how many posts name no author where others do, else 0.
    """
    posts = oof.assign(cluster=cluster_names(oof)).drop_duplicates("post_id")
    authors = posts["author_seen"].notna() if "author_seen" in posts else pd.Series(False, posts.index)
    unit = "author" if authors.any() else "group" if posts["cluster"].duplicated().any() else "post"
    return {
        "unit": unit,
        "n": int(posts["cluster"].nunique()),
        "posts_without_author": int((~authors).sum()) if unit == "author" else 0,
    }


def _named(pair: tuple[str, str]) -> str:
    return f"the pair of post {pair[0]!r} and criterion {pair[1]!r}"


def _refuse(name: str, reason: str) -> None:
    raise MentallamError(
        f"the table of {name} cannot be compared with the first: {reason}; compare runs of the same data and groups"
    )


def _draw(pairs: pd.DataFrame, options: UncertaintyOptions) -> Draws:
    cluster, n_clusters = clusters_of(pairs)
    metrics = WeightedMetrics(pairs, cluster, n_clusters)
    return Draws(*bootstrap(metrics, n_clusters, len(pairs), options), metrics.criteria)


def _headline(draws: Draws, options: UncertaintyOptions) -> dict[str, Interval]:
    return {
        metric: interval(draws.estimate[column], draws.resampled[:, column], options.confidence)
        for column, metric in enumerate(HEADLINE)
    }


def _criterion_rows(pairs: pd.DataFrame, criteria: list[str]) -> list[dict[str, Any]]:
    positive = pairs.groupby("criterion_id")["label"].sum()
    return [{"criterion_id": criterion_id, "n_positive": int(positive[criterion_id])} for criterion_id in criteria]


def _compared(first: pd.DataFrame, draws: Draws, second: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    """Return the headline of the second table and the differences first minus second; both have the same draws."""
    other = _draw(second, options)
    p_values = [number(p) for p in _p_values(first, second, options)]
    differences = [
        {**interval(estimate, resampled, options.confidence), "p_value": p_value}
        for estimate, resampled, p_value in zip(
            draws.estimate - other.estimate, (draws.resampled - other.resampled).T, p_values, strict=True
        )
    ]
    of_criteria = slice(len(HEADLINE), None)
    rows = zip(
        _criterion_rows(first, draws.criteria), differences[of_criteria], holm(p_values[of_criteria]), strict=True
    )
    return {
        "headline": _headline(other, options),
        "difference": dict(zip(HEADLINE, differences, strict=False)),
        "per_criterion": [{**row, **difference, "p_holm": p_holm} for row, difference, p_holm in rows],
    }


def _p_values(first: pd.DataFrame, second: pd.DataFrame, options: UncertaintyOptions) -> Values:
    cluster, n_clusters = clusters_of(first)
    # Exchanged scores are ranked together. The models' scales may differ, so each model's scores become ranks first
    # (Venkatraman and Begg 1996).
    rank = np.concatenate([ranks(table["probability"]) for table in (first, second)])
    both = pd.concat([first, second], ignore_index=True)
    metrics = WeightedMetrics(both, np.concatenate([cluster, cluster + n_clusters]), 2 * n_clusters, rank)
    return permutation_p_values(metrics, n_clusters, len(first), options)
