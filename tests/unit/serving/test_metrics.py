"""The figures of a batch in Prometheus' text format and for MLflow."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mentallam.evaluation.tallies import LENGTHS, SCORE_BINS
from mentallam.serving.batch import TIMES, Progress
from mentallam.serving.metrics import batch_metrics, prometheus_text
from mentallam.serving.summary import time_quantile


def summary() -> dict:
    """Return what is read of the summary of four posts, one of them rejected, and three criteria ids."""
    scores = [0] * SCORE_BINS
    scores[0], scores[9] = 2, 1
    return {
        "counts": {
            "files": 1,
            "rows": 4,
            "rejected_rows": 1,
            "repeated_rows": 0,
            "posts": 3,
            "truncated_posts": 1,
            "pairs": 9,
            "matched_pairs": 3,
            "pairs_of_untrained_wording": 0,
        },
        "truncated_share": 1 / 3,
        "tokens": 420,
        "post_tokens": dict(enumerate([1, 0, 0, 1, 0, 1] + [0] * (len(LENGTHS) - 5))),
        "criteria": {
            name: {"pairs": 3, "yes": 1, "scores": scores, "score_sum": 1.0} for name in ("A.1", 'my "own"', "a\\b")
        },
        "seconds": 1.5,
        "posts_per_second": 2.0,
        "post_ms": {"p50": 400.0, "p95": 600.0},
        "seconds_per_post": dict(enumerate([0] * len(TIMES) + [3])),
    }


def samples() -> dict[tuple[str, str, str], float]:
    """Return the values that Prometheus' own parser reads, by name, criterion and upper end."""
    return {
        (sample.name.removeprefix("mentallam_batch_"), sample.labels.get("criterion", ""), sample.labels.get("le", "")):
            sample.value
        for family in text_string_to_metric_families(prometheus_text(summary()))
        for sample in family.samples
    }  # fmt: skip


def test_prometheus_reads_the_counts() -> None:
    read = samples()
    counts = {name: read[name, "", ""] for name in ("rows", "rejected_rows", "posts", "matched_pairs")}
    assert counts == {"rows": 4, "rejected_rows": 1, "posts": 3, "matched_pairs": 3}
    for name in ("A.1", 'my "own"', "a\\b"):
        assert (read["criterion_pairs", name, ""], read["criterion_matched_pairs", name, ""]) == (3, 1)


def test_histograms_count_up_to_each_end() -> None:
    read = samples()
    assert [read["post_tokens_bucket", "", end] for end in ("16", "64", "128", "256", "512", "2048", "+Inf")] == [
        *(1, 1, 2, 2, 3, 3, 3)
    ]
    assert (read["post_tokens_count", "", ""], read["post_tokens_sum", "", ""]) == (3, 420)
    assert [read["score_bucket", "A.1", end] for end in ("0.1", "0.9", "+Inf")] == [2, 2, 3]
    assert (read["post_seconds_bucket", "", "70"], read["post_seconds_bucket", "", "+Inf"]) == (0, 3)


def test_metrics_for_mlflow() -> None:
    metrics = batch_metrics(summary())
    assert metrics["files"] == 1
    assert (metrics["rejected_share"], metrics["matched_share"], metrics["post_ms_p95"]) == (0.25, 1 / 3, 600)


def test_a_quantile_lies_within_its_bin() -> None:
    counts = [0] * (len(TIMES) + 1)
    counts[3] = 10  # above 2 ms, up to 3 ms
    assert time_quantile(counts, 0.5) == pytest.approx(0.0025)
    counts[0] = 10  # up to 1 ms
    assert time_quantile(counts, 0.25) == pytest.approx(0.0005)
    assert time_quantile([0] * len(TIMES) + [1], 0.95) == TIMES[-1]


def test_the_time_of_a_block_is_shared_by_its_posts() -> None:
    progress = Progress()
    progress.add_time(0.4, 100)  # 4 ms each
    progress.add_time(9.0, 0)  # rejects only
    assert (progress.seconds, sum(progress.times)) == (9.4, 100)
    assert progress.times[TIMES.index(0.005)] == 100
