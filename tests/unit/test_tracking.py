import json
import math
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Barrier
from unittest.mock import Mock

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils import mlflow_tags

from mentallam import run_status
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from mentallam.tracking import (
    BEST_RUN_TAG,
    CHECKPOINT,
    Run,
    download_checkpoint,
    failing,
    find_fold_run,
    find_report_inputs,
    is_complete,
    keep_report_inputs,
    load_report_input,
    open_cv_run,
    open_fold_run,
    system_metrics,
    writable_run,
)
from mentallam.tracking_view import COLUMNS
from tests.unit.disks import full, small_disk


@pytest.fixture
def cv_run(experiment: str) -> dict[str, str]:
    return open_cv_run("a study", experiment, token="study")


def open_fold(cv_run: dict[str, str], fold: int = 0) -> str:
    return open_fold_run(cv_run, fold, token=f"{cv_run['run_id']}, fold {fold}")["run_id"]


def gc(database: str, run_id: str) -> None:
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database, "--run-ids", run_id]
    subprocess.run(command, check=True, capture_output=True)


def checkpoint_of(run: Run, folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "mentallam.json").write_text(run.run_id)
    run.log_folder(folder, CHECKPOINT)
    return folder


@pytest.fixture
def finish(experiment: str, tmp_path: Path) -> Callable[[dict[str, str]], str]:
    """Return a function that runs a fold, closes it and its cross-validation, and returns the fold's run."""

    def finish(cv_run: dict[str, str]) -> str:
        fold_run = Run(open_fold(cv_run))
        checkpoint_of(fold_run, tmp_path / fold_run.run_id)
        fold_run.finish()
        Run(cv_run["run_id"]).set_tags({BEST_RUN_TAG: fold_run.run_id})
        return fold_run.run_id

    return finish


def test_an_attempt_finds_its_run_by_its_token(experiment: str) -> None:
    first, other, again = (open_cv_run("a study", experiment, token) for token in ("one", "two", "one"))
    assert first == again != other
    run = MlflowClient().get_run(first["run_id"])
    assert (run.info.run_name, run.info.status) == ("a study", "RUNNING")
    folds = [open_fold_run(first, fold, token)["run_id"] for fold, token in ((0, "a"), (1, "b"), (0, "a"))]
    assert folds[0] == folds[2] != folds[1]
    MlflowClient().delete_run(first["run_id"])
    assert open_cv_run("a study", experiment, "one") != first  # a deleted run does not go on


def test_an_unknown_experiment_is_one_sentence(experiment: str) -> None:
    with pytest.raises(MentallamError, match=r"tracking_experiment=nope is no MLflow experiment: .* in mlflow\.yml"):
        open_cv_run("a study", "nope", "token")


def test_tags_are_those_of_mlflow(cv_run: dict[str, str]) -> None:
    run = Run(open_fold(cv_run))
    run.link_folds("1", {0: "feed"})
    run.log_data_input("corpus", "ab", "sample", {})
    saved = MlflowClient().get_run(run.run_id)
    assert saved.data.tags[mlflow_tags.MLFLOW_PARENT_RUN_ID] == cv_run["run_id"]
    assert mlflow_tags.MLFLOW_RUN_NOTE in saved.data.tags
    assert saved.inputs.dataset_inputs[0].tags[0].key == mlflow_tags.MLFLOW_DATASET_CONTEXT


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "SCHEDULED"])
def test_a_run_that_broke_off_goes_on(cv_run: dict[str, str], experiment: str, status: str) -> None:
    fold_run = open_fold(cv_run)
    for run_id in (cv_run["run_id"], fold_run):
        Run(run_id).finish(status)
    assert open_cv_run("a study", experiment, "study") == cv_run
    assert open_fold(cv_run) == fold_run
    assert {MlflowClient().get_run(run_id).info.status for run_id in (cv_run["run_id"], fold_run)} == {"RUNNING"}


