"""What is timed, and what a slow model leads to."""

import subprocess

import pytest

from mentallam.classifier.checkpoint import TrainedFold
from mentallam.errors import MentallamError
from mentallam.serving import latency
from mentallam.serving.latency import LatencyOptions, check_limit, invented_posts, latency_metrics
from mentallam.serving.predictor import Predictor


def options(**changes: object) -> LatencyOptions:
    return LatencyOptions.model_validate({"repeats": 20, "warm_up": 2, "post_tokens": 256, "limit_ms": 1000, **changes})


def test_invented_posts_are_as_long_as_they_may_be_and_the_same_each_time() -> None:
    posts = invented_posts(20, lambda text: len(text.split()), 80)
    lengths = [len(post.split()) for post in posts]
    assert max(lengths) <= 80
    assert min(lengths) >= 50  # a whole sentence was left out
    assert len(set(posts)) == 20
    assert posts == invented_posts(20, lambda text: len(text.split()), 80)


def test_every_post_is_timed_once_with_all_criteria_and_once_with_one(trained: TrainedFold) -> None:
    asked: list[int | None] = []
    predictor = Predictor([trained], tokens_per_pass=2048)
    answer = predictor.predict
    predictor.predict = lambda posts: (asked.append(posts[0].criteria and len(posts[0].criteria)), answer(posts))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    timings, tokens = latency.time_answers(predictor, options(post_tokens=64))
    assert asked == [None, 1] * 2 + [None] * 20 + [1] * 20
    assert {name: len(milliseconds) for name, milliseconds in timings.items()} == {"all_criteria": 20, "pair": 20}
    assert min(min(milliseconds) for milliseconds in timings.values()) > 0
    assert len(tokens) == 20
    assert max(tokens) <= 64
    found = latency.summarise_latency(timings, tokens, 7.5, predictor, options(limit_ms=0.001))
    assert (found["over_limit"], found["n_criteria"], found["device"], found["cold_start_s"]) == (True, 3, "cpu", 7.5)


def test_figures_are_percentiles_and_have_the_documented_names() -> None:
    figures = latency._figures([float(number) for number in range(101)])
    assert figures == {"p50_ms": 50, "p95_ms": 95, "p99_ms": 99}
    metrics = latency_metrics({"device": "cpu", "all_criteria": figures, "pair": figures, "cold_start_s": 3.0})
    start = "latency_cpu_ms"
    both = {f"{start}{of}_p{percent}": percent for of in ("", "_pair") for percent in (50, 95, 99)}
    assert metrics == {**both, "cold_start_s": 3}


def test_only_a_reason_lets_a_slow_model_pass() -> None:
    def summary(over: bool, reason: str | None, n_folds: int = 1) -> dict:
        options, model = {"limit_ms": 1000, "override_reason": reason}, {"folds": [*range(n_folds)]}
        return {"over_limit": over, "all_criteria": {"p95_ms": 1234.5}, "options": options, "model": model}

    check_limit(summary(False, None))
    check_limit(summary(True, "an old laptop"))
    with pytest.raises(MentallamError, match=r"for all criteria is 1234 ms, above latency\.limit_ms=1000: use a"):
        check_limit(summary(True, None))
    with pytest.raises(MentallamError, match=r"1000: serve one model in place of 5 folds \(model=refit or best_fold\)"):
        check_limit(summary(True, None, 5))


def test_a_command_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    done = subprocess.CompletedProcess([], 1, "", "a warning\nError: there is no champion yet\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(MentallamError, match=r"--model champion --env test` failed: there is no champion yet$"):
        latency.cold_start("champion", "test")
