"""The figures of a batch for monitoring systems: Prometheus' text format, and metrics for MLflow."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mentallam.evaluation.tallies import LENGTHS, SCORE_BINS
from mentallam.serving.batch import TIMES

_PREFIX = "mentallam_batch"
_MEANINGS = {
    "rows": "Rows of the input.",
    "rejected_rows": "Rows that could not be answered.",
    "repeated_rows": "Rows that ask what an earlier row has asked.",
    "posts": "Posts that were answered.",
    "truncated_posts": "Posts that were cut to fit.",
    "pairs": "Pairs of a post and a criterion.",
    "matched_pairs": "Pairs that match.",
    "pairs_of_untrained_wording": "Pairs whose criterion the model was not trained on.",
}


def prometheus_text(summary: Mapping[str, Any]) -> str:
    """Return the figures of a batch in Prometheus' text format, without text or id of a post.

    A batch is over when it is read, so its counts are gauges: the next batch replaces them.

    Args:
        summary: As `summary.summarise_batch` returns it.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_BatchCollector(summary))
    return generate_latest(registry).decode()


class _BatchCollector(Collector):
    """The figures of one batch.

    Args:
        summary: Of the batch.
    """

    def __init__(self, summary: Mapping[str, Any]) -> None:
        self._summary = summary

    def collect(self) -> Iterator[Metric]:
        """Yield all figures."""
        summary, criteria = self._summary, self._summary["criteria"]
        for name, meaning in _MEANINGS.items():
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", meaning, summary["counts"][name])
        yield GaugeMetricFamily(
            f"{_PREFIX}_seconds", "Time of the batch without loading the model.", summary["seconds"]
        )
        yield HistogramMetricFamily(
            f"{_PREFIX}_post_seconds",
            "Seconds per post, the mean of a block of rows.",
            buckets=_buckets(TIMES, list(summary["seconds_per_post"].values())),
            sum_value=summary["seconds"],
        )
        yield HistogramMetricFamily(
            f"{_PREFIX}_post_tokens",
            "Tokens per post, as the model reads it.",
            buckets=_buckets(LENGTHS, list(summary["post_tokens"].values())),
            sum_value=summary["tokens"],
        )
        scores = HistogramMetricFamily(f"{_PREFIX}_score", "Calibrated probability of a match.", labels=["criterion"])
        pairs = GaugeMetricFamily(f"{_PREFIX}_criterion_pairs", "Pairs by criterion.", labels=["criterion"])
        matched = GaugeMetricFamily(f"{_PREFIX}_criterion_matched_pairs", "Matches by criterion.", labels=["criterion"])
        ends = [(place + 1) / SCORE_BINS for place in range(SCORE_BINS - 1)]
        for name, row in criteria.items():
            scores.add_metric([name], _buckets(ends, row["scores"]), row["score_sum"])
            pairs.add_metric([name], row["pairs"])
            matched.add_metric([name], row["yes"])
        yield from (scores, pairs, matched)


def _buckets(ends: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Return the counts up to each end, as Prometheus wants them; the last bin has no end."""
    return list(zip([*(f"{end:g}" for end in ends), "+Inf"], accumulate(counts), strict=True))


def batch_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a batch by the names that they have in MLflow.

    Args:
        summary: As `summary.summarise_batch` returns it.
    """
    counts = summary["counts"]
    return {
        **counts,
        "rejected_share": counts["rejected_rows"] / counts["rows"],
        "truncated_share": summary["truncated_share"],
        "matched_share": counts["matched_pairs"] / counts["pairs"],
        "seconds": summary["seconds"],
        "posts_per_second": summary["posts_per_second"],
        **{f"post_ms_{name}": value for name, value in summary["post_ms"].items()},
    }
