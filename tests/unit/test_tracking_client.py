"""MLflow's calls through a faulty proxy to a real server: they end well, nothing is there twice, nothing is lost."""

import logging
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from mentallam import retries, tracking_client
from mentallam.config import RetriesConfig
from mentallam.errors import MentallamError, causes
from mentallam.tracking_client import MetricQueue, download_artifacts, retrying_client
from mentallam.tracking_store import check_store
from tests.faulty_proxy import Proxy, faulty_proxy
from tests.servers import mlflow_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder, f"sqlite:///{folder}/mlflow.db") as address:
        yield address


@pytest.fixture(scope="module")
def shared_proxy(server: str) -> Iterator[Proxy]:
    with faulty_proxy(server) as proxy:
        yield proxy


@pytest.fixture
def proxy(shared_proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Send this process to the proxy, with short waits."""
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    shared_proxy.clear()
    mlflow.set_tracking_uri(shared_proxy.address)
    retries.configure(RetriesConfig(base_ms=1, max_attempts=4))
    yield shared_proxy
    retries.configure(RetriesConfig())
    mlflow.set_tracking_uri(before)


@pytest.fixture
def direct(server: str) -> MlflowClient:
    """Return a client that sees what the server has."""
    return MlflowClient(server)


@pytest.fixture
def experiment(direct: MlflowClient) -> str:
    return direct.create_experiment(uuid4().hex)


@pytest.fixture
def run_id(direct: MlflowClient, experiment: str) -> str:
    return str(direct.create_run(experiment).info.run_id)


def points(direct: MlflowClient, run_id: str, name: str = "loss") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in direct.get_metric_history(run_id, name)]


FAULTS = [408, 429, 500, 503, "reset", "lost", "truncated"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_ends_well_after_a_fault_that_passes(
    proxy: Proxy, direct: MlflowClient, run_id: str, fault: int | str
) -> None:
    before, proxy.faults = retries.count(), [fault, fault]
    metrics = [Metric("loss", 0.5, 1000, 1), Metric("loss", 0.25, 2000, 2)]
    retrying_client().log_batch(run_id, metrics, [Param("rank", "8")], [RunTag("fold", "0")])
    assert points(direct, run_id) == [(1, 0.5), (2, 0.25)]
    assert retries.count() == before + 2
    assert len(proxy.requests) == 3  # MLflow repeats nothing by itself


@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_of_another_library_ends_well_too(
    proxy: Proxy, direct: MlflowClient, run_id: str, fault: int | str
) -> None:
    """kedro-mlflow calls MLflow by itself, at the beginning of each node."""
    before, proxy.faults = retries.count(), [fault, fault]
    MlflowClient().set_tag(run_id, "fold", "1")
    assert direct.get_run(run_id).data.tags["fold"] == "1"
    assert retries.count() == before + 2
    proxy.faults = [fault] * 4
    with pytest.raises(MlflowException) as caught:
        MlflowClient().set_tag(run_id, "fold", "2")
    sentences = [str(cause) for cause in causes(caught.value) if isinstance(cause, MentallamError)]
    assert len(sentences) == 1 and "fails again and again" in sentences[0]


def test_a_server_that_does_not_answer_is_asked_again(
    proxy: Proxy, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    retries.configure(RetriesConfig(base_ms=1, max_attempts=30))  # a busy machine may need some
    proxy.faults = ["silence"]
    retrying_client().set_tag(run_id, "fold", "1")
    assert len(proxy.requests) >= 2


def test_a_run_whose_answer_was_lost_is_not_created_twice(proxy: Proxy, direct: MlflowClient, experiment: str) -> None:
    proxy.faults = ["lost", "reset", "truncated"]
    run = retrying_client().create_run(experiment, tags={"fold": "1"}, run_name="fold_1")
    found = direct.search_runs([experiment])
    assert [each.info.run_id for each in found] == [run.info.run_id]
    assert (found[0].data.tags["fold"], found[0].info.run_name) == ("1", "fold_1")


def test_a_run_that_was_refused_for_a_moment_is_created(proxy: Proxy, direct: MlflowClient, experiment: str) -> None:
    proxy.faults = [503, 503]
    run = retrying_client().create_run(experiment)
    assert [each.info.run_id for each in direct.search_runs([experiment])] == [run.info.run_id]


def test_a_model_whose_answer_was_lost_is_not_created_twice(
    proxy: Proxy, direct: MlflowClient, experiment: str, run_id: str
) -> None:
    client, name = retrying_client(), uuid4().hex
    proxy.faults = ["lost"]
    model = client.create_logged_model(experiment, "best_fold", source_run_id=run_id)
    assert [each.model_id for each in direct.search_logged_models([experiment])] == [model.model_id]
    proxy.faults = ["lost"]
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    assert [each.model_id for each in direct.get_run(run_id).outputs.model_outputs] == [model.model_id]
    proxy.faults = ["lost"]
    assert client.create_registered_model(name).name == name
    for version in ("1", "2"):
        proxy.faults, proxy.only = ["lost"], "model-versions/create"
        created = client.create_model_version(
            name, source=f"models:/{model.model_id}", model_id=model.model_id, tags={"use": version}
        )
        assert str(created.version) == version
    assert {version.tags["use"] for version in direct.search_model_versions(f'name = "{name}"')} == {"1", "2"}


def test_artifacts_arrive_whole_in_both_directions(proxy: Proxy, run_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    content = {f"{n}.bin": bytes([n]) * 50_000 for n in range(3)}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    proxy.faults, proxy.only = [503, "", "reset", "", "", "lost"], "PUT"
    retrying_client().log_artifacts(run_id, str(folder), "checkpoint")
    assert proxy.faults == []
    proxy.faults, proxy.only = ["", "truncated", ""], "artifacts/checkpoint/"
    (tmp_path / "got").mkdir()
    address = retrying_client().get_run(run_id).info.artifact_uri
    got = download_artifacts(f"{address}/checkpoint", tmp_path / "got")
    assert proxy.faults == []
    assert {file.name: file.read_bytes() for file in Path(got).iterdir()} == content


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
        (403, "forbids set_tag to this account .*ask its owner"),
    ],
)
def test_a_refused_account_is_said_at_once(proxy: Proxy, run_id: str, status: int, says: str) -> None:
    proxy.faults = [status] * 9
    with pytest.raises(MentallamError, match=says):
        retrying_client().set_tag(run_id, "fold", "1")
    assert len(proxy.requests) == 1
    with pytest.raises(MentallamError, match=rf"HTTP {status}"):
        check_store(proxy.address)
    with pytest.raises(MentallamError, match=rf"HTTP {status}"):
        MetricQueue(run_id).log([Metric("loss", 1.0, 1, 1)])
    assert len(proxy.requests) == 3


def test_what_does_not_exist_is_said_at_once(proxy: Proxy) -> None:
    with pytest.raises(MlflowException, match="not found"):
        retrying_client().get_run("0" * 32)
    assert len(proxy.requests) == 1


def test_a_server_that_stays_away_is_one_sentence(
    proxy: Proxy, run_id: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "SECRET")
    proxy.away = True
    with caplog.at_level(logging.WARNING), pytest.raises(MentallamError, match=r"again and again \(\w*Error\): make"):
        retrying_client().set_tag(run_id, "fold", "1")
    lines = [record.getMessage() for record in caplog.records if record.name == "mentallam.retries"]
    assert [line.partition(" (")[0] for line in lines] == ["MLflow's set_tag failed"] * 3
    assert "attempt 3 of 4); trying again in 0.0 s" in lines[2]
    assert "SECRET" not in caplog.text and "127.0.0.1" not in "".join(lines)


def test_the_first_request_is_tried_again_but_not_for_minutes(proxy: Proxy) -> None:
    retries.configure(RetriesConfig(base_ms=1, max_attempts=99))
    proxy.faults = [503, "reset"]
    check_store(proxy.address)
    proxy.faults = [503] * 9
    address = proxy.address.replace("//", "//name:secret@")
    with pytest.raises(MentallamError, match=r"store http://127[^ ]* can't be used \(HTTP 503\)") as error:
        check_store(address)
    assert "secret" not in error.value.message
    assert len(proxy.requests) == 6


def test_mlflow_keeps_its_own_retries_outside_of_our_calls(proxy: Proxy, experiment: str) -> None:
    proxy.faults = [503]
    mlflow.get_experiment(experiment)  # as kedro-mlflow does it
    assert len(proxy.requests) == 2


def test_a_store_that_is_away_neither_stops_the_training_nor_loses_a_metric(
    proxy: Proxy, direct: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes of 100 steps; the queue's clock, which decides when it asks again, is ours."""
    now = [0.0]
    monkeypatch.setattr(tracking_client, "monotonic", lambda: now[0])
    retries.configure(RetriesConfig())
    queue, asked = MetricQueue(run_id), []
    for step in range(100):
        now[0] += 2.0
        proxy.away = 20 <= step < 80
        before = len(proxy.requests)
        queue.log([Metric("loss", 1 / (step + 1), step, step), Metric("rate", float(step), step, step)])
        asked.append(len(proxy.requests) - before)
    assert max(asked[:80]) == 1  # a step sends one request, and most steps of an outage none
    assert sum(asked[20:80]) < 20
    queue.flush()
    assert points(direct, run_id) == [(step, 1 / (step + 1)) for step in range(100)]
    assert points(direct, run_id, "rate") == [(step, float(step)) for step in range(100)]


def test_a_silent_store_holds_up_a_step_for_the_patience_only(
    proxy: Proxy, direct: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10000")
    monkeypatch.setattr(tracking_client, "_PATIENCE_S", 0.3)
    proxy.faults, queue = ["silence"], MetricQueue(run_id)
    queue.log([Metric("loss", 1.0, 1, 1)])
    assert points(direct, run_id) == []
    queue.flush()
    assert points(direct, run_id) == [(1, 1.0)]


def test_points_whose_answer_was_lost_are_there_once(
    proxy: Proxy, direct: MlflowClient, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_client, "_METRICS_PER_REQUEST", 20)
    queue = MetricQueue(run_id)
    proxy.faults = ["lost", "lost", "truncated", "", "lost"]
    queue.log([Metric("loss", float(step), step, step) for step in range(30)])
    queue.flush()
    assert proxy.faults == []
    assert points(direct, run_id) == [(step, float(step)) for step in range(30)]


def test_metrics_of_a_run_that_is_gone_are_an_error(proxy: Proxy) -> None:
    with pytest.raises(MlflowException, match="not found"):
        MetricQueue("0" * 32).log([Metric("loss", 1.0, 1, 1)])


def test_a_flush_that_fails_keeps_the_metrics(proxy: Proxy, direct: MlflowClient, run_id: str) -> None:
    queue, proxy.away = MetricQueue(run_id), True
    queue.log([Metric("loss", 1.0, 1, 1)])
    with pytest.raises(MentallamError, match="make it available"):
        queue.flush()
    proxy.away = False
    queue.flush()
    assert points(direct, run_id) == [(1, 1.0)]
