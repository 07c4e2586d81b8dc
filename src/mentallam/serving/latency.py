"""How long a user waits for an answer: one post on a loaded model, and the first answer of a fresh process."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import numpy as np
import psutil
from pydantic import BaseModel, ConfigDict, Field

from mentallam.classifier.prompts import Prompter
from mentallam.corpus.synthetic_text import PhraseDeck
from mentallam.errors import MentallamError
from mentallam.provenance import code_version, machine_facts
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor

ALL_CRITERIA, PAIR = "all_criteria", "pair"
"""What is timed: one post with all criteria, and one post with one criterion."""

Timings = Mapping[str, Sequence[float]]
"""Milliseconds of each repeat, by what is timed."""

PERCENTILES = (50, 95, 99)
# The words of the post that a fresh process is given: no tokenizer counts before the model is loaded.
_COLD_WORDS = 150


class LatencyOptions(BaseModel):
    """The parameters under `latency`.

    Attributes:
        repeats: How many posts are timed.
        warm_up: How many posts are answered before, which is not timed.
        post_tokens: Most tokens of a post; each is as long as its last sentence lets it be.
        limit_ms: The most milliseconds of the 95th percentile for all criteria.
        override_reason: Why a slower model is accepted; null if it is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    repeats: int = Field(ge=20)
    warm_up: int = Field(ge=0)
    post_tokens: int = Field(ge=64)
    limit_ms: float = Field(gt=0)
    override_reason: str | None = None


def invented_posts(number: int, count: Callable[[str], int], most: int) -> list[str]:
    """Return invented posts, the same each time.

    Args:
        number: How many.
        count: Returns the length of a text.
        most: The most that `count` may return. No sentence is cut, so a post is a little shorter.
    """
    rng = Random(0)
    deck = PhraseDeck(rng, evidence_phrases=None)
    return [_invented_post(deck, rng, count, most) for _ in range(number)]


def _invented_post(deck: PhraseDeck, rng: Random, count: Callable[[str], int], most: int) -> str:
    topics = list(deck.context["topics"].values())
    longer = deck.draw(rng.choice(list(deck.symptoms.values()))["evidence"])
    text = longer
    while count(longer) <= most:
        text, longer = longer, f"{longer} {deck.draw(rng.choice(topics))}"
    return text


def time_answers(predictor: Predictor, options: LatencyOptions) -> tuple[dict[str, list[float]], list[int]]:
    """Time a loaded predictor, from the text of a post to its decisions, one post at a time.

    Returns:
        The timings, and the number of tokens of each post.
    """
    prompter = predictor.folds[0].prompter
    most = min(options.post_tokens, prompter.post_tokens)
    texts = invented_posts(options.repeats, lambda text: _tokens(prompter, text), most)
    criteria = list(predictor.criteria)
    for number in range(options.warm_up):
        _milliseconds(predictor, texts[number % len(texts)], None)
        _milliseconds(predictor, texts[number % len(texts)], criteria[0])
    timings = {
        ALL_CRITERIA: [_milliseconds(predictor, text, None) for text in texts],
        PAIR: [_milliseconds(predictor, text, criteria[n % len(criteria)]) for n, text in enumerate(texts)],
    }
    return timings, [_tokens(prompter, text) for text in texts]


def _tokens(prompter: Prompter, text: str) -> int:
    return prompter.count_tokens([text])[0]


def _milliseconds(predictor: Predictor, text: str, criterion: str | None) -> float:
    post = Post("post", text, None if criterion is None else (criterion,))
    began = time.perf_counter()
    predictor.predict([post])
    return (time.perf_counter() - began) * 1000


def cold_start(model: str, environment: str) -> float:
    """Return the seconds from the command `mentallam predict` to its answer, in a process of its own.

    The files of packages and weights may be in the system's cache already, as they are for a user's second command.

    Args:
        model: The option `--model`.
        environment: The option `--env`.

    Raises:
        MentallamError: The command has failed.
    """
    [text] = invented_posts(1, lambda text: len(text.split()), _COLD_WORDS)
    options = ["--json", "--model", model, "--env", environment]
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mentallam", "predict", *options, text], capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1].removeprefix("Error: ")
        raise MentallamError(
            f"the cold start can't be measured, since `mentallam predict --model {model} --env {environment}` failed: "
            f"{reason}"
        )
    return seconds


def summarise_latency(
    timings: Timings, tokens: Sequence[int], cold_start_s: float, predictor: Predictor, options: LatencyOptions
) -> dict[str, Any]:
    """Return figures, model, options and machine as plain values.

    Args:
        timings: What `time_answers` returned.
        tokens: The number of tokens of each post.
        cold_start_s: What `cold_start` returned.
        predictor: What was timed.
        options: How.
    """
    figures = {name: _figures(milliseconds) for name, milliseconds in timings.items()}
    return {
        **figures,
        "cold_start_s": cold_start_s,
        "over_limit": figures[ALL_CRITERIA]["p95_ms"] > options.limit_ms,
        "options": options.model_dump(),
        "post_tokens": {"min": min(tokens), "mean": float(np.mean(tokens)), "max": max(tokens)},
        "n_criteria": len(predictor.criteria),
        "device": next(predictor.folds[0].model.parameters()).device.type,
        "model": predictor.facts,
        # Above the number of cores other programs have slowed the measurement down.
        "machine": {**machine_facts(), "load_average": psutil.getloadavg()[0]},
        "code": code_version(),
    }


def _figures(milliseconds: Sequence[float]) -> dict[str, float]:
    values = np.percentile(milliseconds, PERCENTILES)
    return {f"p{percent}_ms": float(value) for percent, value in zip(PERCENTILES, values, strict=True)}


def latency_metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures by the names that they have in MLflow, such as latency_cpu_ms_p95 and latency_cpu_ms_pair_p95.

    Args:
        summary: What `summarise_latency` returned.
    """
    start = f"latency_{summary['device']}_ms"
    both = {start: summary[ALL_CRITERIA], f"{start}_pair": summary[PAIR]}
    metrics = {
        f"{name}_{key.removesuffix('_ms')}": value for name, figures in both.items() for key, value in figures.items()
    }
    return {**metrics, "cold_start_s": summary["cold_start_s"]}


def check_limit(summary: Mapping[str, Any]) -> None:
    """Refuse a model that is too slow, unless a reason was given.

    Args:
        summary: What `summarise_latency` returned.

    Raises:
        MentallamError: The 95th percentile for all criteria is above the limit.
    """
    options = summary["options"]
    if summary["over_limit"] and not options["override_reason"]:
        n_folds = len(summary["model"]["folds"])
        # Folds score a post one after the other: they differ from the first adapter on, so they share no states.
        one = f"serve one model in place of {n_folds} folds (model=refit or best_fold), " if n_folds > 1 else ""
        raise MentallamError(
            f"the 95th percentile of the latency for all criteria is {summary[ALL_CRITERIA]['p95_ms']:.0f} ms, above "
            f"latency.limit_ms={options['limit_ms']:g}: {one}use a smaller model or a faster machine, or accept it "
            f"with latency.override_reason=..."
        )
