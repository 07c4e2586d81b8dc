"""The summary of a batch: what was asked and answered, how it compares with the training posts, and by which model."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from typing import Any

from mentallam.config import InferenceConfig
from mentallam.evaluation.tallies import FERTILITIES, LENGTHS, Tally
from mentallam.serving.batch import TIMES, Progress
from mentallam.serving.notices import notice
from mentallam.serving.output_fields import TRAINED, UNTRAINED
from mentallam.serving.partitions import Described
from mentallam.serving.predictor import Predictor


def summarise_batch(
    progress: Progress, predictor: Predictor | Described, config: InferenceConfig, region: str
) -> dict[str, Any]:
    """Return the summary as plain values; it holds no text of a post.

    Args:
        progress: What was counted.
        predictor: What has answered.
        config: How.
        region: Whose crisis line the notice names.
    """
    tally = progress.tally
    return {
        "notice": notice(region),
        "counts": {
            "files": progress.files,
            "rows": progress.rows,
            "rejected_rows": progress.rejected,
            "repeated_rows": progress.repeated,
            "posts": tally.posts,
            "truncated_posts": tally.truncated,
            "pairs": tally.pairs,
            "matched_pairs": tally.yes,
            "pairs_of_untrained_wording": progress.untrained,
        },
        "truncated_share": tally.truncated / tally.posts,
        "tokens": tally.tokens,
        "post_tokens": _named(LENGTHS, tally.lengths),
        "tokens_per_character": _named(FERTILITIES, tally.fertilities, "more"),
        "criteria": _criteria(tally, predictor),
        "seconds": progress.seconds,
        "posts_per_second": tally.posts / max(progress.seconds, 1e-9),
        "post_ms": {f"p{percent}": 1000 * time_quantile(progress.times, percent / 100) for percent in (50, 95)},
        "seconds_per_post": _named([f"{end:g}" for end in TIMES], progress.times),
        "reference": dict(predictor.reference),
        "model": {**predictor.facts, "inference": asdict(config)},
    }


def time_quantile(counts: Sequence[int], quantile: float) -> float:
    """Return a quantile of the seconds per post, interpolated within its bin as Prometheus does.

    Args:
        counts: Posts by seconds, in the bins of `batch.TIMES`; in the last bin the quantile is the bin's lower end.
        quantile: From 0 to 1.
    """
    reached = list(accumulate(counts))
    wanted = quantile * reached[-1]
    place = bisect_left(reached, wanted)
    if place == len(TIMES):
        return TIMES[-1]
    low, before = (TIMES[place - 1], reached[place - 1]) if place else (0.0, 0)
    return low + (TIMES[place] - low) * (wanted - before) / counts[place]


def _named(ends: Sequence[object], counts: Sequence[int], last: str = "longer") -> dict[str, int]:
    """Return the counts of bins by the upper ends of the bins; the last bin, which has none, is named by a word."""
    return dict(zip([*(f"to_{end}" for end in ends), last], counts, strict=True))


def _criteria(tally: Tally, predictor: Predictor | Described) -> dict[str, dict[str, Any]]:
    """Return counts and rates by criterion; the rate of the training posts is None where it is not known."""
    trained = {name: predictor.is_trained(name) for name in tally.criteria}
    rates = predictor.reference.get("positive_rate", {})
    training = {name: rates.get(name) for name in trained if trained[name]}
    return {
        name: {
            "wording": TRAINED if trained[name] else UNTRAINED,
            **asdict(counts),
            "positive_rate": counts.yes / counts.pairs,
            "positive_rate_in_training": training.get(name),
        }
        for name, counts in tally.criteria.items()
    }
