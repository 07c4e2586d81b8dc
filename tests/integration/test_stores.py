"""Inference from and to a store that speaks S3, with credentials from Kedro's configuration."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from tests.integration.workspace import Workspace
from tests.samples import PROJECT
from tests.servers import s3_server

KEY, KEPT = "AKIAEXAMPLE", "kept-to-itself"  # of an access
POSTS = [{"post_id": f"p{number}", "text": f"I am awake at night, {number} times."} for number in range(8)]


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def nothing_left(trained: Workspace) -> Iterator[None]:
    """Remove the figures that a batch leaves for its last lines; other tests know the files of the shared run."""
    yield
    shutil.rmtree(trained.data / "07_model_output" / "uploads", ignore_errors=True)


@pytest.fixture
def conf(tmp_path: Path, store: str) -> Path:
    """Return a configuration whose environment has the store's credentials."""
    folder = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", folder)
    access = {"key": KEY, "secret": KEPT, "client_kwargs": {"endpoint_url": store}}
    (folder / "test" / "credentials.yml").write_text(yaml.safe_dump({"storage": access}))
    return folder


@pytest.fixture
def bucket(conf: Path) -> Any:
    """Return the store's file system, with an empty bucket named posts."""
    import s3fs

    access = yaml.safe_load((conf / "test" / "credentials.yml").read_text())["storage"]
    fs = s3fs.S3FileSystem(**access, skip_instance_cache=True)
    if fs.exists("posts"):
        fs.rm("posts", recursive=True)
    fs.mkdir("posts")
    return fs


def infer(trained: Workspace, conf: Path, **params: str) -> "CompletedProcess[str]":
    given = ",".join(f"{name}={value}" for name, value in params.items())
    return trained.kedro("--pipeline", "inference", "--conf-source", str(conf), f"--params={given}")


def test_a_store_gives_and_takes_what_files_of_this_machine_do(
    trained: Workspace, conf: Path, bucket: Any, tmp_path: Path
) -> None:
    lines = [json.dumps(post) for post in POSTS]
    for name, content in (("a.jsonl", lines[:5]), ("b.jsonl", [*lines[5:], "{bad"])):
        bucket.pipe(f"posts/in/{name}", "\n".join(content).encode())
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / name).write_text("\n".join(content))
    bucket.pipe("posts/in/notes.md", b"no posts")
    there = infer(trained, conf, input="s3://posts/in", output="s3://posts/out/june.parquet")
    here = infer(trained, conf, input=str(tmp_path / "in"), output=str(tmp_path / "out/june.parquet"))
    assert (there.returncode, here.returncode) == (3, 3), there.stderr
    assert "1 of 9 rows could not be answered: see s3://posts/out/june_rejects.jsonl" in there.stderr
    names = {"june.parquet", "june_rejects.jsonl", "june_summary.json", "june_metrics.prom"}
    assert {name.rpartition("/")[2] for name in bucket.ls("posts/out", refresh=True)} == names
    assert bucket.cat("posts/out/june.parquet") == (tmp_path / "out/june.parquet").read_bytes()
    assert json.loads(bucket.cat("posts/out/june_rejects.jsonl")) == {
        "file": "s3://posts/in/b.jsonl",
        "row": 4,
        "reason": "not valid JSON; each line must be one object",
    }
    waiting = trained.data / "07_model_output" / "uploads"
    assert {path.name for path in waiting.rglob("*")} & {"june.parquet", ".june_attempt"} == set()
    seen = (
        there.stdout
        + there.stderr
        + "".join(path.read_text(errors="replace") for path in trained.folder.rglob("*") if path.is_file())
    )
    assert KEPT not in seen
    again = infer(trained, conf, input="s3://posts/in/*.jsonl", output="s3://posts/out/june.parquet")
    assert again.returncode == 1
    assert "s3://posts/out/june.parquet exists: name another file with output=..." in again.stderr


def test_each_fault_of_a_store_is_one_sentence(
    trained: Workspace, conf: Path, bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.pipe("posts/one.txt", b"I am awake at night.")
    for given, words in (
        ("s3://nowhere/one.txt", "input=s3://nowhere/one.txt is no file, and matches none"),
        ("s3://posts/*.csv", "input=s3://posts/*.csv is no file, and matches none"),
        ("gs://posts/one.txt", "gs:// needs a package that is not installed: Please install gcsfs"),
        ("nosuch://posts/one.txt", "nosuch:// is no kind of store that fsspec knows"),
    ):
        done = infer(trained, conf, input=given, output="s3://posts/never.jsonl")
        assert (done.returncode, words in done.stderr.splitlines()[-1]) == (1, True), done.stderr
    monkeypatch.setattr("moto.settings.INITIAL_NO_AUTH_ACTION_COUNT", 0)  # from now on no key is known
    done = infer(trained, conf, input="s3://posts/one.txt", output=str(tmp_path / "never.jsonl"))
    assert done.returncode == 1
    assert "s3://posts/one.txt: the store refuses access; check the entry `storage`" in done.stderr.splitlines()[-1]
    assert KEPT not in done.stdout + done.stderr
