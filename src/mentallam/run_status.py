"""Who works on an MLflow run: its status is RUNNING only while a process does.

Each run carries a tag that identifies the process which works on it. A process that ends settles its runs; what a
killed one left behind is settled by the next.
"""

import hashlib
import os
import platform
import sys
import time
import uuid
from pathlib import Path

import psutil
from mlflow.entities import Run

from mentallam.tracking_client import retrying_client

WORKER_TAG = "mentallam.worker"
# MLflow's documented tag.
PARENT_RUN_TAG = "mlflow.parentRunId"
# Tag of a cross-validation that has all that its report needs; reporting may still write to it.
COMPLETE_TAG = "mentallam.complete"
# The status of a cross-validation that is opened and waits for its folds.
WAITING = "SCHEDULED"


def worker() -> str:
    """Return what identifies this process."""
    return worker_of(os.getpid())


def worker_of(pid: int) -> str:
    """Return what identifies a process of this machine: a hash of the machine, its id and when it was started."""
    return f"{_machine()}:{pid}:{_started(pid)}"


def work_on(run_id: str) -> None:
    """Mark a run as one that this process works on."""
    client = retrying_client()
    client.set_tag(run_id, WORKER_TAG, worker())
    if client.get_run(run_id).info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")


def take_back(run_id: str) -> None:
    """Mark a run that waits as one that this process works on, after the processes of its folds have left it."""
    if retrying_client().get_run(run_id).info.status == WAITING:
        work_on(run_id)


def give_up(run_id: str) -> None:
    """Mark a run that waits for its folds as killed: another one has taken its place, so none will come."""
    if retrying_client().get_run(run_id).info.status == WAITING:
        end(run_id, "KILLED")


def end(run_id: str, status: str) -> None:
    """Give a run that this process leaves its status, and an end unless it waits."""
    client = retrying_client()
    if status == WAITING:
        client.update_run(run_id, status=status)
        return
    # A clock that was set back must not let a run end before it began.
    began = client.get_run(run_id).info.start_time
    client.set_terminated(run_id, status, end_time=max(began, time.time_ns() // 1_000_000))


def is_complete(run: Run) -> bool:
    """Return whether a run's work is done: a fold is finished, or a cross-validation has all that its report needs."""
    return bool(run.info.status == "FINISHED" or COMPLETE_TAG in run.data.tags)


def settle(experiment_id: str, status: str, cv_run_id: str | None = None) -> list[str]:
    """Give each run that nobody works on any more the status that it deserves.

    A cross-validation whose folds other processes still train stays as it is.

    Args:
        experiment_id: The experiment.
        status: The status of the runs that this process worked on; those of a process that is gone become KILLED.
        cv_run_id: A cross-validation that this process alone may work on, so that whoever else did is gone; None if it
            may work on none alone.

    Returns:
        The ids of the runs that a process which is gone had left as running.
    """
    client = retrying_client()
    found = client.search_runs([experiment_id], f"attributes.status = 'RUNNING' AND tags.`{WORKER_TAG}` LIKE '%'")
    children = [run for run in found if PARENT_RUN_TAG in run.data.tags]
    parents = [run for run in found if PARENT_RUN_TAG not in run.data.tags]
    working: dict[str, str] = {}
    left = []
    for run in [*children, *parents]:
        parent, by = run.data.tags.get(PARENT_RUN_TAG), run.data.tags[WORKER_TAG]
        ours = cv_run_id is not None and cv_run_id in (run.info.run_id, parent)
        gone = _is_gone(by) or (ours and by != worker())
        if gone or by == worker():
            if run.info.run_id in working:  # a fold of it is trained by another process
                client.set_tag(run.info.run_id, WORKER_TAG, working[run.info.run_id])
                continue
            end(run.info.run_id, "FINISHED" if is_complete(run) else "KILLED" if gone else status)
            left += [run.info.run_id] if gone else []
        elif parent:
            working[parent] = by
    return left


def _is_gone(by: str) -> bool:
    """Return whether a process has ended; of another machine's processes nothing is known, so they have not."""
    machine, pid, started = by.split(":")
    return machine == _machine() and _started(int(pid)) != started


def _machine() -> str:
    """Return a hash by which this machine knows itself; it says nothing to others."""
    return hashlib.sha256(f"{platform.node()}{uuid.getnode()}".encode()).hexdigest()[:12]


def _started(pid: int) -> str:
    """Return when a process was started, in a form that a jump of the clock leaves as it is; empty if it has ended."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        if sys.platform == "linux":  # ticks since the machine was started, behind the name in brackets
            return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
        return str(int(process.create_time()))
    except (psutil.NoSuchProcess, OSError):
        return ""
