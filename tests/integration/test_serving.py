"""The champion behind `mlflow models serve`, asked as docs/serving.md shows."""

import csv
import json
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mentallam.serving.output_fields import OUTPUT_FIELDS
from mentallam.variables import METRICS
from tests.integration.workspace import Workspace
from tests.samples import POSTS
from tests.servers import free_port, serving

SECRET = "Marzipan lighthouse"
FIELDS = [field.name for field in OUTPUT_FIELDS if field.served]


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        address: Its address.
        log: The file with its output.
        metrics: The address of its metrics.
    """

    address: str
    log: Path
    metrics: str

    def ask(self, body: Any, content_type: str = "application/json") -> httpx.Response:
        content = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": content_type}
        return httpx.post(f"{self.address}/invocations", content=content, headers=headers, timeout=120)

    def answers(self, body: Any, content_type: str = "application/json") -> list[dict[str, Any]]:
        response = self.ask(body, content_type)
        assert response.status_code == 200, response.text
        return list(response.json()["predictions"])


@pytest.fixture(scope="module")
def server(trained: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start the server once for all tests, on a model that none of them changes."""
    model = trained.client().get_model_version("mentallam-tiny", "1")
    command = ("mlflow", "models", "serve", "-m", f"models:/{model.name}/{model.version}", "--env-manager", "local")
    log = tmp_path_factory.mktemp("serving") / "log.txt"
    path = f"{Path(sys.executable).parent}:{trained.environment['PATH']}"  # MLflow starts uvicorn by its name
    port = free_port()
    variables = {**trained.environment, "PATH": path, METRICS: str(port)}
    with serving(*command, log=log, **variables) as address:
        yield Server(address, log, f"http://127.0.0.1:{port}/metrics")


def test_a_post_is_answered_in_each_form(server: Server) -> None:
    text = "I have been awake until four every night, and I am so tired."
    row = {"post_id": "0012", "text": text, "criterion_id": "A.4"}
    expected = server.answers({"dataframe_records": [row]})
    assert list(expected[0]) == FIELDS
    assert (expected[0]["post_id"], expected[0]["criterion_id"], len(expected)) == ("0012", "A.4", 1)
    split = {"columns": list(row), "data": [list(row.values())]}
    table = StringIO()
    csv.writer(table).writerows([row, row.values()])
    assert server.answers({"dataframe_split": split}) == expected
    assert server.answers({"instances": [row]}) == expected
    assert server.answers({"inputs": [row]}) == expected
    assert server.answers(table.getvalue(), "text/csv") == expected


def test_a_batch_asks_all_criteria_or_some(server: Server) -> None:
    rows = [{"text": text} for text in POSTS.values()]
    asked = [(row["post_id"], row["criterion_id"]) for row in server.answers({"dataframe_records": rows})]
    assert asked == [(str(number), f"A.{criterion}") for number in (1, 2, 3) for criterion in range(1, 10)]
    some = [{"post_id": "a", "text": "Tired.", "criterion_id": name} for name in ("A.6", "A.1")]
    rows = [*some, {"post_id": "b", "text": "Awake.", "criterion_id": None}]
    asked = [(row["post_id"], row["criterion_id"]) for row in server.answers({"dataframe_records": rows})]
    assert asked == [("a", "A.6"), ("a", "A.1"), *(("b", f"A.{criterion}") for criterion in range(1, 10))]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"dataframe_records": [{"text": SECRET}, {"text": " "}]}, "the input, row 2: the text is empty"),
        ({"dataframe_records": [{"text": SECRET, "criterion_id": "A.10"}]}, "the input, row 1: unknown criterion A.10"),
        (
            {"dataframe_records": [{"text": "x", "criterion_id": SECRET}]},
            "the input, row 1: unknown criterion (a value",
        ),
        ({"dataframe_records": [{"body": SECRET}]}, "the input has no column text"),
        ({"text": SECRET}, "the request can't be read"),
        (f'{{"dataframe_records": [{{"text": "{SECRET}"}}]', "the request is not valid JSON"),
    ],
)
def test_a_bad_request_is_answered_in_one_sentence_without_the_text(server: Server, body: Any, words: str) -> None:
    refused(server.ask(body), server, words)


