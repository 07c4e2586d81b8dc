import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from mentallam import tracking_address, tracking_store
from mentallam.errors import MentallamError
from mentallam.tracking_address import artifact_location, local_path, runs_page, tracking_uri
from mentallam.tracking_store import announce, check_store, follow_move

# SQLAlchemy 2.0, the last one for Python 3.10, can't open a database below such a folder; a test has its sentence.
ODD = "?%25" if make_url("sqlite:////%3F").database == "/?" else ""
NAMES = ["plain", "a#b", "ä ö", "a&b=c", "co:lon", "a@b", "[x]", "o'neill"]
NAMES += ["what?", "a%25b", "a%b", "%3F?"] if ODD else []


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Unset the user's variables, and restore MLflow's settings afterwards."""
    before = mlflow.get_tracking_uri()
    for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tracking_address, "_announced", None)
    yield
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("name", NAMES)
def test_the_address_is_that_of_the_projects_database_whatever_the_folder_is_called(name: str, tmp_path: Path) -> None:
    assert make_url(tracking_uri(tmp_path / name)).database == str(tmp_path / name / "mlflow.db")
    if not {"?", "%"} & set(name):
        assert tracking_uri(tmp_path / name) == f"sqlite:///{tmp_path}/{name}/mlflow.db"


def test_mlflow_writes_there_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / f"what #{ODD} ä"
    project.mkdir()
    client = MlflowClient(tracking_uri(project))
    location = artifact_location(project)
    assert location is not None
    experiment = client.create_experiment("x", artifact_location=Path(location).as_uri())
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "hello", "folder/file.txt")
    assert [path.name for path in tmp_path.iterdir()] == [project.name]
    assert {path.name for path in project.iterdir()} == {"mlflow.db", "mlruns"}
    assert (project / "mlruns" / run_id / "artifacts" / "folder" / "file.txt").read_text() == "hello"


def test_an_older_sqlalchemy_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlalchemy.engine.make_url", lambda address: make_url("sqlite:///other"))
    with pytest.raises(MentallamError, match=r"what\? has a \? or % in its name.*sqlalchemy>=2\.1"):
        tracking_uri(tmp_path / "what?")
    assert tracking_uri(tmp_path / "plain")


def test_the_environment_comes_first_unless_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.setenv("MENTALLAM_ARTIFACTS", "")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    assert artifact_location(tmp_path) == f"{tmp_path}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"
    assert artifact_location(tmp_path) is None
    monkeypatch.setenv("MENTALLAM_ARTIFACTS", "/big/disk")
    assert artifact_location(tmp_path) == "/big/disk"


def test_a_project_does_not_take_the_store_of_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    announce(tracking_uri(first))
    assert os.environ["MLFLOW_TRACKING_URI"] == tracking_uri(first)  # MLflow set it, not the user
    assert tracking_uri(second) == f"sqlite:///{second}/mlflow.db"
    announce(tracking_uri(second))
    assert mlflow.get_tracking_uri() == tracking_uri(second)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////named.db")
    assert tracking_uri(first) == "sqlite:////named.db"


def test_a_store_that_answers_is_left_alone(tracking_database: str) -> None:
    check_store(tracking_database)
    assert not {"MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"} & os.environ.keys()


def test_a_server_that_never_answers_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://name:secret@127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(
            MentallamError, match=r"tracking store http://127.* can't be used .*timed out.*MLFLOW_TRAC"
        ) as error:
            check_store(address)
    assert "\n" not in error.value.message and "secret" not in error.value.message
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_a_closed_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(MentallamError, match="can't be used .*refused"):
        check_store(f"http://127.0.0.1:{port}")


def test_a_database_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(MentallamError, match=r"mlflow\.db can't be used \(unable to open database file\)"):
        check_store(tracking_uri(tmp_path))
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at as one " * 20)
    with pytest.raises(MentallamError, match="file is not a database"):
        check_store(f"sqlite:///{tmp_path}/text.db")


def test_addresses_of_this_machine_are_paths(tmp_path: Path) -> None:
    path = tmp_path / "what? #%25"
    assert local_path(path.as_uri()) == path
    assert local_path("/plain/path") == Path("/plain/path")
    assert local_path("s3://bucket/path") is local_path("mlflow-artifacts:/1") is local_path("models:/m-1") is None


class Store:
    """A project with one finished run and a registered model."""

    def __init__(self, project: Path) -> None:
        self.project = project
        project.mkdir(parents=True)
        client = self.client()
        experiment = client.create_experiment("study", artifact_location=(project / "mlruns").as_uri())
        self.run_id = client.create_run(experiment).info.run_id
        # The client would remember for the rest of the process where a run's artifacts lie.
        checkpoint = project / "mlruns" / self.run_id / "artifacts" / "checkpoint"
        checkpoint.mkdir(parents=True)
        (checkpoint / "file.txt").write_text("weights")
        model = client.create_logged_model(experiment, "best_fold", source_run_id=self.run_id)
        (project / "model").mkdir()
        (project / "model" / "MLmodel").write_text("flavors: {}\n")
        client.log_model_artifacts(model.model_id, str(project / "model"))
        client.create_registered_model("name")
        client.create_model_version("name", source=f"models:/{model.model_id}", model_id=model.model_id)

    def client(self) -> MlflowClient:
        announce(tracking_uri(self.project))
        return MlflowClient()

    def move(self, folder: Path) -> None:
        self.project = self.project.rename(folder)

    def follow(self) -> None:
        follow_move(tracking_uri(self.project), self.project)

    def check_whole(self) -> None:
        """Check that finished runs, new files and the registered model are below the project."""
        client = self.client()
        assert Path(client.download_artifacts(self.run_id, "checkpoint/file.txt")).read_text() == "weights"
        client.log_text(self.run_id, "later", "report.md")
        assert (self.project / "mlruns" / self.run_id / "artifacts" / "report.md").read_text() == "later"
        new = client.create_run(client.get_experiment_by_name("study").experiment_id).info  # type: ignore[union-attr]
        assert local_path(new.artifact_uri) == self.project / "mlruns" / new.run_id / "artifacts"
        assert (local_path(client.get_model_version_download_uri("name", "1")) or self.project / "no").is_dir()


@pytest.mark.parametrize("names", [("old", f"new ä#{ODD}"), (f"old ä#{ODD}", "new")])
def test_runs_and_models_are_found_where_the_project_is(names: tuple[str, str], tmp_path: Path) -> None:
    store = Store(tmp_path / names[0])
    store.move(tmp_path / "on the way")
    store.follow()
    store.move(tmp_path / names[1])
    store.follow()
    store.follow()
    store.check_whole()
    assert [folder.name for folder in tmp_path.iterdir()] == [names[1]]


def test_a_copy_is_whole_by_itself(tmp_path: Path) -> None:
    store = Store(tmp_path / "first")
    before = sorted((tmp_path / "first").rglob("*"))
    subprocess.run(["cp", "-r", tmp_path / "first", tmp_path / "second"], check=True)
    store.project = tmp_path / "second"
    store.follow()
    store.check_whole()
    assert sorted((tmp_path / "first").rglob("*")) == before


def test_a_database_without_its_artifacts_is_one_sentence(tmp_path: Path) -> None:
    store = Store(tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "mlflow.db").write_bytes((tmp_path / "first" / "mlflow.db").read_bytes())
    store.project = tmp_path / "second"
    with pytest.raises(MentallamError, match=r"second/mlflow\.db keeps its artifacts in .*first/mlruns, which belongs"):
        store.follow()
    (tmp_path / "first" / "mlflow.db").unlink()
    (tmp_path / "first").rename(tmp_path / "gone")
    with pytest.raises(MentallamError, match="first/mlruns, which does not exist: make it available, move"):
        store.follow()


def test_artifacts_that_the_user_keeps_elsewhere_stay_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "project")
    client = store.client()
    disk = tmp_path / "disk" / "mlruns"
    monkeypatch.setenv("MENTALLAM_ARTIFACTS", str(disk))
    experiment = client.create_experiment("large", artifact_location=disk.as_uri())
    store.follow()  # nothing is there yet
    run_id = client.create_run(experiment).info.run_id
    client.log_text(run_id, "large", "file.txt")
    monkeypatch.delenv("MENTALLAM_ARTIFACTS")
    store.move(tmp_path / "moved")
    store.follow()
    store.check_whole()
    assert local_path(store.client().get_run(run_id).info.artifact_uri) == disk / run_id / "artifacts"


def test_another_store_is_left_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "project")
    uri = tracking_uri(store.project)
    before = (store.project / "mlflow.db").read_bytes()
    follow_move(uri, tmp_path / "other")
    follow_move("http://127.0.0.1:5000", store.project)
    assert (store.project / "mlflow.db").read_bytes() == before


def test_every_address_that_mlflow_keeps_is_known(tmp_path: Path) -> None:
    """`follow_move` would miss an address in a column that a new version of MLflow adds."""
    store = Store(tmp_path / "project")
    with sqlite3.connect(store.project / "mlflow.db") as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {
            (table, column[1])
            for table in tables
            for column in database.execute(f"PRAGMA table_info({table})").fetchall()
            for (value,) in database.execute(f"SELECT {column[1]} FROM {table}").fetchall()
            if str(store.project) in str(value)
        }
    assert found <= set(tracking_store._ADDRESSES)
    assert len(found) == 4  # `source` names a folder only in versions that other programs registered


def test_the_store_is_found_by_other_processes(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from mentallam.tracking_address import tracking_uri; "
    announce(tracking_uri(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code + "print(tracking_uri(Path(sys.argv[1])))", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == tracking_uri(tmp_path)


def test_the_list_of_runs_is_on_the_server_or_where_the_page_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = "/#/experiments/3/runs?workflowType=machine_learning"
    assert runs_page("3") == f"http://127.0.0.1:5000{runs}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://server/mlflow/")
    assert runs_page("3") == f"https://server/mlflow{runs}"
