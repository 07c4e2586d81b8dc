import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.utils import mlflow_tags
from plotly.graph_objects import Figure

from mentallam.errors import MentallamError
from mentallam.tracking import (
    BEST_RUN_TAG,
    CHECKPOINT,
    Run,
    continue_run,
    download_checkpoint,
    failing,
    find_fold_run,
    find_report_inputs,
    keep_report_inputs,
    load_report_input,
    open_cv_run,
    open_fold_run,
    system_metrics,
    writable_run,
)
from tests.unit.disks import full, small_disk


@pytest.fixture
def cv_run(experiment: str) -> dict[str, str]:
    return open_cv_run("a study", experiment)


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
        fold_run = Run(open_fold_run(cv_run, 0)["run_id"])
        checkpoint_of(fold_run, tmp_path / fold_run.run_id)
        fold_run.finish()
        Run(cv_run["run_id"]).set_tags({BEST_RUN_TAG: fold_run.run_id})
        return fold_run.run_id

    return finish


def test_a_cross_validation_has_a_new_run_where_none_is_active(
    experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as other:
        pass
    monkeypatch.setenv("MLFLOW_RUN_ID", other.info.run_id)
    first, second = open_cv_run("a study", experiment), open_cv_run("a study", experiment)
    assert len({first["run_id"], second["run_id"], other.info.run_id}) == 3
    run = MlflowClient().get_run(first["run_id"])
    assert (run.info.run_name, run.info.status) == ("a study", "RUNNING")
    assert run.info.experiment_id == first["experiment_id"] == other.info.experiment_id


def test_an_unknown_experiment_is_one_sentence(experiment: str) -> None:
    with pytest.raises(MentallamError, match=r"tracking_experiment=nope is no MLflow experiment: .* in mlflow\.yml"):
        open_cv_run("a study", "nope")


def test_tags_are_those_of_mlflow(cv_run: dict[str, str]) -> None:
    run = Run(open_fold_run(cv_run, 0)["run_id"])
    run.link_folds("1", {0: "feed"})
    run.log_data_input("corpus", "ab", "sample", {})
    saved = MlflowClient().get_run(run.run_id)
    assert saved.data.tags[mlflow_tags.MLFLOW_PARENT_RUN_ID] == cv_run["run_id"]
    assert mlflow_tags.MLFLOW_RUN_NOTE in saved.data.tags
    assert saved.inputs.dataset_inputs[0].tags[0].key == mlflow_tags.MLFLOW_DATASET_CONTEXT


def test_a_finished_cross_validation_is_not_continued(
    cv_run: dict[str, str], finish: Callable[[dict[str, str]], str]
) -> None:
    continue_run("cv_run.json", cv_run["run_id"])
    fold_run = finish(cv_run)
    continue_run("fold_0_run.json", fold_run)  # all folds have finished, but the cross-validation is not closed
    Run(cv_run["run_id"]).finish()
    for option, run_id in (("cv_run.json", cv_run["run_id"]), ("fold_0_run.json", fold_run)):
        with pytest.raises(MentallamError, match=rf"{option}={run_id} belongs to a finished .*--to-nodes open_cv_run"):
            continue_run(option, run_id)
    with pytest.raises(MentallamError, match="belongs to a finished cross-validation"):
        open_fold_run(cv_run, 0)  # however it is started, for example with --only-missing-outputs


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "FINISHED"])
def test_a_cross_validation_that_broke_off_goes_on(cv_run: dict[str, str], status: str) -> None:
    Run(cv_run["run_id"]).finish(status)
    continue_run("cv_run.json", cv_run["run_id"])
    assert MlflowClient().get_run(cv_run["run_id"]).info.status == "RUNNING"


def test_a_run_that_is_gone_or_deleted_is_one_sentence(cv_run: dict[str, str]) -> None:
    fold_run = open_fold_run(cv_run, 0)["run_id"]
    with pytest.raises(MentallamError, match=r"cv_run\.json=feed is no run in this tracking database"):
        continue_run("cv_run.json", "feed")
    MlflowClient().delete_run(cv_run["run_id"])
    with pytest.raises(MentallamError, match=rf"=.* is deleted: restore it with .*--run-id {cv_run['run_id']}`"):
        continue_run("fold_0_run.json", fold_run)
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
        with pytest.raises(MentallamError, match=rf"{fold_run} of the best fold of checkpoint_run={cv_run['run_id']}"):
            find_fold_run(experiment, run_id)


