"""The engines that units of work run on, behind one interface: processes of this machine, Ray, and SLURM."""

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, Protocol

from mentallam.cluster_options import ClusterOptions, cores, missing, start_ray
from mentallam.errors import MentallamError
from mentallam.runner.slurm_jobs import JobQueue, jobs_folder
from mentallam.runner.unit import Outcome, Unit, run_unit

_FILE_S = 15.0  # how long a shared file system may take to show a file that another machine has written


class LostWorkerError(Exception):
    """The process of a unit, or the machine below it, is gone."""


class Job(Protocol):
    """A unit that an engine has taken."""

    def done(self) -> bool:
        """Return whether it has ended, in whatever way."""

    def outcome(self) -> Outcome:
        """Return how it ended.

        Raises:
            LostWorkerError: Nobody knows.
        """


class Engine(Protocol):
    """A place for units: it takes `slots` at a time."""

    slots: int

    def described(self, n_units: int) -> str:
        """Return in words where the folds are trained."""

    def submit(self, unit: Unit) -> Job:
        """Start a unit, or put it into the engine's queue."""

    def stop(self, jobs: Sequence[Any], number: int) -> None:
        """Ask jobs to stop, as a signal does, and to save their state first."""

    def close(self) -> None:
        """Give back what the engine holds; no unit runs any more."""


def open_engine(options: ClusterOptions, n_units: int, gpus: Sequence[str], data: Path, ranks: int = 1) -> Engine:
    """Return the engine that the options name.

    Args:
        options: The options.
        n_units: How many units there are.
        gpus: This machine's GPUs, as CUDA_VISIBLE_DEVICES names them.
        data: The data folder.
        ranks: The processes of a unit, each with a GPU of its own where there are any.

    Raises:
        MentallamError: The package of the engine is missing, its cluster does not answer, or a unit has fewer GPUs than
            ranks.
    """
    if options.backend in ("ray", "slurm") and 0 < options.gpus_per_fold != ranks > 1:
        raise MentallamError(
            f"training.ranks={ranks} needs a GPU for each rank: set cluster.gpus_per_fold={ranks} in place of "
            f"{options.gpus_per_fold:g}"
        )
    if options.backend == "ray":
        return _Ray(options, n_units, ranks)
    if options.backend == "slurm":
        return _Slurm(options, n_units, data, ranks)
    if gpus and len(gpus) < ranks:
        raise MentallamError(f"training.ranks={ranks} needs {ranks} GPUs, and this machine has {len(gpus)}: lower it")
    return _Processes(options, n_units, gpus, ranks)


# Processes of this machine


@dataclass
class _Worker:
    """A place for one process: its variables, and the process once there is one."""

    variables: Mapping[str, str]
    pool: ProcessPoolExecutor | None = None

    def submit(self, unit: Unit) -> "Future[Outcome]":
        if self.pool is not None:
            with suppress(BrokenProcessPool):  # it was killed while it waited
                return self.pool.submit(_run_for, os.getpid(), unit)
        # Spawned, since CUDA and threads do not survive a fork; a pool of one, so that a killed worker takes no other
        # with it.
        self.pool = ProcessPoolExecutor(1, get_context("spawn"), _enter_worker, (self.variables, os.getpid()))
        return self.pool.submit(_run_for, os.getpid(), unit)


