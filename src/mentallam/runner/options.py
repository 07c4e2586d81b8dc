"""Where folds are trained: the options of `conf/base/cluster.yml`."""

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Backend = Literal["auto", "sequential", "process", "ray", "slurm"]


class ClusterOptions(BaseModel):
    """Where the folds of a cross-validation are trained, and with what.

    Attributes:
        backend: One after the other in this process (sequential), or each in a process of its own: of this machine
            (process), of a Ray cluster (ray), or of a job (slurm). auto is process where there are several GPUs, and
            sequential elsewhere.
        workers: How many folds the backend `process` trains at a time; null is one per GPU or, without, one per core,
            each of as many as `training.ranks` says.
        threads: Threads of each fold; null shares this machine's cores between the workers.
        gpus_per_fold: GPUs that Ray or SLURM reserves for a fold, one per rank; with Ray it may be a part of one.
        memory_gb: Memory that Ray or SLURM reserves for a fold; null leaves it to them.
        retries: How often a fold is placed again after its process, or the machine below it, is gone.
        address: Of a Ray cluster that runs; null starts one on this machine.
        storage: Where machines that share no folder put what a fold reads and makes, as fsspec names it, such as
            s3://bucket/folder; null is the data folder, which all share.
        slurm: Options of a job by their names in submitit, such as slurm_partition or timeout_min.
        variables: Environment variables of each fold's process.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    backend: Backend = "auto"
    workers: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    gpus_per_fold: float = Field(default=0, ge=0)
    memory_gb: float | None = Field(default=None, gt=0)
    retries: int = Field(default=3, ge=0)
    address: str | None = None
    storage: str | None = None
    slurm: dict[str, Any] = {}
    variables: dict[str, str] = {}


PARAMETERS = {"cluster": ClusterOptions}
"""The parameters that the runner reads, and no node, with their types."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
