"""The process of a rank: what happens in it before torch is imported.

`CUDA_VISIBLE_DEVICES` and `OMP_NUM_THREADS` are read once, so this module must not import torch.
"""

import os
import threading
import time
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from mentallam import interruption
from mentallam.console import capture_warnings


def enter(connection: "Connection[Any, Any]", variables: Mapping[str, str], parent: int) -> None:
    """Set the variables of the process, then run the function that comes through the connection, on the connection.

    Args:
        connection: To rank 0; the function's module imports torch, so it must not be an argument.
        variables: Environment variables.
        parent: The process of rank 0; without it this one ends, whatever it does.
    """
    os.environ.update(variables)
    capture_warnings()
    warnings.simplefilter("ignore")  # rank 0 has the same ones
    interruption.leave_to_parent()
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    run = connection.recv()
    run(connection)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
