"""Which of Kedro's runners may train.

Head, adapters and the order of posts are drawn from random states that belong to the process (Python's, NumPy's and
torch's; transformers' Trainer knows no others). Two folds in one process would draw from them in turns.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mentallam.errors import MentallamError

_WAY_OUT = "run them one after the other (SequentialRunner, the default), or in processes (--runner ParallelRunner)"

_TRAINING = threading.Lock()


def refuse_threads(run_params: Mapping[str, Any], outputs: set[str]) -> None:
    """Refuse to train folds in threads, before any work.

    Args:
        run_params: As Kedro's hooks get them; `runner` is None, the name of a class, or what an instance prints.
        outputs: Names of the datasets that the run makes.

    Raises:
        MentallamError: The runner is the ThreadRunner, and the run trains.
    """
    trains = any(name.startswith("fold_") and name.endswith("_checkpoint") for name in outputs)
    if trains and "ThreadRunner" in str(run_params["runner"]):
        raise MentallamError(
            f"ThreadRunner would train folds side by side on one random state, so that no result could be repeated: "
            f"{_WAY_OUT}"
        )


@contextmanager
def training_alone() -> Iterator[None]:
    """Hold the process's random states for one training.

    Raises:
        MentallamError: Another thread of this process is training.
    """
    if not _TRAINING.acquire(blocking=False):
        raise MentallamError(f"another fold is trained in this process at the same time: {_WAY_OUT}")
    try:
        yield
    finally:
        _TRAINING.release()
