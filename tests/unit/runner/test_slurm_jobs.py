"""The queue as `squeue` shows it: a stand-in whose answer is a file, and a `scancel` that empties it."""

from pathlib import Path

import pytest

from mentallam.errors import MentallamError
from mentallam.runner import slurm_jobs
from mentallam.runner.slurm_jobs import JobQueue, end_jobs, jobs_folder


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file that `squeue` shows; without it, SLURM does not answer."""
    shown = tmp_path / "shown"
    commands = tmp_path / "commands"
    commands.mkdir()
    for name, script in {
        "squeue": f'echo "$@" >> {tmp_path}/asked; cat {shown}',
        "scancel": f'echo "$@" >> {tmp_path}/cancelled; : > {shown}',
    }.items():
        (commands / name).write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    monkeypatch.setattr(slurm_jobs, "_ASK_S", 0.0)
    monkeypatch.setattr(slurm_jobs, "_END_S", 0.0)
    jobs_folder(tmp_path).mkdir()
    return shown


def test_a_job_that_the_queue_no_longer_shows_has_ended(queue: Path, tmp_path: Path) -> None:
    jobs = JobQueue(tmp_path)
    queue.write_text("7\n8\n", encoding="ascii")
    assert (jobs.holds("7"), jobs.holds("9")) == (True, False)
    queue.write_text("8\n", encoding="ascii")
    assert not jobs.holds("7")
    queue.unlink()  # SLURM is restarted: nothing is known to have ended
    assert jobs.holds("8")


def test_a_new_job_counts_before_the_queue_is_asked_again(
    queue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_jobs, "_ASK_S", 1e6)
    queue.write_text("7\n", encoding="ascii")
    jobs = JobQueue(tmp_path)
    assert jobs.holds("7")
    assert not jobs.holds("8")
    jobs.add("8")
    assert jobs.holds("8")


def test_jobs_of_an_earlier_run_are_cancelled_by_the_name_of_their_data_folder(queue: Path, tmp_path: Path) -> None:
    queue.write_text("7\n8\n", encoding="ascii")
    end_jobs(tmp_path)
    assert sorted((tmp_path / "cancelled").read_text(encoding="ascii").split()) == ["7", "8"]
    assert f"--name={JobQueue(tmp_path).name}" in (tmp_path / "asked").read_text(encoding="ascii")
    assert JobQueue(tmp_path).name != JobQueue(tmp_path / "other").name


def test_a_silent_queue_is_an_error_only_for_who_has_submitted_jobs(queue: Path, tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="squeue fails.*try again when SLURM answers"):
        end_jobs(tmp_path)
    jobs_folder(tmp_path).rmdir()
    end_jobs(tmp_path)
