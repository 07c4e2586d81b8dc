"""Tests of the hooks on catalogs in memory; tests/integration has real sessions."""

import inspect
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pytest
from kedro.framework.project import configure_project, pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline
from kedro_mlflow.config.kedro_mlflow_config import KedroMlflowConfig
from mlflow import MlflowClient

from mentallam import project, run_status, settings, tracking_hooks
from mentallam.errors import MentallamError
from mentallam.interruption import RunStoppedError
from mentallam.run_status import COMPLETE_TAG, WORKER_TAG
from mentallam.tracking import NEEDS_TRACKING, Run, open_cv_run, open_fold_run
from mentallam.tracking_hooks import TrackingHooks
from tests.samples import PROJECT


def nothing(*names: Any) -> None:
    """Do nothing, as the function of a node."""


def needing(inputs: list[str], outputs: str | None = None) -> Pipeline:
    return Pipeline([Node(nothing, inputs, outputs, name="needs", tags=NEEDS_TRACKING)])


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(tracking_hooks, "connect", calls.append)
    return calls


@pytest.fixture
def hooks(experiment: str, monkeypatch: pytest.MonkeyPatch) -> TrackingHooks:
    monkeypatch.setattr(tracking_hooks.atexit, "register", lambda *call: None)
    mlflow.set_experiment(experiment)  # as kedro-mlflow's setup does
    hooks = TrackingHooks()
    hooks._context = SimpleNamespace()  # type: ignore[assignment]
    hooks._already_active_mlflow = False
    hooks.mlflow_config = KedroMlflowConfig()
    hooks.mlflow_config.tracking.params.dict_params.flatten = True  # as in mlflow.yml
    hooks.mlflow_config.tracking.experiment._experiment = MlflowClient().get_experiment_by_name(experiment)
    return hooks


@pytest.fixture
def cv_run(experiment: str) -> dict[str, str]:
    return open_cv_run("a study", experiment, "study")


def status(run: dict[str, str]) -> str:
    return str(MlflowClient().get_run(run["run_id"]).info.status)


def begin(hooks: TrackingHooks, pipeline: Pipeline, catalog: DataCatalog, **runtime_params: str) -> None:
    params = dict.fromkeys(("tags", "node_names", "from_nodes", "to_nodes", "from_inputs", "load_versions"))
    hooks.before_pipeline_run({**params, "runtime_params": runtime_params, "env": "test"}, pipeline, catalog)


def opened_by(hooks: TrackingHooks, run: dict[str, str], **params: Any) -> None:
    """Call the hooks as a session does that opens a cross-validation, and other nodes of which take parameters."""
    given = {f"params:{name}": value for name, value in params.items()}
    catalog = saved(**given)
    opening = Node(nothing, "posts", "cv_run", name="opens")
    hooks._pipeline = Pipeline([opening, Node(nothing, [*given, "cv_run"], None, name="later")])
    hooks.before_node_run(opening, catalog, {}, is_async=False)
    hooks.after_node_run(opening, catalog, {"cv_run": run}, is_async=False)


def saved(**datasets: Any) -> DataCatalog:
    return DataCatalog({name: MemoryDataset(value) for name, value in datasets.items()})


def test_what_tracks_nothing_leaves_the_store_alone(hooks: TrackingHooks, connected: list[Any]) -> None:
    begin(hooks, Pipeline([Node(nothing, ["cv_run"], None, name="other")]), saved(cv_run={"run_id": "feed"}))
    assert connected == []
    begin(hooks, needing(["posts"]), saved())
    assert len(connected) == 1


@pytest.mark.parametrize("damaged", [{"ran_id": "feed"}, [], "feed"])
def test_a_record_of_the_run_that_is_damaged_is_made_anew(
    hooks: TrackingHooks, connected: list[Any], damaged: Any
) -> None:
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=damaged))
    assert len(connected) == 1


def test_kedro_mlflow_logs_to_the_cross_validation_once_it_is_open(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    opened_by(hooks, cv_run, a=1, folds={"seed": 42})
    hooks.before_node_run(Node(nothing, "params:b", None, name="later"), DataCatalog(), {"params:b": 2}, is_async=False)
    run = MlflowClient().get_run(cv_run["run_id"])
    assert run.data.params == {"a": "1", "folds.seed": "42", "b": "2"}
    assert (run.info.run_name, run.data.tags["env"]) == ("a study", "test")
    hooks.after_pipeline_run()
    assert (mlflow.active_run(), hooks.run_id, hooks._is_mlflow_enabled) == (None, None, False)
    assert status(cv_run) == "SCHEDULED"  # opened, and waiting for its folds


@pytest.mark.parametrize("replaced", [True, False])
def test_a_cross_validation_that_another_one_replaces_waits_no_longer(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], experiment: str, replaced: bool
) -> None:
    """Its record may be damaged, or the configuration another one, so nobody would ever continue it."""
    run_status.end(cv_run["run_id"], run_status.WAITING)
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=cv_run))
    opened_by(hooks, open_cv_run("a study", experiment, "another") if replaced else cv_run)
    assert status(cv_run) == ("KILLED" if replaced else "RUNNING")


