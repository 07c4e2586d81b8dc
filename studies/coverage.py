"""How often the 95 % intervals of macro F1 and of a criterion's F1 cover the truth, by size and by positive pairs.

Each simulated study draws posts whose criteria are correlated, labels them at given rates, and predicts them as a model
of known skill does, so that the true F1 of each criterion is known. The intervals are those of the report: percentiles
of resamples of whole posts.

python studies/coverage.py
python studies/coverage.py --studies 50 --resamples 200
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm

from mentallam.evaluation.counts import confusion_sums, f1_of, macro_f1_of, weighted_counts
from mentallam.evaluation.few_positives import BANDS
from mentallam.evaluation.resampling import Interval, UncertaintyOptions, bootstrap, interval

RESULTS = Path(__file__).parent / "results/coverage.json"
RATES = {
    "ReDSM5": np.array([328, 124, 44, 102, 35, 124, 311, 59, 165]) / 1484,
    "sample": np.array([10, 7, 5, 6, 5, 7, 9, 5, 7]) / 60,
}
"""The share of positive posts of each criterion: as published, and in the synthetic sample."""

SIZES = (("ReDSM5", 60), ("sample", 60), ("ReDSM5", 300), ("ReDSM5", 1484))
SKILL = 0.8
"""The correlation of a score with what decides the label; an F1 of about 0.6."""

Floats = NDArray[np.float64]


def clustered(rng: np.random.Generator, n_posts: int, n_criteria: int) -> Floats:
    """Draw standard normal values, correlated by one half within a post."""
    return (rng.normal(size=(n_posts, 1)) + rng.normal(size=(n_posts, n_criteria))) / np.sqrt(2)


def simulated(rng: np.random.Generator, n_posts: int, rates: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw labels and predictions, each of shape (posts, criteria), both with the given rates of yes."""
    latent, noise = clustered(rng, n_posts, len(rates)), clustered(rng, n_posts, len(rates))
    limit = norm.isf(rates)
    return latent > limit, SKILL * latent + np.sqrt(1 - SKILL**2) * noise > limit


def true_f1(rates: Floats) -> Floats:
    """Return the F1 of each criterion in the population: the share of yes to both, over the rate of either."""
    both = multivariate_normal(cov=[[1, SKILL], [SKILL, 1]])
    return np.array([float(both.cdf([norm.ppf(rate)] * 2)) for rate in rates]) / rates


def covers(found: Interval, truth: float) -> bool:
    """Return whether an interval is defined and holds the truth."""
    return found["low"] is not None and found["low"] <= truth <= found["high"]


def run_studies(n_posts: int, rates: Floats, n_studies: int, options: UncertaintyOptions) -> dict[str, Any]:
    """Simulate studies and count how often their intervals cover.

    Returns:
        `macro_f1`: the share of studies whose interval covers the mean true F1 of the criteria with a positive pair;
        `by_positives`: for each band of `few_positives.BANDS`, intervals of a criterion's F1 and how many of them
        cover.
    """
    truth, n_criteria = true_f1(rates), len(rates)
    post, criterion = (index.ravel() for index in np.indices((n_posts, n_criteria)))
    covered = []
    bands: dict[int, list[bool]] = {lowest: [] for lowest, _ in BANDS}
    for number in range(n_studies):
        labels, predictions = simulated(np.random.default_rng(number), n_posts, rates)
        sums = confusion_sums(labels.ravel(), predictions.ravel(), criterion, post, n_posts)
        counted = labels.any(axis=0)

        def statistic(weights: Floats, sums: Floats = sums) -> Floats:
            f1 = f1_of(weighted_counts(weights, sums))
            return np.column_stack([f1, macro_f1_of(f1)])

        estimate, draws = bootstrap(statistic, n_posts, labels.size, options)
        found = [interval(estimate[place], draws[:, place], options.confidence) for place in range(n_criteria + 1)]
        covered.append(covers(found[-1], truth[counted].mean()))
        for place in np.flatnonzero(counted):
            band = max(lowest for lowest in bands if lowest <= labels[:, place].sum())
            bands[band].append(covers(found[place], truth[place]))
    return {
        "macro_f1": float(np.mean(covered)),
        "by_positives": {lowest: (len(hits), sum(hits)) for lowest, hits in bands.items()},
    }


def pooled(studies: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the coverage of a criterion's interval by its band of positive pairs, over all sizes."""
    totals = {band: np.sum([study["by_positives"][band] for study in studies], axis=0) for band, _ in BANDS}
    return {band: float(covered / intervals) for band, (intervals, covered) in totals.items() if intervals}


def main() -> None:
    """Print a row per size and per band, and save them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies per size (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=1000, help="resamples per study (default: %(default)s)")
    arguments = parser.parse_args()
    options = UncertaintyOptions(resamples=arguments.resamples, confidence=0.95, seed=0)
    print("| posts | rates | macro F1 covered |\n| --- | --- | --- |")
    rows, studies = [], []
    for rates, n_posts in SIZES:
        study = run_studies(n_posts, RATES[rates], arguments.studies, options)
        studies.append(study)
        rows.append({"posts": n_posts, "rates": rates, "macro_f1": study["macro_f1"]})
        print(f"| {n_posts} | {rates} | {study['macro_f1']:.3f} |", flush=True)
    print("\n| positive pairs from | criterion's F1 covered |\n| --- | --- |")
    by_positives = pooled(studies)
    for band, coverage in by_positives.items():
        print(f"| {band} | {coverage:.3f} |")
    RESULTS.write_text(
        json.dumps({**vars(arguments), "macro_f1": rows, "criterion_f1": by_positives}, indent=2) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