def test_a_complete_run_stays_as_it_is(cv_run: dict[str, str], experiment: str) -> None:
    fold_run = open_fold(cv_run)
    assert not is_complete(cv_run["run_id"])
    keep_report_inputs(cv_run["run_id"], {})
    for run_id in (cv_run["run_id"], fold_run):
        Run(run_id).finish()
        assert is_complete(run_id)
    assert open_cv_run("a study", experiment, "study") == cv_run
    assert open_fold(cv_run) == fold_run
    assert {MlflowClient().get_run(run_id).info.status for run_id in (cv_run["run_id"], fold_run)} == {"FINISHED"}


def test_a_run_that_is_gone_or_deleted_is_one_sentence(cv_run: dict[str, str]) -> None:
    with pytest.raises(MentallamError, match=r"cv_run\.json=feed is no run in this tracking database"):
        open_fold({**cv_run, "run_id": "feed"})
    MlflowClient().delete_run(cv_run["run_id"])
    with pytest.raises(MentallamError, match=rf"=.* is deleted: restore it with .*--run-id {cv_run['run_id']}`"):
        open_fold(cv_run)
    with pytest.raises(MentallamError, match="is deleted: restore it"):
        writable_run("cv_outcome.json", cv_run["run_id"])


def test_a_best_fold_that_is_gone_is_one_sentence(
    cv_run: dict[str, str], experiment: str, tracking_database: str, finish: Callable[[dict[str, str]], str]
) -> None:
    fold_run = finish(cv_run)
    MlflowClient().delete_run(fold_run)
    assert find_fold_run(experiment) == fold_run  # deleted runs can be restored
    gc(tracking_database, fold_run)
    for run_id in (None, cv_run["run_id"]):
        with pytest.raises(MentallamError, match=rf"{fold_run} of the best fold of model={cv_run['run_id']}"):
            find_fold_run(experiment, run_id)


def test_children_carry_the_parents_tag(cv_run: dict[str, str]) -> None:
    children = [open_fold_run(cv_run, fold, f"fold {fold}") for fold in range(5)]
    client = MlflowClient()
    for fold, child in enumerate(children):
        run = client.get_run(child["run_id"])
        assert run.data.tags[mlflow_tags.MLFLOW_PARENT_RUN_ID] == cv_run["run_id"]
        assert run.data.tags[mlflow_tags.MLFLOW_RUN_NAME] == f"fold_{fold}"
        assert run.data.tags["mentallam.fold"] == str(fold)
        assert run.info.experiment_id == cv_run["experiment_id"] == child["experiment_id"]
        assert run.info.status == "RUNNING"
    found = client.search_runs(
        [cv_run["experiment_id"]], f"tags.`{mlflow_tags.MLFLOW_PARENT_RUN_ID}` = '{cv_run['run_id']}'"
    )
    assert {run.info.run_id for run in found} == {child["run_id"] for child in children}
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("x"), "FAILED"),
        (MentallamError("x"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (RunStoppedError(15), "KILLED"),
    ],
)
def test_a_run_that_breaks_off_is_marked(cv_run: dict[str, str], error: BaseException, status: str) -> None:
    run_id = open_fold(cv_run)
    with pytest.raises(type(error)), failing(run_id):
        raise error
    assert MlflowClient().get_run(run_id).info.status == status


def test_a_stop_that_a_library_has_wrapped_is_no_failure(cv_run: dict[str, str]) -> None:
    """MLflow makes an error of its own of each that arises in a call to the database."""
    run_id = open_fold(cv_run)
    with pytest.raises(MlflowException), failing(run_id):
        try:
            raise RunStoppedError(2)
        except RunStoppedError as stop:
            raise MlflowException(stop) from stop
    assert MlflowClient().get_run(run_id).info.status == "KILLED"


def test_a_run_that_goes_well_is_not_closed_by_failing(cv_run: dict[str, str]) -> None:
    run_id = open_fold(cv_run)
    with failing(run_id) as run:
        assert run.run_id == run_id
    assert MlflowClient().get_run(run_id).info.status == "RUNNING"
    run.finish()
    assert MlflowClient().get_run(run_id).info.status == "FINISHED"


