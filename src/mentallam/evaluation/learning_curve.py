"""The learning curve: performance on the same held-out pairs by the size of the training set."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import compare_tables

CURVE_METRICS = ("f1", "average_precision", "macro_f1")
"""The metrics of the curve."""

MODEL = "model"
"""The name of the fine-tuned model among the classifiers of the curve."""


def learning_curve(
    predictions: pd.DataFrame,
    splits: Sequence[Mapping[str, Any]],
    data_statistics: Mapping[str, Any],
    options: UncertaintyOptions,
) -> dict[str, Any]:
    """Estimate each classifier's performance by size, and what the last doubling of the training posts has brought.

    Args:
        predictions: The columns of the out-of-fold table, `model` and `size` (percent).
        splits: As `corpus.subsets.sized_splits` returns them.
        data_statistics: corpus, synthetic and data_hash.
        options: Number of resamples, confidence and seed.

    Returns:
        JSON-serialisable: `corpus`, `synthetic`, `data_hash`, `method`, `clusters`, `n_pairs`, `folds`; `sizes` (rows
        of size, and of posts, pairs and positive pairs of training, as means over the folds); `curves` (classifier to
        its rows of size and the interval of each of `CURVE_METRICS`, pooled over the folds); `last_doubling` (`of` and
        `to`, sizes, and `difference`: classifier to the metrics' differences, larger minus smaller, with interval and
        p_value); `ahead` (rows of size and the differences, `MODEL` minus another classifier, by `than`).

    Raises:
        MentallamError: The tables hold other pairs, or there are fewer than two clusters.
    """
    tables = {
        (str(model), int(size)): table.drop(columns=["model", "size"])
        for model, of_model in predictions.groupby("model", sort=False)
        for size, table in of_model.groupby(of_model["size"].astype(int))
    }
    models, sizes = list(dict.fromkeys(name for name, _ in tables)), sorted({size for _, size in tables})
    largest = sizes[-1]
    doubled_from = max((size for size in sizes[:-1] if 2 * size <= largest), default=sizes[0])
    compared = {
        (model, size): compare_tables(tables[model, largest], tables[model, size], options)
        for model in models
        for size in sizes[:-1]
    }
    points = {key: result["second"] for key, result in compared.items()}
    points |= {(model, largest): compared[model, sizes[0]]["first"] for model in models}
    any_comparison = compared[models[0], sizes[0]]
    return {
        **{name: data_statistics[name] for name in ("corpus", "synthetic", "data_hash")},
        **{name: any_comparison[name] for name in ("method", "clusters", "n_pairs")},
        "folds": sorted({split["fold"] for split in splits}),
        "sizes": [_size(size, [split for split in splits if split["size"] == size]) for size in sizes],
        "curves": {model: [{"size": size, **_shown(points[model, size])} for size in sizes] for model in models},
        "last_doubling": {
            "of": doubled_from,
            "to": largest,
            "difference": {model: _shown(compared[model, doubled_from]["difference"]) for model in models},
        },
        "ahead": [
            {"size": size, "than": other, **_shown(_difference(tables[MODEL, size], tables[other, size], options))}
            for size in sizes
            for other in models
            if other != MODEL
        ],
    }


def _difference(first: pd.DataFrame, second: pd.DataFrame, options: UncertaintyOptions) -> dict[str, Any]:
    difference: dict[str, Any] = compare_tables(first, second, options)["difference"]
    return difference


def _shown(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in CURVE_METRICS}


def _size(size: int, splits: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the size and the means over its folds."""
    n_folds = len(splits)
    return {
        "size": size,
        "posts": sum(len(split["train"]) for split in splits) / n_folds,
        "pairs": sum(split["train_pairs"] for split in splits) / n_folds,
        "positive": sum(split["train_positive"] for split in splits) / n_folds,
    }
