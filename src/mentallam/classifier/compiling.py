"""Training's layers through PyTorch's compiler: a few fused kernels instead of thousands of small steps.

On a GPU the packed row's attention is fused as well, by flex attention; on a CPU, where that has no gradient, the
kernels end before it and begin again behind it. All layers are alike and share one compilation, and a row may have any
length. Weights, names and results to within rounding stay as they are.

Only training runs compiled. A fold's decision is fitted, and every post is scored, by the layers as they were before:
rounding differs, so a threshold would otherwise be chosen on other logits than those it is applied to.
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

from mentallam.classifier.dora import FastLoraLinear, refresh_norms, weight_norms
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


def compile_layers(model: PeftModel) -> bool:
    """Have the decoder layers compiled when they are first used, which takes a minute or two.

    A quantised base, or adapters with dropout, stay as they are; so does a model on a machine whose compiler does
    not work, with a warning. `uncompile_layers` takes it back.

    Args:
        model: The classifier on its device, its adapters in place.

    Returns:
        Whether they will be.
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

    # Outside of what is compiled: it happens once per optimizer step, and not again where activations are recomputed.
    inner.norms_refreshed = inner.register_forward_pre_hook(refresh)
    for layer in inner.model.layers:
        # Not `layer.compile()`, which has no counterpart that takes it back.
        layer.forward = torch.compile(layer.forward, dynamic=True)
    inner.compiled = True
    return True


def uncompile_layers(model: PeftModel) -> None:
    """Give the decoder layers back their own forward, which is the one that a loaded checkpoint has.

    It also makes the model free to go: a layer that holds a compiled form of its own method refers to itself, and would
    stay in memory, with all its weights, until Python's garbage collector runs.

    Args:
        model: The classifier; nothing happens where its layers are not compiled.
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
            module.forget_norm()  # a compiled function made it
    inner.compiled = False


@contextmanager
def compiler_errors() -> Iterator[None]:
    """Makes one sentence of the pages in which the compiler says, at the layers' first use, what it can't do.

    Raises:
        MentallamError: With the way out.
    """
    try:
        yield
    except TorchDynamoException as error:
        raise MentallamError(
            f"the layers can't be compiled here ({_first_line(error)}): set model.compile_on_gpu=false and "
            f"model.compile_on_cpu=false"
        ) from error


def _compiler_works(device: torch.device) -> bool:
    """Tries it on next to nothing: it needs a C++ compiler (a C compiler and Python's headers for a GPU)."""

    def twice(x: Tensor) -> Tensor:
        return x + x

    try:
        torch.compile(twice)(torch.ones(1, device=device))
    except Exception as error:  # whatever goes wrong in there, training can do without
        logger.warning(
            "model.compile_on_%s: PyTorch's compiler does not work here (%s); training goes on without it, slower",
            "gpu" if device.type == "cuda" else "cpu",
            _first_line(error),
        )
        return False
    return True


def _first_line(error: Exception) -> str:
    """What is wrong; older versions of torch say first which backend found it."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.endswith("raised:")]
    return (lines or [type(error).__name__])[0][:200]