def test_undefined_metrics_are_left_out(cv_run: dict[str, str]) -> None:
    run = Run(cv_run["run_id"])
    run.log_metrics({"f1": 0.5, "roc_auc": None})
    run.log_metrics({"roc_auc": None})
    for step in (1, 2, 3):
        run.log_metrics({"loss": 1 / step}, step)
    data = MlflowClient().get_run(run.run_id).data
    assert data.metrics == {"f1": 0.5, "loss": pytest.approx(1 / 3)}
    history = MlflowClient().get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]


def test_a_step_that_is_trained_again_appears_once(cv_run: dict[str, str]) -> None:
    Run(cv_run["run_id"]).log_step({"loss": 0.5, "pairs_per_second": 7.0}, 1)
    again = Run(cv_run["run_id"])
    again.log_step({"loss": 0.5, "pairs_per_second": 8.0}, 1)
    again.log_step({"loss": 0.25, "pairs_per_second": 8.0}, 2)
    again.log_step({"loss": 0.25, "pairs_per_second": 9.0}, 2)
    history = {name: MlflowClient().get_metric_history(again.run_id, name) for name in ("loss", "pairs_per_second")}
    assert [(point.step, point.value) for point in history["loss"]] == [(1, 0.5), (2, 0.25)]
    assert [(point.step, point.value) for point in history["pairs_per_second"]] == [(1, 7.0), (2, 8.0)]


def test_a_result_appears_again_only_if_it_has_changed(cv_run: dict[str, str]) -> None:
    for value in (0.5, 0.5, 0.6, 0.6):
        Run(cv_run["run_id"]).log_metrics({"pooled_f1": value})
    history = MlflowClient().get_metric_history(cv_run["run_id"], "pooled_f1")
    assert sorted(point.value for point in history) == [0.5, 0.6]


def test_a_checkpoint_is_one_logged_model_with_its_metrics_on_the_data(cv_run: dict[str, str]) -> None:
    run_id = open_fold(cv_run)
    Run(run_id).log_data_input("corpus", "ab", "sample", {})
    for _ in range(2):  # the run goes on
        Run(run_id).log_model("fold_0", {"adapter.r": 8}, {"f1": 0.5, "roc_auc": None})
    client = MlflowClient()
    (model,) = client.search_logged_models([cv_run["experiment_id"]], f"source_run_id = '{run_id}'")
    assert (model.name, model.params, model.status.name) == ("fold_0", {"adapter.r": "8"}, "READY")
    (metric,) = model.metrics
    assert (metric.key, metric.value, metric.dataset_name, metric.dataset_digest) == ("f1", 0.5, "corpus", "ab")
    run = client.get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert [point.value for point in client.get_metric_history(run_id, "f1")] == [0.5]


@pytest.mark.parametrize("call", ["log_outputs", "log_batch", "finalize_logged_model"])
def test_a_logged_model_that_was_interrupted_is_completed(
    cv_run: dict[str, str], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run_id = open_fold(cv_run)
    Run(run_id).log_data_input("corpus", "ab", "sample", {})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, call, raising := Mock(side_effect=KeyboardInterrupt))
        Run(run_id).log_model("fold_0", {}, {"f1": 0.5})
    assert raising.called
    Run(run_id).log_model("fold_0", {}, {"f1": 0.5})
    (model,) = MlflowClient().search_logged_models([cv_run["experiment_id"]], f"source_run_id = '{run_id}'")
    assert (model.status.name, [metric.value for metric in model.metrics]) == ("READY", [0.5])
    assert len(MlflowClient().get_run(run_id).outputs.model_outputs) == 1


def test_a_metric_that_is_no_number_is_kept_as_such(cv_run: dict[str, str]) -> None:
    run = Run(cv_run["run_id"])
    run.log_metrics({"grad_norm": math.nan})
    assert math.isnan(MlflowClient().get_run(run.run_id).data.metrics["grad_norm"])