class _Processes:
    """A process per worker, kept from one unit to the next, since imports take seconds."""

    def __init__(self, options: ClusterOptions, n_units: int, gpus: Sequence[str], ranks: int) -> None:
        shares = [",".join(gpus[first : first + ranks]) for first in range(0, len(gpus) - ranks + 1, ranks)]
        self.slots = min(options.workers or len(shares) or max(1, cores() // ranks), n_units)
        self._threads = options.threads or max(1, cores() // self.slots)
        shared = {"OMP_NUM_THREADS": str(self._threads)}
        self._gpus = ", ".join(gpus)
        own = [{"CUDA_VISIBLE_DEVICES": shares[slot % len(shares)]} if shares else {} for slot in range(self.slots)]
        self._workers = [_Worker(shared | variables) for variables in own]
        self._free = list(self._workers)

    def described(self, n_units: int) -> str:
        where = f"GPUs: {self._gpus}" if self._gpus else f"threads each: {self._threads}"
        return f"{n_units} folds in {self.slots} processes ({where})"

    def submit(self, unit: Unit) -> Job:
        worker = self._free.pop()
        return _ProcessJob(worker.submit(unit), lambda: self._free.append(worker))

    def stop(self, jobs: Sequence[Any], number: int) -> None:
        for process in active_children():  # one that waits for a unit ignores Ctrl-C, and ends otherwise
            with suppress(OSError, TypeError):  # it has just ended
                os.kill(process.pid, number)  # type: ignore[arg-type]

    def close(self) -> None:
        for worker in self._workers:
            if worker.pool is not None:
                worker.pool.shutdown()


class _ProcessJob:
    def __init__(self, future: "Future[Outcome]", leave: Callable[[], None]) -> None:
        self._future, self._leave = future, leave

    def done(self) -> bool:
        return self._future.done()

    def outcome(self) -> Outcome:
        self._leave()
        try:
            return self._future.result()
        except BrokenProcessPool:
            raise LostWorkerError from None


def _enter_worker(variables: Mapping[str, str], parent: int) -> None:
    """Prepare a worker's process: its variables, and an end when the run that it belongs to is gone."""
    os.environ.update(variables)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # between units Ctrl-C is for the run; a unit has its own handler
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _run_for(parent: int, unit: Unit) -> Outcome:
    """Train a fold, and end the process if nobody is left to take the outcome: it would wait for units for ever."""
    ended = run_unit(unit)
    if os.getppid() != parent:
        os._exit(1)
    return ended


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)  # a fold saves its state first


# Ray


class _Ray:
    """Tasks of a Ray cluster, which queues them, and starts workers on the machines that have what they need."""

    def __init__(self, options: ClusterOptions, n_units: int, ranks: int) -> None:
        ray, self._own = start_ray(options)
        self._ray, self.slots = ray, min(options.workers or n_units, n_units)
        self._threads = options.threads or ranks
        self._task = ray.remote(
            num_cpus=self._threads,
            num_gpus=options.gpus_per_fold,
            memory=options.memory_gb and int(options.memory_gb * 2**30),
            max_retries=0,  # the runner places a unit again, and counts
        )(run_unit)

    def described(self, n_units: int) -> str:
        return f"{n_units} folds as tasks of Ray, at most {self.slots} at a time"

    def submit(self, unit: Unit) -> Job:
        variables = {"OMP_NUM_THREADS": str(self._threads), **unit.variables}
        return _RayJob(self._ray, self._task.options(runtime_env={"env_vars": variables}).remote(unit))

    def stop(self, jobs: Sequence[Any], number: int) -> None:
        for job in jobs:
            job.stop(number)

    def close(self) -> None:
        if self._own:
            self._ray.shutdown()


class _RayJob:
    def __init__(self, ray: Any, reference: Any) -> None:
        self._ray, self._reference, self._stopped = ray, reference, int(signal.SIGINT)

    def done(self) -> bool:
        return bool(self._ray.wait([self._reference], timeout=0)[0])

    def outcome(self) -> Outcome:
        try:
            ended: Outcome = self._ray.get(self._reference)
        except self._ray.exceptions.TaskCancelledError:
            return Outcome("", 0.0, signal=self._stopped)
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.RayError:
            raise LostWorkerError from None
        return ended

    def stop(self, number: int) -> None:
        self._stopped = number
        self._ray.cancel(self._reference)  # a worker gets it as SIGINT


# SLURM


class _Slurm:
    """Jobs of a SLURM cluster, each with a fold."""

    def __init__(self, options: ClusterOptions, n_units: int, data: Path, ranks: int) -> None:
        try:
            import submitit
        except ImportError:
            raise missing("submitit", "slurm") from None
        os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"  # that a fold's process saves its state on
        self.slots = min(options.workers or n_units, n_units)
        given = dict(options.slurm)
        cluster = given.pop("cluster", "slurm")
        queue = JobQueue(data)
        self._queue = queue if cluster == "slurm" else None
        if self._queue:
            # Only the run that waits places a fold again: a job that SLURM starts again would train it a second time.
            given["slurm_additional_parameters"] = {"no-requeue": True, **given.get("slurm_additional_parameters", {})}
        try:
            self._executor = submitit.AutoExecutor(jobs_folder(data), cluster=cluster)
            self._executor.update_parameters(
                name=queue.name,
                cpus_per_task=options.threads or ranks,
                **({"gpus_per_node": int(options.gpus_per_fold)} if options.gpus_per_fold else {}),
                **({"mem_gb": options.memory_gb} if options.memory_gb else {}),
                **given,
            )
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MentallamError(f"SLURM can't be used ({reason}): check cluster.slurm in cluster.yml") from None
        self._threads = options.threads or ranks

    def described(self, n_units: int) -> str:
        return f"{n_units} folds as SLURM jobs, at most {self.slots} at a time"

    def submit(self, unit: Unit) -> Job:
        variables = {"OMP_NUM_THREADS": str(self._threads), **unit.variables}
        job = self._executor.submit(run_unit, replace(unit, variables=variables))
        if self._queue:
            self._queue.add(job.job_id)
        return _SlurmJob(job, self._queue)

    def stop(self, jobs: Sequence[Any], number: int) -> None:
        for job in jobs:
            job.stop()

    def close(self) -> None:
        """Do nothing: a job ends by itself."""


class _SlurmJob:
    def __init__(self, job: Any, queue: JobQueue | None) -> None:
        self._job, self._queue = job, queue

    def done(self) -> bool:
        if self._queue is None:
            return bool(self._job.done())
        return self._has_result() or not self._queue.holds(self._job.job_id)

    def outcome(self) -> Outcome:
        """Return what the job has written, which another machine's file system may show only after a while."""
        until = time.monotonic() + _FILE_S
        while not self._has_result():
            if self._queue is None or time.monotonic() > until:
                raise LostWorkerError
            time.sleep(1)
        try:
            ended: Outcome = self._job.result()
        except RuntimeError:  # of submitit: the unit could not be read or its outcome not be written
            raise LostWorkerError from None
        return ended

    def _has_result(self) -> bool:
        return bool(self._job.paths.result_pickle.exists())

    def stop(self) -> None:
        self._job.cancel(check=False)
