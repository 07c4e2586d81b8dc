"""scripts/copied_study.sh with a stand-in for kedro: copies, a lost machine, exit codes, a signal to the job."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.samples import PROJECT

SCRIPT = PROJECT / "scripts" / "copied_study.sh"
# Each start adds a line to data/steps; it ends when there are three, and otherwise waits for a signal.
KEDRO = """#!/usr/bin/env bash
trap 'exit 138' USR1
trap 'exit 143' TERM
mkdir -p data/01_raw; echo corpus > data/01_raw/posts
echo "$@" >> data/steps
[[ $(wc -l < data/steps) -ge 3 ]] && exit "${FINISHED:-0}"
while true; do sleep 0.05; done
"""


def machine(folder: Path) -> Path:
    """Return a new machine: a project with an environment, and no data."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    kedro = folder / ".venv" / "bin" / "kedro"
    kedro.write_text(KEDRO, encoding="ascii")
    kedro.chmod(0o755)
    return folder


def started(project: Path, copies: Path, every: str, **variables: str) -> "subprocess.Popen[str]":
    command = ["bash", str(SCRIPT), str(copies), "--env", "test"]
    given = {**os.environ, "COPY_EVERY": every, **variables}
    return subprocess.Popen(command, cwd=project, env=given, text=True, start_new_session=True)


def steps(project: Path) -> list[str]:
    file = project / "data" / "steps"
    return file.read_text(encoding="ascii").splitlines() if file.exists() else []


def wait_for_steps(project: Path, number: int) -> None:
    for _ in range(400):
        if len(steps(project)) >= number:
            return
        time.sleep(0.05)
    pytest.fail("no step within 20 seconds")


@pytest.mark.parametrize("code", [0, 1])
def test_a_study_is_stopped_for_each_copy_and_goes_on(tmp_path: Path, code: int) -> None:
    project, copies = machine(tmp_path / "one"), tmp_path / "copies"
    copies.mkdir()
    assert started(project, copies, "0.3s", FINISHED=str(code)).wait(30) == code
    assert steps(project) == ["run --env test"] * 3
    assert [file.name for file in copies.iterdir()] == ["data.tar"]
    held = subprocess.run(["tar", "tf", copies / "data.tar"], capture_output=True, text=True, check=True).stdout
    assert "data/steps" in held
    assert "01_raw" not in held  # the corpus comes with the machine


def test_a_study_goes_on_from_the_copy_on_a_new_machine(tmp_path: Path) -> None:
    first, second, copies = machine(tmp_path / "one"), machine(tmp_path / "two"), tmp_path / "copies"
    copies.mkdir()
    lost = started(first, copies, "0.5s")
    wait_for_steps(first, 2)
    os.killpg(lost.pid, signal.SIGKILL)
    lost.wait()
    assert started(second, copies, "0.5s").wait(30) == 0
    assert len(steps(second)) == 3  # it has the steps of the copy, and adds to them


def test_a_signal_to_the_job_ends_with_a_copy_and_the_code_of_the_signal(tmp_path: Path) -> None:
    project, copies = machine(tmp_path / "one"), tmp_path / "copies"
    copies.mkdir()
    job = started(project, copies, "1h")
    wait_for_steps(project, 1)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait(30) == 143
    assert (copies / "data.tar").is_file()
