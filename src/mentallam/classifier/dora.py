"""DoRA at the price of LoRA: the weight norm factored, and computed once per optimizer step.

DoRA (arXiv 2402.09353) computes y = m / ||W + sBA|| * (W + sBA) x with the norm taken per output row and kept out of
the gradient. PEFT forms W + sBA and its norm in every forward. The norm changes only when A or B do, and at rank r
it has an exact form that never builds a matrix of W's size:

    ||W + sBA||^2 = ||W||^2 + 2s (W A^T . B) + s^2 (B (A A^T) . B)      row by row, ||W||^2 constant for ever

This module replaces the *variant* object on PEFT's own LoRA layers. Parameters, names, saving, loading and merging stay
PEFT's, so a checkpoint is an ordinary PEFT checkpoint.
"""

import logging
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

logger = logging.getLogger(__name__)


class _OptimizerSteps:
    """Counts the steps of all optimizers in this process.

    An in-place change raises a tensor's version, but not if a fused optimizer makes it.
    """

    count = 0

    @classmethod
    def add(cls, *_: Any) -> None:
        cls.count += 1


register_optimizer_step_post_hook(_OptimizerSteps.add)


class Factors(NamedTuple):
    """What a layer multiplies with between two optimizer steps; all in the activations' dtype but the norm.

    Attributes:
        a: A, (r, in).
        scaled_b: s B, (out, r).
        direction: m / ||W + sBA||, (out,).
        norm: ||W + sBA|| per output row, (out,) float32.
    """

    a: Tensor
    scaled_b: Tensor
    direction: Tensor
    norm: Tensor


class CachedNormDora(DoraLinearVariant):
    """PEFT's DoRA variant with a factored weight norm that is kept until A, B or m change; one object per layer."""

    def __init__(self) -> None:
        self._squared_base_norm: Tensor | None = None
        self._squared_base_norm_of = 0
        self._factors: Factors | None = None
        self._factors_of: tuple[object, ...] = ()

    def forward(  # type: ignore[override]
        self, module: LoraLinear, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """The layer's output, (..., out), from its input (..., in) and the frozen layer's output (..., out)."""
        weight_a, weight_b, magnitude = (
            cast(Tensor, part[active_adapter].weight)
            for part in (module.lora_A, module.lora_B, module.lora_magnitude_vector)
        )
        scaling = module.scaling[active_adapter]
        base_weight = cast(Tensor, module.get_base_layer().weight)
        factors = self.factors(base_weight, weight_a, weight_b, magnitude, scaling, x.dtype)
        output: Tensor = _AdaptedRows.apply(x, result, weight_a, weight_b, magnitude, factors, scaling)
        return output

    @torch.no_grad()
    def factors(
        self,
        weight: Tensor,
        weight_a: Tensor,
        weight_b: Tensor,
        magnitude: Tensor,
        scaling: float,
        dtype: torch.dtype,
    ) -> Factors:
        """The factors of W + sBA, made once per optimizer step.

        Args:
            weight: W, (out, in), frozen.
            weight_a: A, (r, in).
            weight_b: B, (out, r).
            magnitude: m, (out,).
            scaling: s.
            dtype: The activations' dtype.
        """
        trained = (weight_a, weight_b, magnitude)
        changes = (_OptimizerSteps.count, *(part._version for part in trained))
        places = (weight.data_ptr(), *(part.data_ptr() for part in trained))
        state = (changes, places, scaling, dtype)
        if self._factors is None or state != self._factors_of:
            norm = self._norm(weight, weight_a.float(), weight_b.float(), scaling)
            self._factors = Factors(
                weight_a.to(dtype), (weight_b * scaling).to(dtype), (magnitude / norm).to(dtype), norm
            )
            self._factors_of = state
        return self._factors

    def _norm(self, weight: Tensor, a: Tensor, b: Tensor, scaling: float) -> Tensor:
        if self._squared_base_norm is None or self._squared_base_norm_of != weight.data_ptr():
            self._squared_base_norm = weight.float().square().sum(1)
            self._squared_base_norm_of = weight.data_ptr()
        # In W's dtype: the term is a small part of the sum, and copying W to float32 would take most of the time.
        cross = ((weight @ a.to(weight.dtype).T).float() * b).sum(1)
        update = ((b @ (a @ a.T)) * b).sum(1)
        squared = self._squared_base_norm + 2 * scaling * cross + scaling**2 * update
        # Rounding could take a row of zeros below zero.
        return squared.clamp(min=torch.finfo(torch.float32).tiny).sqrt()


class _AdaptedRows(torch.autograd.Function):
    """direction * (Wx + s B A x), its gradients in five matrix products and no copies in float32."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        base: Tensor,
        weight_a: Tensor,
        weight_b: Tensor,
        magnitude: Tensor,
        factors: Factors,
        scaling: float,
    ) -> Tensor:
        rows, result = x.flatten(0, -2), base.flatten(0, -2)
        hidden = rows @ factors.a.T
        adapted = torch.addmm(result, hidden, factors.scaled_b.T)
        ctx.save_for_backward(rows, hidden, adapted)
        ctx.factors, ctx.scaling = factors, scaling
        ctx.dtypes = weight_a.dtype, weight_b.dtype, magnitude.dtype
        return (adapted * factors.direction).view(base.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, hidden, adapted = ctx.saved_tensors
        a, scaled_b, direction, norm = ctx.factors
        dtype_a, dtype_b, dtype_m = ctx.dtypes
        flat = gradient.flatten(0, -2)
        to_magnitude = (flat * adapted).sum(0) / norm
        to_base = flat * direction
        to_hidden = to_base @ scaled_b
        to_x = to_hidden @ a
        to_a = to_hidden.T @ rows
        to_b = (to_base.T @ hidden) * ctx.scaling
        return (
            to_x.view(*gradient.shape[:-1], -1),
            to_base.view(gradient.shape),
            to_a.to(dtype_a),
            to_b.to(dtype_b),
            to_magnitude.to(dtype_m),
            None,
            None,
        )


def use_cached_norm(model: PeftModel) -> int:
    """Puts `CachedNormDora` on every DoRA layer where it is exact; the others keep PEFT's own.

    It needs a plain linear base layer (not a quantised one) and no dropout (which needs its own base result).

    Returns:
        The number of layers changed.
    """
    changed, kept = 0, 0
    for module in model.modules():
        if not isinstance(module, LoraLinear):
            continue
        for adapter, variant in list(module.lora_variant.items()):
            # PEFT keeps the class itself, an object or none at all.
            if not issubclass(variant if isinstance(variant, type) else type(variant), DoraLinearVariant):
                continue
            plain = type(module.get_base_layer()) is nn.Linear and not module.fan_in_fan_out
            if plain and isinstance(module.lora_dropout[adapter], nn.Identity):
                module.lora_variant[adapter] = CachedNormDora()
                # The adapter multiplies in the activations' dtype; PEFT would copy them to float32 first.
                module.cast_input_dtype_enabled = False
                changed += 1
            else:
                kept += 1
    if kept:
        logger.info("%d DoRA layers keep PEFT's own norm: dropout above 0 or a base layer that is not plain", kept)
    return changed
