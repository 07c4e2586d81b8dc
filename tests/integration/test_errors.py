"""What users meet when something is wrong: one sentence with the way out, exit code 1, no post text."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.integration.conftest import Workspace

SECRET = "Marzipan lighthouse"


def check(done: object, *words: str) -> None:
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]  # type: ignore[attr-defined]
    sentence = done.stderr.strip().splitlines()[-1]  # type: ignore[attr-defined]
    assert sentence.startswith("Error: "), done.stderr[-2000:]  # type: ignore[attr-defined]
    for word in words:
        assert word in sentence
    everything = done.stdout + done.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in everything
    assert SECRET not in everything


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A copy of the raw data that a test may spoil."""
    return Path(shutil.copytree(PROJECT / "data" / "01_raw", tmp_path / "raw", ignore=shutil.ignore_patterns("redsm5")))


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


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
        ("64", "65", "override_reason"),
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_bad_corpus(empty: Workspace, raw: Path, name: str) -> None:
    spoil, words = SPOILERS[name]
    spoil(raw)
    check(empty.kedro("--pipeline", "data_processing", f"--params=raw_dir={raw}"), *words)


@pytest.mark.parametrize(
    ("overrides", "word"),
    [("training.max_epoch=3", "max_epoch"), ("optimizer=sgd", "optimizer"), ("model=gpt5", "gpt5")],
)
def test_unknown_hydra_key_or_group(empty: Workspace, overrides: str, word: str) -> None:
    check(empty.kedro("--pipeline", "cv_training", f"--params=overrides={overrides}"), word, "hydra_configs")


def test_inference_before_training(empty: Workspace, tmp_path: Path) -> None:
    (tmp_path / "post.txt").write_text(SECRET)
    check(empty.kedro("--pipeline", "inference", f"--params=input={tmp_path}/post.txt"), "cv_training")


def test_reporting_before_training(empty: Workspace) -> None:
    check(empty.kedro("--pipeline", "reporting"), "kedro run --pipeline", "--env test")


def test_input_that_is_no_file(trained: Workspace) -> None:
    check(trained.kedro("--pipeline", "inference", "--params=input=nowhere.csv"), "no file", "mentallam predict")


def test_malformed_jsonl_names_the_row(trained: Workspace, tmp_path: Path) -> None:
    (tmp_path / "posts.jsonl").write_text(f'{{"text": "fine"}}\n{{"text": "{SECRET}"\n')
    check(trained.kedro("--pipeline", "inference", f"--params=input={tmp_path}/posts.jsonl"), "row 2")


def test_mentallam_profile_without_data_says_what_to_get(empty: Workspace, raw: Path) -> None:
    check(empty.kedro(f"--params=raw_dir={raw}", env="mentallam"), "redsm5", "agreement")


def test_mentallam_profile_without_hub_says_what_to_get(empty: Workspace, raw: Path) -> None:
    shutil.copytree(raw / "sample", raw / "redsm5")
    done = empty.kedro(f"--params=raw_dir={raw},expectation.override_reason=a test", env="mentallam")
    check(done, "klyang/MentaLLaMA-chat-7B", "overrides=model.path=")
