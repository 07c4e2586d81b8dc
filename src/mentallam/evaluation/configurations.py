"""Configurations side by side, each cross-validated with the same seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mentallam.evaluation.resampling import UncertaintyOptions
from mentallam.evaluation.uncertainty import seed_spread

SHOWN = ("f1", "roc_auc")


def compare_configurations(
    tables: Mapping[str, Mapping[str, pd.DataFrame]], options: UncertaintyOptions
) -> list[dict[str, Any]]:
    """Estimate the figures of each configuration over its seeds, and their differences to the first configuration.

    A difference is taken within a seed, on the same resamples of the clusters, and its interval covers other clusters
    and other seeds (`uncertainty.seed_spread`).

    Args:
        tables: Configuration to its out-of-fold tables by seed: the same seeds, pairs and groups in all.
        options: Number of resamples, confidence and seed of the draws.

    Returns:
        A row per configuration: `configuration`, `f1` and `roc_auc`, and `difference`, the same two minus those of the
        first configuration, whose own is None. Each is a metric as `seed_spread` returns it.

    Raises:
        MentallamError: Fewer than two seeds, or tables of other pairs, labels or groups.
    """
    [(first, reference), *_] = tables.items()
    rows = []
    for configuration, of_seeds in tables.items():
        against: dict[str, Sequence[pd.DataFrame]] = (
            {} if configuration == first else {first: [reference[seed] for seed in of_seeds]}
        )
        found = seed_spread(of_seeds, options, against)
        differences = found["differences"].get(first)
        rows.append(
            {
                "configuration": configuration,
                **{name: found["metrics"][name] for name in SHOWN},
                "difference": differences and {name: differences[name] for name in SHOWN},
            }
        )
    return rows