def test_a_run_that_goes_on_keeps_its_parameters(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    for value in (1, 2):
        begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
        opened_by(hooks, cv_run, a=value)
        hooks.after_pipeline_run()
    assert MlflowClient().get_run(cv_run["run_id"]).data.params == {"a": "1"}


def test_a_complete_cross_validation_is_left_finished(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    opened_by(hooks, cv_run)
    Run(cv_run["run_id"]).set_tags({COMPLETE_TAG: True})
    hooks.on_pipeline_error(ValueError("in the report"))
    assert status(cv_run) == "FINISHED"
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    opened_by(hooks, cv_run, a=1)
    begin(hooks, needing(["cv_run"]), saved(cv_run=cv_run))
    assert status(cv_run) == "FINISHED"
    assert MlflowClient().get_run(cv_run["run_id"]).data.params == {}


@pytest.mark.parametrize("complete", [True, False])
def test_a_cross_validation_ends_with_its_run_also_if_a_folds_process_lives_on(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], complete: bool
) -> None:
    """A worker of Ray stays for its next task, and a job of SLURM takes seconds to end."""
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    opened_by(hooks, cv_run)
    MlflowClient().set_tag(cv_run["run_id"], WORKER_TAG, f"{'0' * 12}:1:1")
    if complete:
        Run(cv_run["run_id"]).set_tags({COMPLETE_TAG: True})
        hooks.after_pipeline_run()
    else:
        hooks.on_pipeline_error(ValueError("in a fold"))
    assert status(cv_run) == ("FINISHED" if complete else "FAILED")


def test_another_active_run_is_left_alone(hooks: TrackingHooks, experiment: str) -> None:
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as users:
        hooks.after_pipeline_run()
        assert mlflow.active_run().info.run_id == users.info.run_id


def test_nodes_that_use_mlflow_say_so() -> None:
    configure_project("mentallam")
    for node in sum(pipelines.values(), Pipeline([])).nodes:
        source = f"{node.func.__module__.removeprefix('mentallam.')}.{inspect.getsource(node.func)}"
        called = bool(re.search(r"\btracking\.|\bregistry\.(def |offer|find_)|\b_load\(", source))
        assert (NEEDS_TRACKING in node.tags) == called, node.name


def test_a_report_needs_its_run(hooks: TrackingHooks, connected: list[Any], experiment: str) -> None:
    outcome = saved(cv_outcome={"cv_run_id": "feed"})
    with pytest.raises(MentallamError, match=r"cv_outcome\.json=feed is no run in this tracking database"):
        begin(hooks, needing(["cv_outcome"]), outcome)
    begin(hooks, needing(["cv_outcome"]), outcome, cv_run_id="beef")  # reads the outcome of that run


def test_a_run_in_the_environment_is_ignored(
    hooks: TrackingHooks, connected: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "feed")
    with caplog.at_level(logging.WARNING):
        begin(hooks, needing(["posts"]), saved())
    assert "MLFLOW_RUN_ID is ignored" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [(ValueError(), "FAILED"), (MemoryError(), "FAILED"), (RunStoppedError(15), "KILLED"), (None, "KILLED")],
    ids=["error", "out of memory", "signal", "interpreter exits"],
)
def test_what_breaks_off_is_marked_with_its_fold(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], error: Exception | None, expected: str
) -> None:
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    opened_by(hooks, cv_run)
    fold_run = open_fold_run(cv_run, 0, "fold")
    if error:
        hooks.on_pipeline_error(error)
    else:
        hooks._end("KILLED")
    assert (status(cv_run), status(fold_run)) == (expected, expected)
    hooks._end("KILLED")
    assert status(cv_run) == expected