def test_children_carry_the_parents_tag(cv_run: dict[str, str]) -> None:
    children = [open_fold_run(cv_run, fold) for fold in range(5)]
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
    ("error", "status"), [(ValueError("x"), "FAILED"), (MentallamError("x"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_breaks_off_is_marked(cv_run: dict[str, str], error: BaseException, status: str) -> None:
    run_id = open_fold_run(cv_run, 0)["run_id"]
    with pytest.raises(type(error)), failing(run_id):
        raise error
    assert MlflowClient().get_run(run_id).info.status == status


def test_a_run_that_goes_well_is_not_closed_by_failing(cv_run: dict[str, str]) -> None:
    run_id = open_fold_run(cv_run, 0)["run_id"]
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
    run = Run(open_fold_run(cv_run, 0)["run_id"])
    run.log_dict({"fold": 0}, "fold_0.json")
    run.log_text("a report", "report.md")
    run.log_figure(Figure(), "curve.html")
    checkpoint_of(run, tmp_path / "fold_0")
    assert {item.path for item in MlflowClient().list_artifacts(run.run_id)} == {
        "fold_0.json",
        "report.md",
        "curve.html",
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
    children = {fold: open_fold_run(cv_run, fold)["run_id"] for fold in range(2)}
    Run(cv_run["run_id"]).link_folds(cv_run["experiment_id"], children)
    tags = MlflowClient().get_run(cv_run["run_id"]).data.tags
    for fold, run_id in children.items():
        assert tags[f"mentallam.fold_{fold}_run_id"] == run_id
        link = f"[fold {fold}](#/experiments/{cv_run['experiment_id']}/runs/{run_id})"
        assert link in tags[mlflow_tags.MLFLOW_RUN_NOTE]


def test_the_default_is_the_best_fold_of_the_latest_finished_cross_validation(
    experiment: str, finish: Callable[[dict[str, str]], str]
) -> None:
    first = finish(open_cv_run("a study", experiment))
    assert find_fold_run(experiment) == first
    second = finish(open_cv_run("a study", experiment))
    assert find_fold_run(experiment) == second

    unfinished = open_cv_run("a study", experiment)  # newer, and interrupted after its first fold
    Run(open_fold_run(unfinished, 0)["run_id"]).finish()
    assert find_fold_run(experiment) == second


def test_a_run_can_be_named_by_parent_or_child(experiment: str, finish: Callable[[dict[str, str]], str]) -> None:
    old = open_cv_run("a study", experiment)
    old_fold = finish(old)
    new_fold = finish(open_cv_run("a study", experiment))
    assert find_fold_run(experiment, old["run_id"]) == old_fold
    assert find_fold_run(experiment, old_fold) == old_fold
    assert find_fold_run("another experiment", new_fold) == new_fold


def test_an_unknown_run_is_one_sentence(experiment: str) -> None:
    with pytest.raises(MentallamError, match="checkpoint_run=feed is no run in this tracking database") as error:
        find_fold_run(experiment, "feed")
    assert "\n" not in error.value.message


def test_a_run_without_a_checkpoint_is_one_sentence(cv_run: dict[str, str], experiment: str) -> None:
    fold_run = open_fold_run(cv_run, 0)["run_id"]
    for run_id, status in ((cv_run["run_id"], "RUNNING"), (fold_run, "RUNNING")):
        with pytest.raises(MentallamError, match=rf"checkpoint_run={run_id} \(status {status}\) holds no checkpoint"):
            find_fold_run(experiment, run_id)


def test_no_model_yet_names_the_command(cv_run: dict[str, str], experiment: str) -> None:
    for name in (experiment, "never made"):
        with pytest.raises(MentallamError, match="no trained model yet .* `kedro run --pipeline cv_training` first"):
            find_fold_run(name)


def test_six_folds_at_once_meet_no_lock(cv_run: dict[str, str]) -> None:
    children = [open_fold_run(cv_run, fold)["run_id"] for fold in range(6)]
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
    run_id = open_fold_run(cv_run, 0)["run_id"]
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
    run_id = open_fold_run(cv_run, 0)["run_id"]
    with pytest.raises(ZeroDivisionError), system_metrics(run_id, interval=60):
        raise ZeroDivisionError
    assert not [thread for thread in threading.enumerate() if thread.name == "SystemMetricsMonitor"]


@pytest.mark.parametrize("interval", [0, -1, math.nan])
def test_an_interval_without_length_is_refused(cv_run: dict[str, str], interval: float) -> None:
    with (
        pytest.raises(MentallamError, match="system_metrics_interval is .*; it must be above 0 seconds"),
        system_metrics(open_fold_run(cv_run, 0)["run_id"], interval),
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
    fold_run = open_fold_run(cv_run, 0)["run_id"]
    with pytest.raises(MentallamError, match=f"is a fold's run; name its cross-validation's: cv_run_id={run_id}"):
        find_report_inputs(fold_run)
    with pytest.raises(MentallamError, match="second=feed is no run in this tracking database"):
        find_report_inputs("feed", "second")


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
        "a.html": lambda run, path: run.log_figure(Figure(), path),
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
            continue_run("cv_run.json", run_id)
            log(run, path)
        assert (disk / run_id / "artifacts" / "a" / "weights").read_bytes() == b"x" * 50_000
        assert len(pd.read_parquet(disk / run_id / "artifacts" / "tables" / "a.parquet")) == 20_000
        run.finish()
        assert MlflowClient().get_run(run_id).info.status == "FINISHED"
