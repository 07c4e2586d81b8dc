"""The figures of a running server for Prometheus, without text or id of a post; a batch has its own in `metrics`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server

from mentallam.errors import MentallamError
from mentallam.evaluation.tallies import LENGTHS, SCORE_BINS
from mentallam.serving.batch import TIMES
from mentallam.serving.output_fields import ANSWERS, Answers
from mentallam.serving.predictor import Predictor, Question
from mentallam.variables import METRICS

_PREFIX = "mentallam_served"


class LiveMetrics:
    """What a server has answered since it started."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ends = [(place + 1) / SCORE_BINS for place in range(SCORE_BINS)]

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"{_PREFIX}_{name}", meaning, labels, registry=registry)

        def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"{_PREFIX}_{name}", meaning, labels, registry=registry, buckets=buckets)

        self._requests = counter("requests", "Requests that reached the model.", "result")
        self._posts = counter("posts", "Posts that were answered.")
        self._truncated = counter("truncated_posts", "Posts that were cut to fit.")
        self._pairs = counter("criterion_pairs", "Pairs of a post and the criterion.", "criterion")
        self._matched = counter("criterion_matched_pairs", "Pairs that match the criterion.", "criterion")
        self._seconds = histogram("request_seconds", "Seconds per request, with the wait for earlier ones.", TIMES)
        self._tokens = histogram("post_tokens", "Tokens per post, as the model reads it.", LENGTHS)
        self._scores = histogram("score", "Calibrated probability of a match.", ends, "criterion")

    @contextmanager
    def request(self) -> Iterator[None]:
        """Time a request and count how it ends: answered, refused for what it asks, or failed."""
        began, result = time.perf_counter(), "failed"
        try:
            yield
            result = "answered"
        except MentallamError:
            result = "refused"
            raise
        finally:
            self._requests.labels(result).inc()
            self._seconds.observe(time.perf_counter() - began)

    def add(self, predictor: Predictor, questions: Sequence[Question], answers: Answers) -> None:
        """Count the answers to some questions.

        Args:
            predictor: Who has answered.
            questions: What was asked.
            answers: As `Predictor.answer` returned them.
        """
        for question in questions:
            self._posts.inc()
            self._truncated.inc(question.example.truncated)
            self._tokens.observe(predictor.post_tokens(question))
        for criterion_id, probability, label in zip(
            answers["criterion_id"], answers["probability"], answers["label"], strict=True
        ):
            self._pairs.labels(criterion_id).inc()
            self._matched.labels(criterion_id).inc(label == ANSWERS[1])
            self._scores.labels(criterion_id).observe(probability)

    def serve(self, address: str) -> None:
        """Answer Prometheus over HTTP, in a thread of this process.

        Args:
            address: `PORT`, on this machine's loopback interface alone, or `HOST:PORT`.

        Raises:
            MentallamError: The address is not one, or it is taken.
        """
        host, _, port = address.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise MentallamError(f"{METRICS}={address} is no address: give a port such as 9464, or HOST:PORT")
        try:
            start_http_server(int(port), host.strip("[]") or "127.0.0.1", self._registry)
        except OSError as error:
            raise MentallamError(
                f"{METRICS}={address} can't be served ({error.strerror or error}): choose another address; of several "
                f"workers each would need one, so start the server with a single worker"
            ) from None
