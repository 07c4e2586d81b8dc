"""Inference on Ray Data, by two actors, ends in what one process gives; also where something is killed."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.workspace import Workspace
from tests.samples import PROJECT

pytest.importorskip("ray", reason="the extra `ray` is not installed")

ROWS, PER_PARTITION = 640, 64


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write posts that occur again with other criteria and texts, in two files, and a bad row."""
    folder, draw = tmp_path_factory.mktemp("posts"), random.Random(0)
    rows = [
        {
            "post_id": f"p{draw.randrange(ROWS)}",
            "text": f"I am awake at night. {'Again. ' * (draw.random() < 0.05)}",
            "criterion_id": draw.choice(["A.4", "A.5", None]),
        }
        for _ in range(ROWS)
    ]
    half = ROWS // 2
    pq.write_table(pa.Table.from_pylist(rows[:half]), folder / "a.parquet", row_group_size=32)
    (folder / "b.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in [*rows[half:], {"text": ""}]))
    return folder


@pytest.fixture(scope="module")
def alone(trained: Workspace, posts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of one process."""
    output = tmp_path_factory.mktemp("alone")
    done = trained.kedro("--pipeline", "inference", f"--params=input={posts},output={output},model=best_fold")
    assert done.returncode == 3, done.stderr
    return output


def start(trained: Workspace, posts: Path, output: Path) -> "subprocess.Popen[str]":
    cluster = f"cluster.backend=ray,cluster.workers=2,cluster.partition_rows={PER_PARTITION}"
    given = f"data_dir={trained.data},input={posts},output={output},model=best_fold,{cluster}"
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipeline", "inference", "--params", given]
    return subprocess.Popen(
        command, cwd=PROJECT, env=trained.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_a_partition(run: "subprocess.Popen[str]", output: Path) -> list[psutil.Process]:
    """Wait until a partition is finished and others are not; return the actors."""
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline:
        assert run.poll() is None, run.communicate()[0]
        if list(output.glob(".predictions_attempt/partitions/*/done.json")):
            return [each for each in psutil.Process(run.pid).children(recursive=True) if "MapWorker" in each.name()]
        time.sleep(0.02)
    raise AssertionError("no partition was finished")


def check(output: Path, alone: Path) -> None:
    parts = sorted((output / "predictions.jsonl").iterdir())
    assert len(parts) > 2
    answers = b"".join(part.read_bytes() for part in parts)
    assert answers == (alone / "predictions.jsonl").read_bytes()
    assert (output / "rejects.jsonl").read_bytes() == (alone / "rejects.jsonl").read_bytes()
    counts = [json.loads((each / "prediction_summary.json").read_text())["counts"] for each in (output, alone)]
    assert counts[0] == counts[1]
    assert "two texts" in (alone / "rejects.jsonl").read_text() and counts[0]["repeated_rows"] > 0
    assert not (output / ".predictions_attempt").exists()


@pytest.mark.slow  # Ray takes half a minute to start, and on a machine with much other work may not start at all
def test_two_actors_one_of_them_killed_give_what_one_process_gives(
    trained: Workspace, posts: Path, alone: Path, tmp_path: Path
) -> None:
    run = start(trained, posts, tmp_path)
    wait_for_a_partition(run, tmp_path)[0].kill()
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 3, output
    assert f"rows could not be answered: see {tmp_path}/rejects.jsonl" in output
    assert "awake at night" not in output
    check(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_stopped_keeps_its_partitions_and_goes_on(
    trained: Workspace, posts: Path, alone: Path, tmp_path: Path, number: int, code: int
) -> None:
    run = start(trained, posts, tmp_path)
    wait_for_a_partition(run, tmp_path)
    processes = psutil.Process(run.pid).children(recursive=True)
    run.send_signal(number)
    output = run.communicate(timeout=300)[0]
    assert run.returncode == code, output
    assert number == signal.SIGKILL or "run the same command again to go on" in output.splitlines()[-1]
    left = psutil.wait_procs(processes, timeout=60)[1]
    # Ray's own agents may wait longer for the processes of a run that was killed by SIGKILL; they hold no post.
    assert not [process for process in left if number != signal.SIGKILL or not process.name().endswith("Agent")]
    again = start(trained, posts, tmp_path)
    output = again.communicate(timeout=600)[0]
    assert again.returncode == 3, output
    assert "partitions are answered, and kept" in output
    check(tmp_path, alone)


@pytest.mark.slow
def test_an_error_of_an_actor_is_the_runs(trained: Workspace, posts: Path, tmp_path: Path) -> None:
    run = start(trained, posts, f"{tmp_path},on_error=stop")  # type: ignore[arg-type]
    output = run.communicate(timeout=600)[0]
    assert run.returncode == 1, output
    assert "Error: " in output.splitlines()[-1] and ", row " in output.splitlines()[-1]
    assert not (tmp_path / "predictions.jsonl").exists()


def test_backends_that_only_train_are_refused(trained: Workspace, posts: Path) -> None:
    done = trained.kedro("--pipeline", "inference", f"--params=input={posts},cluster.backend=slurm")
    assert done.returncode == 1
    assert "cluster.backend=slurm trains folds; inference takes ray" in done.stderr.splitlines()[-1]
