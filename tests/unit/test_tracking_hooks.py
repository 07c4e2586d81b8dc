"""The hooks around the tracking store, on catalogs in memory; a real session is in tests/integration."""

import inspect
import logging
import re
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
from kedro_mlflow.framework.hooks import MlflowHook
from mlflow import MlflowClient

from mentallam import project, settings, tracking_hooks
from mentallam.errors import MentallamError
from mentallam.tracking import BEST_RUN_TAG, NEEDS_TRACKING, Run, open_cv_run, open_fold_run
from mentallam.tracking_hooks import TrackingHooks
from tests.samples import PROJECT


def nothing(*names: Any) -> None:
    """A node's function."""


def needing(inputs: list[str], outputs: str | None = None) -> Pipeline:
    return Pipeline([Node(nothing, inputs, outputs, name="needs", tags=NEEDS_TRACKING)])


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(tracking_hooks, "connect", calls.append)
    return calls


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Pipeline]:
    """The pipelines for which kedro-mlflow opens a run; it opens none here."""
    pipelines: list[Pipeline] = []
    monkeypatch.setattr(MlflowHook, "before_pipeline_run", lambda self, params, pipeline, _: pipelines.append(pipeline))
    return pipelines


@pytest.fixture
def hooks(opened: list[Pipeline]) -> TrackingHooks:
    hooks = TrackingHooks()
    hooks._context = SimpleNamespace()  # type: ignore[assignment]
    return hooks


@pytest.fixture
def cv_run(experiment: str) -> dict[str, str]:
    return open_cv_run("a study", experiment)


def status(run: dict[str, str]) -> str:
    return str(MlflowClient().get_run(run["run_id"]).info.status)


def begin(hooks: TrackingHooks, pipeline: Pipeline, catalog: DataCatalog, **runtime_params: str) -> None:
    hooks.before_pipeline_run({"runtime_params": runtime_params}, pipeline, catalog)


def saved(**datasets: Any) -> DataCatalog:
    return DataCatalog({name: MemoryDataset(value) for name, value in datasets.items()})


def test_what_tracks_nothing_leaves_the_store_alone(hooks: TrackingHooks, connected: list[Any]) -> None:
    begin(hooks, Pipeline([Node(nothing, ["cv_run"], None, name="other")]), saved(cv_run={"run_id": "feed"}))
    assert connected == []
    begin(hooks, needing(["posts"]), saved())
    assert len(connected) == 1


def test_kedro_mlflow_opens_a_run_for_a_new_cross_validation_only(
    hooks: TrackingHooks, connected: list[Any], opened: list[Pipeline], cv_run: dict[str, str]
) -> None:
    begin(hooks, needing(["cv_run"], "cv_outcome"), saved(cv_run=cv_run))
    begin(hooks, needing(["posts"], "predictions"), saved())
    assert opened == []
    begin(hooks, opening := needing(["posts"], "cv_run"), saved(cv_run=cv_run))
    assert opened == [opening]


@pytest.mark.parametrize(("last", "expected"), [("keep_report_inputs", "FINISHED"), ("close_cv_run", "RUNNING")])
def test_the_active_run_ends_with_the_pipeline(
    hooks: TrackingHooks, connected: list[Any], experiment: str, last: str, expected: str
) -> None:
    mlflow.set_experiment(experiment)
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    hooks.run_id = mlflow.start_run().info.run_id
    mlflow.start_run(hooks.run_id, nested=True)  # as kedro-mlflow does for each node
    run = open_cv_run("a study", experiment)
    assert run["run_id"] == hooks.run_id
    hooks.after_pipeline_run(Pipeline([Node(nothing, "posts", None, name=last)]))
    assert (mlflow.active_run(), hooks.run_id, hooks._is_mlflow_enabled) == (None, None, False)
    assert status(run) == expected
    assert MlflowClient().get_run(run["run_id"]).info.run_name == "a study"


def test_another_active_run_is_left_alone(hooks: TrackingHooks, experiment: str) -> None:
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as users:
        hooks.after_pipeline_run(Pipeline([]))
        assert mlflow.active_run().info.run_id == users.info.run_id


def test_nodes_that_use_mlflow_say_so() -> None:
    configure_project("mentallam")
    for node in sum(pipelines.values(), Pipeline([])).nodes:
        source = f"{node.func.__module__.removeprefix('mentallam.')}.{inspect.getsource(node.func)}"
        called = bool(re.search(r"\btracking\.|\bregistry\.(def |offer|find_)|\b_load\(", source))
        assert (NEEDS_TRACKING in node.tags) == called, node.name


def test_a_finished_cross_validation_is_refused(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    fold_run = open_fold_run(cv_run, 0)
    begin(hooks, needing(["cv_run"]), saved(cv_run=cv_run))
    Run(cv_run["run_id"]).set_tags({BEST_RUN_TAG: fold_run["run_id"]})
    Run(cv_run["run_id"]).finish()
    for name, run in (("cv_run", cv_run), ("fold_3_run", fold_run)):
        with pytest.raises(MentallamError, match="belongs to a finished cross-validation"):
            begin(hooks, needing([name]), saved(**{name: run}))


def test_a_report_needs_its_run(hooks: TrackingHooks, connected: list[Any], experiment: str) -> None:
    outcome = saved(cv_outcome={"cv_run_id": "feed"})
    with pytest.raises(MentallamError, match=r"cv_outcome\.json=feed is no run in this tracking database"):
        begin(hooks, needing(["cv_outcome"]), outcome)
    begin(hooks, needing(["cv_outcome"]), outcome, cv_run_id="beef")  # reads its own


def test_a_run_in_the_environment_is_ignored(
    hooks: TrackingHooks, connected: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "feed")
    with caplog.at_level(logging.WARNING):
        begin(hooks, needing(["posts"]), saved())
    assert "MLFLOW_RUN_ID is ignored" in caplog.text


def test_what_was_opened_here_and_broke_off_is_marked(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str], experiment: str
) -> None:
    catalog, opened = saved(cv_run=cv_run), open_cv_run("another", experiment)
    begin(hooks, needing(["posts"], "cv_run"), catalog)
    hooks.on_pipeline_error()  # before the node that opens a run
    assert status(cv_run) == "RUNNING"
    begin(hooks, needing(["posts"], "cv_run"), catalog)
    catalog.save("cv_run", opened)
    hooks.on_pipeline_error()
    assert (status(cv_run), status(opened)) == ("RUNNING", "FAILED")


def test_what_was_only_opened_stays_open_and_an_interrupt_ends_it(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    catalog = DataCatalog({"cv_run": MemoryDataset()})
    begin(hooks, needing(["posts"], "cv_run"), catalog)
    catalog.save("cv_run", cv_run)
    hooks.after_pipeline_run(Pipeline([]))
    hooks._settle("KILLED")  # as at the interpreter's end
    assert status(cv_run) == "RUNNING"
    begin(hooks, needing(["posts"], "cv_run"), saved(cv_run=None))
    hooks._unsettled = catalog
    hooks._settle("KILLED")
    assert status(cv_run) == "KILLED"


def test_a_fold_that_fails_leaves_the_others_run_open(
    hooks: TrackingHooks, connected: list[Any], cv_run: dict[str, str]
) -> None:
    begin(hooks, needing(["cv_run"]), saved(cv_run=cv_run))
    hooks.on_pipeline_error()
    assert status(cv_run) == "RUNNING"


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
    """A second checkout: its configuration, and the package of the first."""
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
    assert not (checkout / "mlflow.db").exists()  # a session alone does not touch the store
