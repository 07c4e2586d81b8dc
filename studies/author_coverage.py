"""Coverage of the nominal 95 % interval of F1, and tests at 0.05, by post and by author, where authors have effects.

python studies/author_coverage.py --studies 1000

Simulates studies of ReDSM5's size and rates, in which authors explain 20 % of the latent variance of labels and of a
model's errors. Takes about four minutes on one core.
"""

import argparse
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from mentallam.corpus.synthetic_corpus import TWIN
from mentallam.evaluation.counts import confusion_sums, f1_of, weighted_counts
from mentallam.evaluation.resampling import UncertaintyOptions, bootstrap, interval, permutation_p_values

Flags = NDArray[np.bool_]
Latent = NDArray[np.float64]

DESIGNS = ((742, 2), (186, 8), (50, 30))
"""Numbers of authors, and of posts of each: about ReDSM5's 1,484 posts."""

AUTHOR_SHARE = 0.2
"""The share of the variance that all posts and criteria of an author have in common."""

SKILL = 0.8
"""The correlation of the model's score with what decides the label."""

CUTS = norm.isf(np.array(list(TWIN.positives.values())) / TWIN.n_posts)
"""The latent value from which a criterion is matched, so that its rate is ReDSM5's."""


def latent(rng: np.random.Generator, authors: int, posts: int) -> Latent:
    """Draw standard normal values, shape (authors, posts, criteria), with an effect of the author."""
    effect = rng.normal(size=(authors, 1, 1))
    rest = rng.normal(size=(authors, posts, len(CUTS)))
    return np.asarray(np.sqrt(AUTHOR_SHARE) * effect + np.sqrt(1 - AUTHOR_SHARE) * rest)


def study(rng: np.random.Generator, authors: int, posts: int, models: int = 1) -> tuple[Flags, list[Flags]]:
    """Return labels, and the predictions of some models that are equally good, each (authors, posts, criteria)."""
    truth = latent(rng, authors, posts)
    errors = (latent(rng, authors, posts) for _ in range(models))
    return truth > CUTS, [SKILL * truth + np.sqrt(1 - SKILL**2) * error > CUTS for error in errors]


def true_f1(rng: np.random.Generator) -> float:
    """Return F1 of the population, from a sample of a million posts by as many authors."""
    labels, [predictions] = study(rng, 1_000_000, 1)
    return float(2 * (labels & predictions).sum() / (labels.sum() + predictions.sum()))


def units(authors: int, posts: int) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Yield what is resampled and the number of each pair's unit."""
    post = np.repeat(np.arange(authors * posts), len(CUTS))
    yield "post", post
    yield "author", post // posts


def coverage(design: tuple[int, int], studies: int, options: UncertaintyOptions, truth: float) -> dict[str, list[bool]]:
    """Return for both units whether the interval of each study covers the truth."""
    covered: dict[str, list[bool]] = {"post": [], "author": []}
    for number in range(studies):
        labels, [predictions] = study(np.random.default_rng(number), *design)
        # Equal draws in all studies would make their intervals too narrow, or too wide, together.
        drawn = options.model_copy(update={"seed": number})
        for unit, index in units(*design):
            sums = confusion_sums(labels.ravel(), predictions.ravel(), np.zeros_like(index), index, index[-1] + 1)
            estimate, draws = bootstrap(
                lambda weights, sums=sums: f1_of(weighted_counts(weights, sums)), len(sums), len(index), drawn
            )
            found = interval(estimate[0], draws[:, 0], options.confidence)
            covered[unit].append(bool(found["low"] <= truth <= found["high"]))
    return covered


def rejections(design: tuple[int, int], studies: int, options: UncertaintyOptions) -> dict[str, list[bool]]:
    """Return for both units whether the test of each study finds two equally good models to differ."""
    rejected: dict[str, list[bool]] = {"post": [], "author": []}
    for number in range(studies):
        labels, models = study(np.random.default_rng(number), *design, models=2)
        drawn = options.model_copy(update={"seed": number})
        for unit, index in units(*design):
            both = np.concatenate(
                [
                    confusion_sums(labels.ravel(), predictions.ravel(), np.zeros_like(index), index, index[-1] + 1)
                    for predictions in models
                ]
            )
            [p] = permutation_p_values(
                lambda weights, both=both: f1_of(weighted_counts(weights, both)), len(both) // 2, len(index), drawn
            )
            rejected[unit].append(bool(p <= 1 - options.confidence))
    return rejected


def main() -> None:
    """Print a table of coverage and rejections by design and unit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each design")
    parser.add_argument("--resamples", type=int, default=400, help="resamples, and permutations, of each study")
    arguments = parser.parse_args()
    options = UncertaintyOptions(resamples=arguments.resamples, confidence=0.95, seed=0)
    truth = true_f1(np.random.default_rng(10**9))
    print(f"F1 of the population: {truth:.3f}\n")
    print("| authors x posts | covered, by post | by author | rejected, by post | by author |")
    print("| --- | --- | --- | --- | --- |")
    for design in DESIGNS:
        covered = coverage(design, arguments.studies, options, truth)
        rejected = rejections(design, arguments.studies, options)
        figures = [np.mean(found[unit]) for found in (covered, rejected) for unit in ("post", "author")]
        print(f"| {design[0]} x {design[1]} | {' | '.join(f'{figure:.2f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