def test_a_csv_file_without_a_header_shows_its_first_post_nowhere(server: Server) -> None:
    refused(server.ask(f"{SECRET}\n{SECRET}\n", "text/csv"), server, "the input has no column text")


def refused(response: httpx.Response, server: Server, words: str) -> None:
    assert response.status_code == 400
    assert response.json()["message"].startswith(words)
    assert "stack_trace" not in response.json()
    assert "arzipan" not in response.text + server.log.read_text(encoding="utf-8")


def test_many_clients_get_the_answers_of_one(server: Server) -> None:
    bodies = [{"dataframe_records": [{"text": text}]} for text in POSTS.values()] * 8
    alone = [server.answers(body) for body in bodies[: len(POSTS)]] * 8
    with ThreadPoolExecutor(8) as clients:
        assert list(clients.map(server.answers, bodies)) == alone


def test_health_and_version(server: Server) -> None:
    assert httpx.get(f"{server.address}/ping").status_code == 200
    assert httpx.get(f"{server.address}/version").text.startswith("3.")


def test_only_this_machine_reaches_it(server: Server) -> None:
    """A server on all interfaces would answer on any address of this machine, and 127.0.0.2 is one on Linux."""
    port = urlsplit(server.address).port
    assert f"Uvicorn running on http://127.0.0.1:{port} " in server.log.read_text(encoding="utf-8")
    for closed in (port, urlsplit(server.metrics).port):
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.2", closed), timeout=5)


def test_prometheus_sees_counts_and_no_text(server: Server) -> None:
    before = figures(server)
    answers = server.answers(
        {"dataframe_records": [{"post_id": "marzipan_7", "text": SECRET}, {"text": SECRET, "post_id": "b"}]}
    )
    server.ask({"dataframe_records": [{"text": " "}]})
    server.ask({"text": SECRET})  # MLflow refuses it before it reaches the model
    after = figures(server)
    grown = {name: value - before.get(name, 0.0) for name, value in after.items()}
    assert grown["mentallam_served_posts_total"] == 2
    assert grown["mentallam_served_post_tokens_count"] == 2
    assert grown["mentallam_served_requests_total", "answered"] == 1
    assert grown["mentallam_served_requests_total", "refused"] == 1
    assert grown["mentallam_served_request_seconds_count"] == 2
    for number in range(1, 10):
        of_criterion = [answer for answer in answers if answer["criterion_id"] == f"A.{number}"]
        assert grown["mentallam_served_criterion_pairs_total", f"A.{number}"] == len(of_criterion) == 2
        matched = sum(answer["label"] == "yes" for answer in of_criterion)
        assert grown["mentallam_served_criterion_matched_pairs_total", f"A.{number}"] == matched
        total = sum(answer["probability"] for answer in of_criterion)
        assert grown["mentallam_served_score_sum", f"A.{number}"] == pytest.approx(total)
    assert "arzipan" not in httpx.get(server.metrics).text


def figures(server: Server) -> dict[Any, float]:
    """Return the figures by their name, or by name and label."""
    families = text_string_to_metric_families(httpx.get(server.metrics).text)
    samples = [sample for family in families for sample in family.samples if "le" not in sample.labels]
    return {(s.name, *s.labels.values()) if s.labels else s.name: s.value for s in samples}


def test_the_log_names_requests_and_no_text(server: Server) -> None:
    server.answers({"dataframe_records": [{"text": SECRET}], "params": {SECRET: SECRET}})
    log = server.log.read_text(encoding="utf-8")
    assert '"POST /invocations HTTP/1.1" 200 OK' in log
    assert "arzipan" not in log