def test_nested_parameters_are_flattened_and_more_than_a_hundred_logged(cv_run: dict[str, str]) -> None:
    run = Run(cv_run["run_id"])
    many = {f"p{number}": number for number in range(250)}
    run.log_params({"many": many, "model": {"prompt": {"suffix": "a b"}, "path": ""}, "none": None, "list": [1, 2]})
    params = MlflowClient().get_run(run.run_id).data.params
    assert len(params) == 250 + 4
    assert params["many.p249"] == "249"
    assert params["model.prompt.suffix"] == "a b"
    assert (params["model.path"], params["none"], params["list"]) == ("", "None", "[1, 2]")


def test_artifacts_lie_where_they_are_said_to(
    cv_run: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(open_fold(cv_run))
    run.log_dict({"fold": 0}, "fold_0.json")
    run.log_text("a report", "report.md")
    checkpoint_of(run, tmp_path / "fold_0")
    assert {item.path for item in MlflowClient().list_artifacts(run.run_id)} == {
        "fold_0.json",
        "report.md",
        CHECKPOINT,
    }
    address = run.artifact_address(CHECKPOINT)
    monkeypatch.chdir(tmp_path / "fold_0")  # the artifacts are not below this folder
    folder = download_checkpoint(run.run_id)
    assert (folder / "mentallam.json").read_text() == run.run_id
    assert folder == Path(address)
    monkeypatch.chdir(tmp_path)
    relative = run.artifact_address(CHECKPOINT)
    assert not Path(relative).is_absolute()
    assert (tmp_path / relative / "mentallam.json").read_text() == run.run_id
    assert download_checkpoint(run.run_id) == Path(relative)


def test_the_parent_links_to_its_children(cv_run: dict[str, str]) -> None:
    children = {fold: open_fold(cv_run, fold) for fold in range(2)}
    Run(cv_run["run_id"]).link_folds(cv_run["experiment_id"], children)
    tags = MlflowClient().get_run(cv_run["run_id"]).data.tags
    for fold, run_id in children.items():
        assert tags[f"mentallam.fold_{fold}_run_id"] == run_id
        link = f"[fold {fold}](#/experiments/{cv_run['experiment_id']}/runs/{run_id})"
        assert link in tags[mlflow_tags.MLFLOW_RUN_NOTE]


def test_a_note_begins_with_what_came_out_and_keeps_the_links(cv_run: dict[str, str]) -> None:
    run = Run(cv_run["run_id"])
    run.describe("F1 0.4")
    for words in ("F1 0.5", "F1 0.6"):
        run.link_folds("1", {0: "feed"})
        run.describe(words)
    run.link_folds("1", {0: "feed"})
    note = MlflowClient().get_run(cv_run["run_id"]).data.tags[mlflow_tags.MLFLOW_RUN_NOTE]
    assert note == "F1 0.6\n\nFolds of this cross-validation:\n\n- [fold 0](#/experiments/1/runs/feed)"


def test_an_experiment_says_where_its_runs_are_unless_a_user_has_described_it(experiment: str) -> None:
    client, name = MlflowClient(), mlflow_tags.MLFLOW_RUN_NOTE

    def note() -> str:
        experiment_id = open_cv_run("a study", experiment, uuid.uuid4().hex)["experiment_id"]
        found = client.get_experiment(experiment_id)
        assert found.tags[name].count(f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&") < 2
        view = json.loads(found.tags["mlflow.sharedViewState.mentallam"])
        assert tuple(view["selectedColumns"]) == COLUMNS
        return str(found.tags[name])

    assert "runs?workflowType=machine_learning&viewStateShareKey=mentallam" in note()
    client.set_experiment_tag(client.get_experiment_by_name(experiment).experiment_id, name, "mine")
    assert note() == "mine"


def test_the_default_is_the_best_fold_of_the_latest_finished_cross_validation(
    experiment: str, finish: Callable[[dict[str, str]], str]
) -> None:
    first = finish(open_cv_run("a study", experiment, uuid.uuid4().hex))
    assert find_fold_run(experiment) == first
    second = finish(open_cv_run("a study", experiment, uuid.uuid4().hex))
    assert find_fold_run(experiment) == second

    unfinished = open_cv_run("a study", experiment, "unfinished")  # newer, and interrupted after its first fold
    Run(open_fold(unfinished)).finish()
    assert find_fold_run(experiment) == second


def test_a_run_can_be_named_by_parent_or_child(experiment: str, finish: Callable[[dict[str, str]], str]) -> None:
    old = open_cv_run("a study", experiment, "old")
    old_fold = finish(old)
    new_fold = finish(open_cv_run("a study", experiment, uuid.uuid4().hex))
    assert find_fold_run(experiment, old["run_id"]) == old_fold
    assert find_fold_run(experiment, old_fold) == old_fold
    assert find_fold_run("another experiment", new_fold) == new_fold


def test_an_unknown_run_is_one_sentence(experiment: str) -> None:
    with pytest.raises(MentallamError, match="model=feed is no run in this tracking database") as error:
        find_fold_run(experiment, "feed")
    assert "\n" not in error.value.message


def test_a_run_without_a_checkpoint_is_one_sentence(cv_run: dict[str, str], experiment: str) -> None:
    fold_run = open_fold(cv_run)
    for run_id, status in ((cv_run["run_id"], "RUNNING"), (fold_run, "RUNNING")):
        with pytest.raises(MentallamError, match=rf"model={run_id} \(status {status}\) holds no checkpoint"):
            find_fold_run(experiment, run_id)


def test_no_model_yet_names_the_command(cv_run: dict[str, str], experiment: str) -> None:
    for name in (experiment, "never made"):
        with pytest.raises(MentallamError, match="no trained model yet .* `kedro run --pipeline cv_training` first"):
            find_fold_run(name)


def test_six_folds_at_once_meet_no_lock(cv_run: dict[str, str]) -> None:
    children = [open_fold(cv_run, fold) for fold in range(6)]
    start = Barrier(len(children), timeout=60)

    def log(run_id: str) -> None:
        start.wait()
        with failing(run_id) as run:
            run.log_params({"fold": run_id})
            for step in range(20):
                run.log_metrics({"loss": step, "learning_rate": 1 / (1 + step)}, step)
            run.set_tags({"done": True})
            run.finish()

    with ThreadPoolExecutor(len(children)) as pool:
        for done in [pool.submit(log, run_id) for run_id in children]:
            done.result()
    client = MlflowClient()
    for run_id in children:
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        assert run.data.params == {"fold": run_id}
        assert len(client.get_metric_history(run_id, "loss")) == 20


def test_system_metrics_land_in_the_folds_run_while_it_works(cv_run: dict[str, str]) -> None:
    run_id = open_fold(cv_run)
    client = MlflowClient()
    with system_metrics(run_id, interval=0.02):
        for _ in range(1000):
            time.sleep(0.02)
            if "system/cpu_utilization_percentage" in client.get_run(run_id).data.metrics:
                break
    metrics = client.get_run(run_id).data.metrics
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= metrics.keys()
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]
    assert not client.get_run(cv_run["run_id"]).data.metrics
    assert client.get_run(run_id).info.status == "RUNNING"


def test_system_metrics_end_with_the_work_that_breaks_off(cv_run: dict[str, str]) -> None:
    run_id = open_fold(cv_run)
    with pytest.raises(ZeroDivisionError), system_metrics(run_id, interval=60):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


@pytest.mark.parametrize("interval", [0, -1, math.nan])
def test_an_interval_without_length_is_refused(cv_run: dict[str, str], interval: float) -> None:
    with (
        pytest.raises(MentallamError, match="system_metrics_interval is .*; it must be above 0 seconds"),
        system_metrics(open_fold(cv_run), interval),
    ):
        pass


def test_what_a_report_is_made_from_comes_back_as_it_was(cv_run: dict[str, str]) -> None:
    table = pd.DataFrame({"post_id": ["a", "b"], "label": pd.array([1, 0], dtype="int8"), "logit": [0.1, float("nan")]})
    facts = {"folds": [{"fold": 0, "f1": 0.1 + 0.2}], "corpus": "Prüfung", "none": None}
    keep_report_inputs(cv_run["run_id"], {"fold_0_predictions": table, "cv_outcome": facts})
    found = find_report_inputs(cv_run["run_id"])
    assert found.keys() == {"fold_0_predictions", "cv_outcome"}
    pd.testing.assert_frame_equal(load_report_input(cv_run["run_id"], found["fold_0_predictions"]), table)
    assert load_report_input(cv_run["run_id"], found["cv_outcome"]) == facts


def test_a_run_that_nothing_can_be_reported_from_is_one_sentence(cv_run: dict[str, str]) -> None:
    run_id = cv_run["run_id"]
    with pytest.raises(MentallamError, match=rf"first={run_id} \(status RUNNING\) holds nothing that a report could"):
        find_report_inputs(run_id, "first")
    fold_run = open_fold(cv_run)
    with pytest.raises(MentallamError, match=f"is a fold's run; name its cross-validation's: cv_run_id={run_id}"):
        find_report_inputs(fold_run)
    with pytest.raises(MentallamError, match="second=feed is no run in this tracking database"):
        find_report_inputs("feed", "second")


class _Hostile(BaseHTTPRequestHandler):
    """A server of artifacts that lists one file outside the folder, and would send it."""

    listed = ""

    def do_GET(self) -> None:
        is_list = "?" in self.path
        answer = json.dumps({"files": [{"path": self.listed, "is_dir": False}]}) if is_list else "evil"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("listed", ["../../../evil", "/evil", "a/../../../evil", "%2e%2e/%2e%2e/evil"])
def test_a_server_cannot_write_outside_the_folder_of_a_download(
    listed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Hostile, "listed", listed)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "a" / "b" / "c"))
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", None)
    server = HTTPServer(("127.0.0.1", 0), _Hostile)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts/run"
    monkeypatch.setattr(Run, "artifact_address", lambda *_: f"{address}/checkpoint")
    try:
        with pytest.raises(MentallamError, match="the checkpoint of run .* can't be fetched from the tracking store"):
            download_checkpoint("0" * 32)
    finally:
        server.shutdown()
        server.server_close()
    assert not [path for path in tmp_path.rglob("*evil*") if path.parent.parent != tmp_path / "a" / "b" / "c"]
    assert not Path("/evil").exists()


