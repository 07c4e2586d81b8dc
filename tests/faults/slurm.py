"""A stand-in for SLURM on one machine: `sbatch`, `srun` and `scontrol`, as far as scripts/slurm_cv.sh needs them.

`sbatch` runs the tasks of a job in the foreground, one after the other, and starts a task again that is to be requeued.
What happens to a running task is decided from outside, by a file in the spool folder that SLURM_STAND_IN names:

- `limit`: the time limit is near. The batch shell alone gets the signal of `--signal=B:...`; so many seconds later all
  processes of the job get SIGTERM, and then SIGKILL.
- `preempt`: a job of higher priority needs the machine. The job's step gets SIGTERM, and after the grace time all
  processes of the job are killed. With `--requeue` it is started again, unless it ended by itself before.
- `cancel`: the user's `scancel`. All processes get SIGTERM, then SIGKILL; the job is not started again.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

# Seconds between SIGTERM and SIGKILL, at the end of a job and when it is preempted.
_KILL_WAIT, _GRACE_TIME = 30.0, 120.0
_FIRST_JOB = 1000


def install(folder: Path) -> Path:
    """Write the three commands into a new folder, and return it."""
    folder.mkdir()
    for name in ("sbatch", "srun", "scontrol"):
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{__file__}" {name} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return folder


def sbatch(spool: Path, arguments: list[str]) -> int:
    """Run a job; print its number."""
    given = {}
    while arguments[0].startswith("--"):
        name, _, value = arguments.pop(0).partition("=")
        given[name] = value
    script, *rest = arguments
    lines = Path(script).read_text(encoding="utf-8").splitlines()
    directives = [line.split(maxsplit=1)[1] for line in lines if line.startswith("#SBATCH ")]
    options = {**{name: value for name, _, value in (line.partition("=") for line in directives)}, **given}
    tasks: list[int | None] = [None]
    if array := options.get("--array"):
        first, last = map(int, array.split("-"))
        tasks = list(range(first, last + 1))
    if needed := options.get("--dependency", "").removeprefix("afterok:"):
        assert (spool / f"job-{needed}" / "succeeded").exists()
    job = _FIRST_JOB + len(list(spool.glob("job-*")))
    (spool / f"job-{job}").mkdir()
    codes = [_task(spool, job, task, script, rest, options) for task in tasks]
    if not any(codes):
        (spool / f"job-{job}" / "succeeded").touch()
    print(job if "--parsable" in options else f"Submitted batch job {job}", flush=True)
    return 0


def _task(spool: Path, job: int, task: int | None, script: str, rest: list[str], options: dict[str, str]) -> int:
    """Run a task until it needs no further start; return its exit code."""
    output = (spool / f"job-{job}" / f"task-{task or 0}.txt").open("ab")
    cpus = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": str(job)}
    array = {} if task is None else {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_JOB_ID": str(job)}
    for restarts in range(1000):
        count = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
        (spool / "step").unlink(missing_ok=True)
        shell = subprocess.Popen(
            ["/bin/bash", script, *rest],
            env={**os.environ, **cpus, **array, **count},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        again = _watch(spool, shell, options) and "--requeue" in options
        with (spool / "history").open("a", encoding="ascii") as history:
            history.write(f"{job} {'-' if task is None else task} {restarts} {shell.returncode}\n")
        if not again:
            return int(shell.returncode)
    raise AssertionError("started a thousand times")


def _watch(spool: Path, shell: "subprocess.Popen[bytes]", options: dict[str, str]) -> bool:
    """Wait for the end of the batch shell, let happen what is asked for, and return whether it is to start again."""
    preempted = False
    signal.signal(signal.SIGTERM, lambda *_: (spool / "cancel").touch())  # a failed test ends
    while shell.poll() is None:
        for event in ("limit", "preempt", "cancel"):
            if (spool / event).exists() and (spool / "step").exists():
                (spool / event).unlink()
                preempted = _end(spool, shell, event, options)
        time.sleep(0.02)
    requeued = spool / "requeue"
    if requeued.exists():
        requeued.unlink()
        return True
    return preempted


def _end(spool: Path, shell: "subprocess.Popen[bytes]", event: str, options: dict[str, str]) -> bool:
    """End the job, and return whether it was preempted and lived to the end of the grace time."""
    step = int((spool / "step").read_text(encoding="ascii"))
    if event == "limit" and (wanted := re.fullmatch(r"B:(\w+)@(\d+)", options.get("--signal", ""))):
        os.kill(shell.pid, signal.Signals[f"SIG{wanted[1]}"])
        if _ended(shell, float(wanted[2])):
            return False
    if event == "preempt":
        _send(signal.SIGTERM, step)
        for _ in range(int(_GRACE_TIME / 0.1)):
            if _ended(shell, 0.1) or not Path(f"/proc/{step}").exists():
                break
        if _ended(shell, 0.5):
            return False
    else:
        _send(signal.SIGTERM, step, shell.pid)
        _ended(shell, _KILL_WAIT)
    for group in (step, shell.pid):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    shell.wait()
    return event == "preempt"


def _send(number: int, *processes: int) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _ended(shell: "subprocess.Popen[bytes]", seconds: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        shell.wait(seconds)
    return shell.returncode is not None


def srun(spool: Path, arguments: list[str]) -> int:
    """Run a command as a step of the job: pass on signals, and return its exit code as a shell would."""
    command = arguments[next(place for place, word in enumerate(arguments) if not word.startswith("--")) :]
    passed_on = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, passed_on)  # until there is a step that could get them
    step = subprocess.Popen(
        command, start_new_session=True, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    )
    for number in passed_on:
        signal.signal(number, lambda number, _: step.send_signal(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed_on)
    (spool / "step.new").write_text(str(step.pid), encoding="ascii")
    (spool / "step.new").rename(spool / "step")
    code = step.wait()
    return 128 - code if code < 0 else code


def scontrol(spool: Path, arguments: list[str]) -> int:
    """Note that the job is to be started again when it has ended."""
    assert arguments == ["requeue", os.environ["SLURM_JOB_ID"]]
    (spool / "requeue").touch()
    return 0


if __name__ == "__main__":
    program = {"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[sys.argv[1]]
    sys.exit(program(Path(os.environ["SLURM_STAND_IN"]), sys.argv[2:]))
