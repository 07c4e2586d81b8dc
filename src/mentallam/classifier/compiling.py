"""Compiled layers for training: a few fused kernels instead of thousands of small steps.

On a GPU, flex attention fuses the packed row's attention as well. On a CPU it has no gradient, so the compiled kernels
stop before attention and resume after it. All layers are alike and share one compilation for rows of any length.
Weights and names stay the same, and results are equal to within rounding.

Only training runs compiled. The uncompiled layers fit a fold's decision and score every post: rounding differs, so a
threshold would otherwise be chosen on other logits than those it is applied to.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from mentallam import interruption
from mentallam.classifier.dora import FastLoraLinear, refresh_norms, weight_norms
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


def compile_layers(model: PeftModel) -> bool:
    """Set the decoder layers to be compiled at their first use, which takes a minute or two.

    A quantised base and adapters with dropout stay uncompiled. So does any model on a machine whose compiler does not
    work; a warning says so. `uncompile_layers` reverts it.

    Args:
        model: The classifier on its device, with its adapters.

    Returns:
        Whether the layers will be compiled.
    """
    adapters = [module for module in model.modules() if isinstance(module, LoraLayer)]
    fast = all(isinstance(module, FastLoraLinear) for module in adapters)
    if not fast or not _compiler_works(next(model.parameters()).device):
        return False
    inner: Any = model.base_model.model
    layers = [
        [module for module in layer.modules() if isinstance(module, FastLoraLinear)] for layer in inner.model.layers
    ]
    compiled_norms = torch.compile(weight_norms, dynamic=False)

    def refresh(*_: Any) -> None:
        for layer in layers:
            refresh_norms(layer, compiled_norms)

    # The norms stay outside the compiled layers: they change once per optimizer step, and checkpointing must not
    # recompute them.
    inner.norms_refreshed = inner.register_forward_pre_hook(refresh)
    for layer in inner.model.layers:
        # `layer.compile()` would do the same, but nothing reverts it.
        layer.forward = torch.compile(layer.forward, dynamic=True)
    inner.compiled = True
    return True


def uncompile_layers(model: PeftModel) -> None:
    """Restore the decoder layers' plain forward, which a loaded checkpoint has as well.

    This also lets the model be freed at once. A layer that holds a compiled form of its method refers to itself, so it
    would stay in memory, with all its weights, until Python's garbage collector runs.

    Args:
        model: The classifier; if its layers are not compiled, nothing happens.
    """
    inner: Any = model.base_model.model
    if not inner.compiled:
        return
    inner.norms_refreshed.remove()
    del inner.norms_refreshed
    for layer in inner.model.layers:
        del layer.forward
    for module in model.modules():
        if isinstance(module, FastLoraLinear):
            module.forget_norm()  # A compiled function computed it, with other rounding.
    inner.compiled = False


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Turn an error of the compiler, which appears at the layers' first use, into one sentence.

    Raises:
        MentallamError: The layers can't be compiled; the message says how to train without the compiler.
        RunStoppedError: A signal has stopped the compiler.
    """
    try:
        yield
    except TorchDynamoException as error:
        interruption.stop_if_requested()  # a signal that arrives in the compiler comes out as its error
        raise MentallamError(
            f"the layers can't be compiled here ({_first_line(error)}): set model.compile_on_gpu=false and "
            f"model.compile_on_cpu=false"
        ) from error


def _compiler_works(device: torch.device) -> bool:
    """Try the compiler on a tiny function: it needs a C++ compiler (for a GPU, a C compiler and Python's headers)."""

    def twice(x: Tensor) -> Tensor:
        return x + x

    try:
        torch.compile(twice)(torch.ones(1, device=device))
    except Exception as error:  # Training works without the compiler, so any failure is only worth a warning.
        logger.warning(
            "model.compile_on_%s: PyTorch's compiler does not work here (%s); training goes on without it, more slowly",
            "gpu" if device.type == "cuda" else "cpu",
            _first_line(error),
        )
        return False
    return True


def _first_line(error: Exception) -> str:
    """Return the line that says what is wrong; older versions of torch name the backend in a line before it."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return (lines or [type(error).__name__])[0][:200]
