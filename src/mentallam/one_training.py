"""The rule that one process trains one fold at a time.

Head, adapters and the order of posts come from the random states of the process (Python's, NumPy's and torch's;
transformers' Trainer uses no others). Two folds in one process would take turns in drawing from them.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mentallam.errors import MentallamError

_WAY_OUT = "leave --runner out to run them one after the other, or in processes with --params cluster.backend=process"

_TRAINING = threading.Lock()


def trains_fold(outputs: Iterable[str]) -> bool:
    """Return whether these are outputs of the training of a fold."""
    return any(name.startswith("fold_") and name.endswith("_checkpoint") for name in outputs)


def refuse_runner(run_params: Mapping[str, Any], outputs: set[str]) -> None:
    """Refuse to train folds with Kedro's own parallel runners, before any work.

    Threads would share the random state. Processes of the ParallelRunner are right where they are forked, which CUDA
    does not survive; spawned, they run without this project's hooks around a run, and without its signals.

    Args:
        run_params: Kedro's parameters of a run; `runner` is None, the name of a class, or the text of an instance.
        outputs: Names of the datasets that the run makes.

    Raises:
        MentallamError: The run trains with one of them.
    """
    runner = str(run_params["runner"])
    if not trains_fold(outputs):
        return
    if "ThreadRunner" in runner:
        raise MentallamError(
            f"ThreadRunner would train folds side by side on one random state, and no result could be reproduced: "
            f"{_WAY_OUT}"
        )
    if "ParallelRunner" in runner:
        raise MentallamError(f"ParallelRunner would train folds without their records in MLflow: {_WAY_OUT}")


@contextmanager
def training_alone() -> Iterator[None]:
    """Reserve the random states of the process for the training of one fold.

    Raises:
        MentallamError: Another thread of this process is training.
    """
    if not _TRAINING.acquire(blocking=False):
        raise MentallamError(f"another fold is trained in this process at the same time: {_WAY_OUT}")
    try:
        yield
    finally:
        _TRAINING.release()
