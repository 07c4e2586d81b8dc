"""PyTorch's deterministic algorithms, for as long as a configuration wants them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Run the body with PyTorch's deterministic algorithms, and restore the setting after it.

    transformers' `enable_full_determinism` is not used: it also makes each GPU kernel wait for the last one, which
    changes no result, and it can't be undone.

    Args:
        wanted: False leaves everything as it is.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it torch refuses products on a GPU
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=only_warned)
