"""The summary of a batch: what was asked and answered, how it compares with the training posts, and by which model."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mentallam.config import InferenceConfig
from mentallam.evaluation.tallies import LENGTHS, Tally
from mentallam.serving.batch import Progress
from mentallam.serving.notices import notice
from mentallam.serving.predictor import Predictor


def summarise_batch(progress: Progress, predictor: Predictor, config: InferenceConfig, region: str) -> dict[str, Any]:
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
        "post_tokens": dict(zip([f"to_{end}" for end in LENGTHS] + ["longer"], tally.lengths, strict=True)),
        "criteria": _criteria(tally, predictor.reference),
        "seconds": progress.seconds,
        "posts_per_second": tally.posts / max(progress.seconds, 1e-9),
        "model": {**predictor.facts, "inference": asdict(config)},
    }


def _criteria(tally: Tally, reference: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return counts and rates by criterion; the rate of the training posts is None where it is not known."""
    training = reference.get("positive_rate", {})
    return {
        name: {
            **asdict(counts),
            "positive_rate": counts.yes / counts.pairs,
            "positive_rate_in_training": training.get(name),
        }
        for name, counts in tally.criteria.items()
    }