@pytest.mark.parametrize("run_id", ["../elsewhere", "/tmp", "a\\b", "a\0b", "a" * 300, ".", ""])
def test_a_run_id_that_is_no_name_is_refused_before_the_store_is_asked(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MlflowClient, "get_run", lambda *_: pytest.fail("the store was asked"))
    for look_up in (find_report_inputs, partial(find_fold_run, "experiment"), partial(writable_run, "first")):
        with pytest.raises(MentallamError, match="(cv_run_id|model|first)=.* can't be part of a path"):
            look_up(run_id)


def test_a_full_disk_under_the_artifacts_fails_the_run_which_goes_on_when_there_is_space(
    cv_run: dict[str, str], tmp_path: Path
) -> None:
    run_id, checkpoint = cv_run["run_id"], tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "weights").write_bytes(b"x" * 50_000)
    logged: dict[str, Callable[[Run, str], None]] = {
        "a.json": lambda run, path: run.log_dict({"a": list(range(20_000))}, path),
        "a.md": lambda run, path: run.log_text("x" * 50_000, path),
        "tables/a.parquet": lambda run, path: run.log_table(pd.DataFrame({"a": range(20_000)}), path),
        "a": lambda run, path: run.log_folder(checkpoint, path),
    }
    with small_disk(tmp_path / "mlruns", 1024) as disk:
        for path, log in logged.items():
            with (
                full(disk),
                pytest.raises(MentallamError) as caught,
                failing(run_id) as run,
            ):
                log(run, path)
            assert caught.value.message == (
                f"the artifact {path} of run {run_id} can't be written (No space left on device): check space and "
                f"rights, then run this again"
            )
            assert MlflowClient().get_run(run_id).info.status == "FAILED"
            run_status.work_on(run_id)
            log(run, path)
        assert (disk / run_id / "artifacts" / "a" / "weights").read_bytes() == b"x" * 50_000
        assert len(pd.read_parquet(disk / run_id / "artifacts" / "tables" / "a.parquet")) == 20_000
        run.finish()
        assert MlflowClient().get_run(run_id).info.status == "FINISHED"
