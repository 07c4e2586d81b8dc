"""What users see when something is wrong: one sentence with the way out, exit code 1, no post's text."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.runner import ThreadRunner

from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace
from tests.samples import PROJECT

SECRET = "Marzipan lighthouse"


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Run a pipeline that must stop with one sentence with the given words, and print no post's text."""

    def run(workspace: Workspace, pipeline: str, *words: str, env: str = "test", **params: object) -> None:
        with pytest.raises(MentallamError) as caught:
            workspace.run(pipeline, env, **params)
        sentence = caught.value.message
        assert "\n" not in sentence
        for word in words:
            assert word in sentence
        out, err = capfd.readouterr()
        assert SECRET not in sentence + out + err + caplog.text

    return run


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Copy the raw data, so that a test may spoil them."""
    return Path(shutil.copytree(PROJECT / "data" / "01_raw", tmp_path / "raw", ignore=shutil.ignore_patterns("redsm5")))


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


SPOILERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "missing file": (lambda raw: (raw / "sample/redsm5_posts.csv").unlink(), ("redsm5_posts.csv",)),
    "unknown symptom": (
        lambda raw: edit(raw / "sample/redsm5_annotations.csv", lambda text: text.replace("FATIGUE", "FATIGE", 1)),
        ("redsm5_annotations.csv", "FATIGE"),
    ),
    "text in a broken row": (
        lambda raw: edit(raw / "sample/redsm5_posts.csv", lambda text: text + f'"{SECRET}\n'),
        ("redsm5_posts.csv",),
    ),
    "wrong counts": (
        lambda raw: edit(raw / "sample/redsm5_posts.csv", lambda text: text + f"s_9999_1,{SECRET}\n"),
        ("60", "61", "override_reason"),
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_bad_corpus(empty: Workspace, raw: Path, name: str, refused: Callable[..., None]) -> None:
    spoil, words = SPOILERS[name]
    spoil(raw)
    refused(empty, "data_processing", *words, raw_dir=str(raw))


@pytest.mark.parametrize(
    ("overrides", "word"),
    [("training.max_epoch=3", "max_epoch"), ("optimizer=sgd", "optimizer"), ("model=gpt5", "gpt5")],
)
def test_unknown_hydra_key_or_group(empty: Workspace, overrides: str, word: str, refused: Callable[..., None]) -> None:
    refused(empty, "cv_training", word, "hydra_configs", overrides=overrides)


def test_mistyped_environment(untouched: Workspace, refused: Callable[..., None]) -> None:
    refused(untouched, "data_processing", "--env tset", "base, local, mentallam, pairs, test, twin", env="tset")
    assert not (untouched.folder / "mlflow.db").exists()


def test_inference_before_training(empty: Workspace, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "post.txt").write_text(SECRET)
    refused(empty, "inference", "no champion yet", "model=latest", input=f"{tmp_path}/post.txt")


def test_a_server_that_is_away_stops_only_what_needs_it(
    empty: Workspace, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "environment", {**empty.environment, "MLFLOW_TRACKING_URI": "http://127.0.0.1:1"})
    empty.run("data_processing")
    sentence = ("tracking store http://127.0.0.1:1 can't be used", "refused", "MLFLOW_TRACKING_URI")
    refused(empty, "compare", *sentence, first="feed", second="beef")


def test_reporting_before_training(empty: Workspace, refused: Callable[..., None]) -> None:
    refused(empty, "reporting", "run `kedro run --pipeline cv_training --env test` first")


def test_damaged_result_is_named(trained: Workspace, tmp_path: Path, refused: Callable[..., None]) -> None:
    copy = Workspace(Path(shutil.copytree(trained.folder, tmp_path / "copy")))
    cut_in_half(copy.data / "07_model_output/folds/fold_1_predictions.parquet")
    way_out = "remove it and rebuild it with `kedro run --pipeline cv_training --env test`"
    refused(copy, "reporting", "fold_1_predictions.parquet can't be read", way_out)


def test_file_that_cannot_be_written_is_named(empty: Workspace, refused: Callable[..., None]) -> None:
    (empty.data / "03_primary/manifest.json").mkdir(parents=True)
    refused(
        empty, "data_processing", "03_primary/manifest.json can't be written", "directory", "check space and rights"
    )


def test_input_that_is_no_file(trained: Workspace, refused: Callable[..., None]) -> None:
    refused(trained, "inference", "nowhere.csv is no file", "mentallam predict", input="nowhere.csv")


def test_malformed_jsonl_names_the_row(trained: Workspace, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "posts.jsonl").write_text(f'{{"text": "fine"}}\n{{"text": "{SECRET}"\n')
    refused(trained, "inference", "row 2", input=f"{tmp_path}/posts.jsonl", on_error="stop")


def test_override_that_would_change_nothing(trained: Workspace, tmp_path: Path, refused: Callable[..., None]) -> None:
    (tmp_path / "post.txt").write_text(SECRET)
    refused(trained, "inference", "would change nothing", input=f"{tmp_path}/post.txt", overrides="adapter.r=4")


def test_environment_mentallam_without_data(empty: Workspace, raw: Path, refused: Callable[..., None]) -> None:
    refused(empty, "__default__", "redsm5_posts.csv is missing", "agreement", env="mentallam", raw_dir=str(raw))


def test_environment_twin_without_the_twin(empty: Workspace, raw: Path, refused: Callable[..., None]) -> None:
    shutil.rmtree(raw / "twin", ignore_errors=True)
    refused(empty, "data_processing", "redsm5_posts.csv is missing", "`make twin`", env="twin", raw_dir=str(raw))


def test_environment_mentallam_without_hub(empty: Workspace, raw: Path, refused: Callable[..., None]) -> None:
    shutil.copytree(raw / "sample", raw / "redsm5")
    params = {"raw_dir": str(raw), "expectation": {"override_reason": "a test"}}
    refused(empty, "cv_training", "klyang/MentaLLaMA-chat-7B", "overrides=model.path=", env="mentallam", **params)


def test_terminal_shows_one_sentence_and_exit_code_1(empty: Workspace, tmp_path: Path) -> None:
    (tmp_path / "post.txt").write_text(SECRET)
    done = empty.kedro("--pipeline", "inference", f"--params=input={tmp_path}/post.txt")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("Error: there is no champion yet")
    assert "Traceback" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("pipeline", ["cv_training", "__default__"])
def test_folds_in_threads_are_refused_before_any_work(
    empty: Workspace, monkeypatch: pytest.MonkeyPatch, pipeline: str
) -> None:
    bootstrap_project(PROJECT)
    for name in ("MLFLOW_TRACKING_URI", "MENTALLAM_ARTIFACTS"):
        monkeypatch.setenv(name, empty.environment[name])
    with (
        KedroSession.create(PROJECT, env="test", runtime_params={"data_dir": str(empty.data)}) as session,
        pytest.raises(MentallamError, match="ThreadRunner would train folds side by side"),
    ):
        session.run(pipeline_names=[pipeline], runner=ThreadRunner())  # type: ignore[attr-defined]
    assert not empty.data.exists()


def test_a_page_whose_port_is_taken(empty: Workspace) -> None:
    """kedro-mlflow drops the exit code of the server that it starts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = empty.forked("kedro", "mlflow", "ui", f"--port={listener.getsockname()[1]}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "Address already in use" in line
