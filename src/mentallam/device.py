"""The device that computes everything: decided here and nowhere else."""

import os

import torch


def compute_device() -> torch.device:
    """Return the first GPU that CUDA sees, or the CPU.

    No other device works: a Mac's GPU (mps), for example, can't return logits in float64.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def visible_gpus() -> list[str]:
    """Return the GPUs that CUDA sees, each as CUDA_VISIBLE_DEVICES names it."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(index) for index in range(count)]


def on_gpu() -> bool:
    """Return whether `compute_device` is a GPU."""
    return compute_device().type == "cuda"
