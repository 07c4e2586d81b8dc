"""The one decision on which device everything is computed."""

import torch


def compute_device() -> torch.device:
    """Return the first GPU that CUDA sees, or the CPU.

    No other device is taken: on a Mac's (mps), for example, logits can't be read in float64.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_gpu() -> bool:
    """Return whether that device is a GPU."""
    return compute_device().type == "cuda"
