"""How a batch differs from the posts that its model learnt from, by the counts in the summary of the batch alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import fisher_exact

from mentallam.batch_files import BatchFiles
from mentallam.errors import MentallamError
from mentallam.evaluation.resampling import holm
from mentallam.limits import read_json
from mentallam.serving.output_fields import TRAINED

_NEEDED = {"counts", "criteria", "post_tokens", "tokens_per_character", "post_ms", "tokens", "reference"}


class MonitorOptions(BaseModel):
    """The parameters under `monitor`.

    Attributes:
        psi: The population stability index from which on a difference between two distributions counts.
        rate_change: The difference between two positive rates that counts, from 0 to 1.
        level: The chance of any false alarm among all tests, by Holm's correction.
        permutations: Permutations of each test of a distribution.
        truncated_rise: How far the share of posts that were cut may lie above that of the training posts.
        rejected_share: The largest share of rows that may be rejected.
        latency_ms: The most milliseconds per post of the 95th percentile.
        fail: Whether an alert ends the run with exit code 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    psi: float = Field(gt=0)
    rate_change: float = Field(gt=0, lt=1)
    level: float = Field(gt=0, lt=1)
    permutations: int = Field(ge=999)
    truncated_rise: float = Field(ge=0, le=1)
    rejected_share: float = Field(ge=0, le=1)
    latency_ms: float = Field(gt=0)
    fail: bool = False


def load_summary(summary: str | None, files: BatchFiles) -> dict[str, Any]:
    """Return the summary of a batch.

    Args:
        summary: Its file; None for the one of the last batch.
        files: The files of the last batch.

    Raises:
        MentallamError: There is none, or it is none of this version.
    """
    path = files.summary if summary is None else Path(str(summary))
    way_out = "run `kedro run --pipeline inference` first, or name the summary of a batch with summary=FILE"
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise MentallamError(f"{path} does not exist: {way_out}") from None
    except (OSError, ValueError):
        raise MentallamError(f"{path} can't be read as JSON: {way_out}") from None
    if not isinstance(content, dict) or not content.keys() >= _NEEDED:
        raise MentallamError(f"{path} is no summary of a batch, or one of an older version: {way_out}")
    if "tokens" not in content["reference"].get("dev", {}):
        raise MentallamError(
            f"{path}: an older version trained the model and kept no counts of its training posts; train it again"
        )
    return content


def compare_batch(summary: Mapping[str, Any], options: MonitorOptions) -> dict[str, Any]:
    """Compare a batch with the dev posts of the model's training.

    Args:
        summary: From `load_summary`.
        options: What counts as a difference.

    Returns:
        Figures and tests as plain values, and under `alerts` one sentence for each difference that counts.
    """
    dev, counts = summary["reference"]["dev"], summary["counts"]
    trained = [
        name for name, row in summary["criteria"].items() if row["wording"] == TRAINED and name in dev["criteria"]
    ]
    n_folds = len(summary.get("model", {}).get("folds", ()))
    # The mean of several folds is spread otherwise than the scores of the one fold that the dev posts have.
    distributions = _distributions(summary, dev, trained if n_folds <= 1 else (), options)
    rates = [_rate(name, summary, dev) for name in trained]
    corrected = holm([row["p"] for row in [*distributions, *rates]])
    for row, p_holm in zip([*distributions, *rates], corrected, strict=True):
        row["p_holm"] = p_holm
        row["alert"] = p_holm is not None and p_holm < options.level and _counts(row, options)
    limits = _limits(summary, dev, options)
    return {
        "posts": counts["posts"],
        "training_posts": dev["posts"],
        "folds": n_folds,
        "model": summary.get("model", {}),
        "options": options.model_dump(),
        "distributions": distributions,
        "rates": rates,
        "limits": limits,
        "not_compared": [name for name in summary["criteria"] if name not in trained],
        "alerts": [row["sentence"] for row in [*distributions, *rates, *limits] if row["alert"]],
    }


def _counts(row: Mapping[str, Any], options: MonitorOptions) -> bool:
    """Return whether a difference is large enough to count, whatever its test says."""
    if "psi" in row:
        return bool(row["psi"] >= options.psi)
    return bool(abs(row["rate"] - row["training_rate"]) >= options.rate_change)


