"""Monitoring finds a shift, is silent without one, and says in one sentence what it can't compare."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mentallam.batch_files import BatchFiles
from mentallam.errors import MentallamError
from mentallam.evaluation.tallies import FERTILITIES, LENGTHS, Tally
from mentallam.reports.monitor_report import render_monitor
from mentallam.serving.drift import (
    MonitorOptions,
    compare_batch,
    index_with_test,
    load_summary,
    stability_index,
)
from mentallam.serving.output_fields import TRAINED, UNTRAINED

OPTIONS = MonitorOptions(
    psi=0.25, rate_change=0.05, level=0.01, permutations=9999, truncated_rise=0.1, rejected_share=0.01, latency_ms=1000
)


def tally(seed: int, posts: int, tokens: float = 60, fertility: float = 0.25, score: float = 0.3) -> Tally:
    """Count invented posts and answers for two criteria; the arguments are means."""
    rng, counted = np.random.default_rng(seed), Tally()
    counted.add_posts(rng.poisson(tokens, posts).tolist(), 0, rng.normal(fertility, 0.02, posts).tolist())
    for name in ("A.1", "A.4"):
        scores = rng.beta(10 * score, 10 * (1 - score), posts)
        counted.add_pairs([name] * posts, scores.tolist(), (scores > 0.4).tolist())
    return counted


def summary(batch: Tally, training: Tally, **changes: Any) -> dict[str, Any]:
    """Return what monitoring reads of a batch's summary."""
    counts = {"rows": batch.posts, "posts": batch.posts, "rejected_rows": 0}
    return {
        "counts": {**counts, **changes.pop("counts", {})},
        "truncated_share": batch.truncated / batch.posts,
        "tokens": batch.tokens,
        "post_tokens": dict(enumerate(batch.lengths)),
        "tokens_per_character": dict(enumerate(batch.fertilities)),
        "criteria": {
            name: {"wording": TRAINED, "pairs": row.pairs, "yes": row.yes, "scores": row.scores}
            for name, row in batch.criteria.items()
        },
        "post_ms": {"p50": 10.0, "p95": 20.0},
        "reference": {"positive_rate": {"A.1": 0.3, "A.4": 0.3}, "dev": training.to_dict()},
        **changes,
    }


def test_the_index_of_equal_shares_is_0_and_has_no_direction() -> None:
    assert stability_index([10, 20, 30], [10, 20, 30]) == 0
    assert stability_index([10, 20], [20, 10]) == pytest.approx(stability_index([20, 10], [10, 20]))
    # Half a post in each bin: shares of 0.75 and 0.25 become 0.25 and 0.75, so 2 * 0.5 * ln 3.
    assert stability_index([1, 0], [0, 1]) == pytest.approx(np.log(3))


def test_p_is_the_share_of_arrangements_with_as_large_an_index() -> None:
    # Of the six ways to choose two of these four posts, two put equal posts together.
    _, p = index_with_test([2, 0, 0], [0, 2, 0], 9999)
    assert p == pytest.approx(1 / 3, abs=0.02)


def test_posts_of_the_same_kind_raise_no_alarm_however_small_the_batch() -> None:
    p_values, indices = [], []
    for seed in range(100):
        draws = np.random.default_rng(seed).multinomial(12, [0.1] * 10, size=2)
        index, p = index_with_test(*draws.tolist(), 999)
        indices.append(index)
        p_values.append(p)
    assert np.mean(np.array(indices) > OPTIONS.psi) > 0.9  # the index alone would raise an alarm nearly always
    assert np.mean(np.array(p_values) < 0.05) <= 0.1


def test_no_alert_without_a_shift() -> None:
    for seed in range(1, 11):
        found = compare_batch(summary(tally(seed, 200), tally(0, 60)), OPTIONS)
        assert found["alerts"] == [], seed
        assert (found["posts"], found["training_posts"]) == (200, 60)


@pytest.mark.parametrize(
    ("shift", "what"),
    [
        ({"tokens": 400}, "the posts have other lengths than the training posts: "),
        ({"fertility": 0.45}, "tokens per character, as in another language or unusual text: 100% of them"),
        ({"score": 0.6}, "the scores of A.1 are distributed otherwise than on the training posts"),
    ],
)
def test_a_shift_is_named(shift: dict[str, float], what: str) -> None:
    alerts = compare_batch(summary(tally(1, 300, **shift), tally(0, 100)), OPTIONS)["alerts"]
    assert any(what in sentence for sentence in alerts)
    others = [sentence for sentence in alerts if "score" not in sentence and "matches" not in sentence]
    assert len(others) == (0 if "score" in shift else 1)  # a shift of one kind is not taken for another


