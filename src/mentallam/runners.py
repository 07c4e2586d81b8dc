"""The rule that one process trains one fold at a time.

Head, adapters and the order of posts come from the random states of the process (Python's, NumPy's and torch's;
transformers' Trainer uses no others). Two folds in one process would take turns in drawing from them.
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
        run_params: Kedro's parameters of a run; `runner` is None, the name of a class, or the text of an instance.
        outputs: Names of the datasets that the run makes.

    Raises:
        MentallamError: The run trains with the ThreadRunner.
    """
    trains = any(name.startswith("fold_") and name.endswith("_checkpoint") for name in outputs)
    if trains and "ThreadRunner" in str(run_params["runner"]):
        raise MentallamError(
            f"ThreadRunner would train folds side by side on one random state, and no result could be reproduced: "
            f"{_WAY_OUT}"
        )


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