def stability_index(reference: ArrayLike, batch: ArrayLike) -> NDArray[np.float64]:
    """Return the population stability index of counts in bins, over the last axis.

    Half a post is added to each bin, so that an empty one has a share.
    """
    shares = [(counts := np.asarray(given) + 0.5) / counts.sum(axis=-1, keepdims=True) for given in (reference, batch)]
    return np.asarray(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum(axis=-1))


def index_with_test(reference: Sequence[int], batch: Sequence[int], permutations: int) -> tuple[float, float]:
    """Return the population stability index and its p-value by permutation.

    The index of two samples of the same posts grows as the samples shrink, so a fixed limit alone would raise an alarm
    for every small batch. Shuffling posts between the two groups shows how large it becomes by chance.

    Args:
        reference: Posts by bin.
        batch: Posts by bin.
        permutations: How many.
    """
    both = np.array([reference, batch])
    both = both[:, both.sum(axis=0) > 0]
    index, pooled = float(stability_index(*both)), both.sum(axis=0)
    rng = np.random.default_rng(0)
    shuffled = rng.multivariate_hypergeometric(pooled, both[1].sum(), size=permutations, method="marginals")
    as_large = stability_index(pooled - shuffled, shuffled) >= index - 1e-12
    return index, float((1 + as_large.sum()) / (1 + permutations))


def _distributions(
    summary: Mapping[str, Any], dev: Mapping[str, Any], trained: Sequence[str], options: MonitorOptions
) -> list[dict[str, Any]]:
    fertilities = list(summary["tokens_per_character"].values())
    mean, dev_mean = summary["tokens"] / summary["counts"]["posts"], dev["tokens"] / dev["posts"]
    highest = max(np.flatnonzero(dev["fertilities"]), default=0)
    beyond = sum(fertilities[highest + 1 :]) / sum(fertilities)
    compared = [
        (
            "post_tokens",
            dev["lengths"],
            list(summary["post_tokens"].values()),
            f"the posts have other lengths than the training posts: {mean:.0f} tokens on average, not {dev_mean:.0f}",
        ),
        (
            "tokens_per_character",
            dev["fertilities"],
            fertilities,
            f"the posts differ from the training posts in tokens per character, as in another language or unusual "
            f"text: {beyond:.0%} of them have more than any training post",
        ),
        *(
            (
                f"score of {name}",
                dev["criteria"][name]["scores"],
                summary["criteria"][name]["scores"],
                f"the scores of {name} are distributed otherwise than on the training posts",
            )
            for name in trained
        ),
    ]
    rows = []
    for what, reference, batch, sentence in compared:
        psi, p = index_with_test(reference, batch, options.permutations)
        rows.append(
            {"what": what, "psi": psi, "p": p, "sentence": f"{sentence} (population stability index {psi:.2f})"}
        )
    return rows


def _rate(name: str, summary: Mapping[str, Any], dev: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a criterion's share of matched posts with that of the model's own answers on the dev posts."""
    batch, training = summary["criteria"][name], dev["criteria"][name]
    table = [[row["yes"], row["pairs"] - row["yes"]] for row in (batch, training)]
    rate, training_rate = batch["yes"] / batch["pairs"], training["yes"] / training["pairs"]
    return {
        "criterion_id": name,
        "rate": rate,
        "training_rate": training_rate,
        "rate_of_labels": summary["reference"].get("positive_rate", {}).get(name),
        "p": float(fisher_exact(table).pvalue),
        "sentence": f"{name} matches {rate:.0%} of the posts, against {training_rate:.0%} of the training posts",
    }


def _limits(summary: Mapping[str, Any], dev: Mapping[str, Any], options: MonitorOptions) -> list[dict[str, Any]]:
    counts = summary["counts"]
    truncated, most_truncated = summary["truncated_share"], dev["truncated"] / dev["posts"] + options.truncated_rise
    rejected = counts["rejected_rows"] / counts["rows"]
    p95_ms = summary["post_ms"]["p95"]
    found = [
        ("truncated_share", truncated, most_truncated, f"{truncated:.0%} of the posts were cut to fit"),
        ("rejected_share", rejected, options.rejected_share, f"{rejected:.0%} of the rows could not be answered"),
        ("latency_p95_ms", p95_ms, options.latency_ms, f"the 95th percentile is {p95_ms:.0f} ms per post"),
    ]
    return [
        {
            "what": what,
            "value": value,
            "limit": limit,
            "alert": value > limit,
            "sentence": f"{sentence} (limit {f'{limit:g} ms' if what.endswith('ms') else f'{limit:.0%}'})",
        }
        for what, value, limit, sentence in found
    ]