def test_the_means_of_several_folds_are_not_compared_with_the_scores_of_one() -> None:
    given = summary(tally(1, 300), tally(0, 100), model={"run_id": "cv", "folds": [0, 1, 2]})
    found = compare_batch(given, OPTIONS)
    assert [row["what"] for row in found["distributions"]] == ["post_tokens", "tokens_per_character"]
    assert len(found["rates"]) == 2
    assert "The scores are not compared: they are means of 3 folds" in render_monitor(found)
    alone = compare_batch(summary(tally(1, 300), tally(0, 100), model={"run_id": "f", "folds": [2]}), OPTIONS)
    assert [row["what"] for row in alone["distributions"]][2:] == ["score of A.1", "score of A.4"]
    assert "not compared: they are means" not in render_monitor(alone)


def test_a_rate_is_compared_with_the_answers_to_the_dev_posts_not_with_their_labels() -> None:
    given = summary(tally(1, 300, score=0.6), tally(0, 100))
    found = compare_batch(given, OPTIONS)
    [row] = [row for row in found["rates"] if row["criterion_id"] == "A.4"]
    dev = given["reference"]["dev"]["criteria"]["A.4"]
    assert row["training_rate"] == dev["yes"] / dev["pairs"]
    assert row["rate_of_labels"] == 0.3
    assert row["alert"]
    assert (
        f"A.4 matches {row['rate']:.0%} of the posts, against {row['training_rate']:.0%} of the training posts"
        in (found["alerts"])
    )


def test_a_difference_too_small_to_matter_is_no_alert_however_many_posts_there_are() -> None:
    found = compare_batch(summary(tally(1, 40_000, score=0.31), tally(0, 40_000)), OPTIONS)
    assert min(row["p_holm"] for row in found["rates"]) < OPTIONS.level
    assert found["alerts"] == []


def test_limits() -> None:
    cut = tally(1, 200)
    cut.truncated = 50
    given = summary(cut, tally(0, 60), post_ms={"p50": 10, "p95": 1500}, counts={"rows": 220, "rejected_rows": 20})
    assert compare_batch(given, OPTIONS)["alerts"] == [
        "25% of the posts were cut to fit (limit 10%)",
        "9% of the rows could not be answered (limit 1%)",
        "the 95th percentile is 1500 ms per post (limit 1000 ms)",
    ]


def test_a_criterion_of_another_wording_is_not_compared() -> None:
    given = summary(tally(1, 200, score=0.9), tally(0, 60))
    for row in given["criteria"].values():
        row["wording"] = UNTRAINED
    found = compare_batch(given, OPTIONS)
    assert (found["not_compared"], found["rates"], found["alerts"]) == (["A.1", "A.4"], [], [])


def test_bins_hold_what_their_ends_say() -> None:
    counted = Tally()
    counted.add_posts([LENGTHS[0], LENGTHS[0] + 1, LENGTHS[-1] + 1], 1, [FERTILITIES[0], 0.151, 2.0])
    assert (counted.lengths[:2], counted.lengths[-1], counted.tokens) == ([1, 1], 1, 16 + 17 + 2049)
    assert (counted.fertilities[:2], counted.fertilities[-1]) == ([1, 1], 1)
    assert Tally.from_dict(json.loads(json.dumps(counted.to_dict()))) == counted


def test_a_summary_that_can_t_be_used_is_one_sentence(tmp_path: Path) -> None:
    def message(content: str, given: str | None = None) -> str:
        (tmp_path / "prediction_summary.json").write_text(content)
        with pytest.raises(MentallamError) as error:
            load_summary(given, BatchFiles(tmp_path))
        return error.value.message

    usable = summary(tally(1, 20), tally(0, 20))
    assert "none.json does not exist: run `kedro run --pipeline inference` first" in message("", "none.json")
    assert "can't be read as JSON" in message("{")
    assert "is no summary of a batch, or one of an older version" in message("{}")
    assert "kept no counts of its training posts" in message(json.dumps({**usable, "reference": {}}))
    (tmp_path / "prediction_summary.json").write_text(json.dumps(usable))
    assert load_summary(None, BatchFiles(tmp_path))["tokens"] == usable["tokens"]