def test_a_fold_that_fails_leaves_the_cross_validation_to_the_other_folds(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    elsewhere = open_fold_run(cv_run, 1, "elsewhere")
    another = f"{'0' * 12}:1:1"  # a process of another machine
    MlflowClient().set_tag(elsewhere["run_id"], WORKER_TAG, another)
    begin(hooks, needing(["cv_run"]), saved(cv_run=cv_run))
    here = open_fold_run(cv_run, 0, "here")
    hooks.on_pipeline_error(ValueError())
    assert (status(cv_run), status(elsewhere), status(here)) == ("RUNNING", "RUNNING", "FAILED")
    assert MlflowClient().get_run(cv_run["run_id"]).data.tags[WORKER_TAG] == another


def test_the_next_run_settles_what_a_killed_one_left(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    fold_run = open_fold_run(cv_run, 0, "fold")
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    for run in (cv_run, fold_run):
        by = run_status.worker().split(":")
        MlflowClient().set_tag(run["run_id"], WORKER_TAG, f"{by[0]}:{gone.stdout.strip()}:1")
    with caplog.at_level(logging.INFO):
        begin(hooks, needing(["posts"], "predictions"), saved())
    assert (status(cv_run), status(fold_run)) == ("KILLED", "KILLED")
    assert f"process that worked on them is gone: {fold_run['run_id']}, {cv_run['run_id']}" in caplog.text


@pytest.mark.parametrize("elsewhere", [True, False], ids=["of another machine", "of this machine"])
def test_a_cross_validation_between_two_folds_belongs_to_its_process(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], elsewhere: bool
) -> None:
    by = f"{'0' * 12}:1:1" if elsewhere else run_status.worker_of(os.getppid())
    MlflowClient().set_tag(cv_run["run_id"], WORKER_TAG, by)
    begin(hooks, needing(["posts"], "predictions"), saved())
    assert status(cv_run) == "RUNNING"


def test_who_has_the_study_alone_settles_it_for_other_machines(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    fold_run = open_fold_run(cv_run, 0, "fold")
    for run in (cv_run, fold_run):
        MlflowClient().set_tag(run["run_id"], WORKER_TAG, f"{'0' * 12}:1:1")
    begin(hooks, needing(["posts"], "predictions"), saved(cv_run=cv_run))
    assert (status(cv_run), status(fold_run)) == ("RUNNING", "RUNNING")
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=cv_run))
    assert (status(cv_run), status(fold_run)) == ("KILLED", "KILLED")


def test_kedro_mlflows_hook_is_not_there_twice() -> None:
    assert distribution("kedro-mlflow").metadata["Name"] in settings.DISABLE_HOOKS_FOR_PLUGINS


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"tracking": {"run": {"id": "feed"}}}, r"mlflow\.yml: tracking\.run is refused"),
        ({"tracking": {"disable_tracking": {"pipelines": []}}}, r"tracking\.disable_tracking is refused"),
        ({"sever": {}}, r"mlflow\.yml: sever: Extra inputs"),
    ],
)
def test_keys_that_lead_elsewhere_are_refused(content: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MentallamError, match=sentence) as error:
        tracking_hooks._config(SimpleNamespace(config_loader={"mlflow": content}))  # type: ignore[arg-type]
    assert "\n" not in error.value.message


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a second checkout, with a configuration but with the package of the first."""
    folder = tmp_path / "second"
    (folder / "src" / "mentallam").mkdir(parents=True)
    for name in ("conf", "hydra_configs", "pyproject.toml", ".telemetry"):
        (folder / name).symlink_to(PROJECT / name)
    for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    monkeypatch.setattr(project, "_session", None)


def test_a_session_is_about_its_own_project(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT)
    bootstrap_project(PROJECT)
    for folder in (PROJECT, checkout, PROJECT):
        with KedroSession.create(folder, env="test") as session:
            context = session.load_context()  # type: ignore[attr-defined]
            config = context.mlflow
            assert config.server.mlflow_tracking_uri == f"sqlite:///{folder}/mlflow.db"
            assert config.tracking.experiment.create_experiment_kwargs.artifact_location == f"{folder}/mlruns"
            assert context.params["hydra_configs"] == f"{folder}/hydra_configs"
            assert context.catalog["cv_run"]._filepath.as_posix() == f"{folder}/data/test/06_models/cv_run.json"
    assert not (checkout / "mlflow.db").exists()  # a session alone does not connect to the store


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", "nope", "no port"),
        ("127.0.0.1", 70000, "no port"),
        ("192.0.2.1", 5000, "Cannot assign requested address"),
    ],
)
def test_an_address_of_no_page(host: str, port: int | str, reason: str) -> None:
    with pytest.raises(MentallamError, match=re.escape(f"can't listen at {host}:{port} ({reason})")):
        tracking_hooks._refuse_used_port(host, port)
