"""Where folds are trained and posts are answered: the options of `conf/base/cluster.yml`, and a Ray cluster by them."""

import logging
import os
import signal
from contextlib import suppress
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

_STARTS = 3

Backend = Literal["auto", "sequential", "process", "ray", "slurm"]


class ClusterOptions(BaseModel):
    """Where the folds of a cross-validation are trained, and the posts of a batch answered, and with what.

    Attributes:
        backend: One after the other in this process (sequential), or each in a process of its own: of this machine
            (process), of a Ray cluster (ray), or of a job (slurm). auto is process where there are several GPUs, and
            sequential elsewhere.
        workers: How many folds the backend `process` trains at a time; null is one per GPU or, without, one per core,
            each of as many as `training.ranks` says. In inference on Ray, how many actors answer at most; null is as
            many as its cores hold.
        threads: Threads of each fold; null shares this machine's cores between the workers. Of an actor, 1 by default.
        gpus_per_fold: GPUs that Ray or SLURM reserves for a fold, one per rank, or for an actor; with Ray it may be a
            part of one.
        memory_gb: Memory that Ray or SLURM reserves for a fold or an actor; null leaves it to them.
        retries: How often a fold or a partition is placed again after its process, or the machine below it, is gone.
        partition_rows: In inference on Ray, from how many rows of a Parquet file on a partition ends.
        address: Of a Ray cluster that runs; null starts one on this machine.
        storage: Where machines that share no folder put what a fold reads and makes, as fsspec names it, such as
            s3://bucket/folder; null is the data folder, which all share.
        slurm: Options of a job by their names in submitit, such as slurm_partition or timeout_min.
        variables: Environment variables of each fold's or actor's process.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    backend: Backend = "auto"
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    gpus_per_fold: float = Field(default=0, ge=0)
    memory_gb: float | None = Field(default=None, gt=0)
    retries: int = Field(default=3, ge=0)
    partition_rows: int = Field(default=16384, ge=1)
    address: str | None = None
    storage: str | None = None
    slurm: dict[str, Any] = {}
    variables: dict[str, str] = {}


PARAMETERS = {"cluster": ClusterOptions}
"""The parameters that the runner reads, and no node, with their types."""


def missing(package: str, backend: str) -> MentallamError:
    """Return the error that the package of a backend is not installed."""
    return MentallamError(f"cluster.backend={backend} needs {package}: pip install -e '.[{backend}]'")


def start_ray(options: ClusterOptions) -> tuple[Any, bool]:
    """Connect to the Ray cluster that the options name, or start one on this machine.

    Returns:
        The package, and whether the caller ends the connection by its `shutdown`.

    Raises:
        MentallamError: Ray is not installed, or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise missing("Ray", "ray") from None
    if ray.is_initialized():
        return ray, False
    handler = signal.getsignal(signal.SIGTERM)
    # Ray's processes wait half a minute for each other, whatever one sets, which a busy machine may exceed.
    for left in reversed(range(1 if options.address else _STARTS)):
        try:
            ray.init(options.address, include_dashboard=None if options.address else False, log_to_driver=True)
            break
        except Exception as error:  # Ray raises Exception itself where a process of its own did not start
            reason = str(error).strip().partition("\n")[0]
            ray.shutdown()
            if not left:
                what = f"no Ray cluster answers at cluster.address={options.address}"
                raise MentallamError(f"{what if options.address else 'Ray does not start here'} ({reason})") from None
            logger.warning("Ray has not started (%s); trying again", reason)
    with suppress(ValueError):  # another thread than the main one, where Ray has set none either
        signal.signal(signal.SIGTERM, handler)  # Ray's own would end the process without a word
    return ray, True


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
