"""DoRA at the price of LoRA: the weight norm factored, computed once per optimizer step, the gradient written out.

DoRA (arXiv 2402.09353) computes y = m / ||W + sBA|| * (W + sBA) x with the norm taken per output row and kept out of
the gradient. PEFT forms W + sBA and its norm in every forward. The norm changes only when A or B do, and at rank r
it has an exact form that never builds a matrix of W's size:

    ||W + sBA||^2 = ||W||^2 + 2s (W A^T . B) + s^2 (B (A A^T) . B)      row by row, ||W||^2 constant for ever

This module gives PEFT's own LoRA layers, with or without DoRA, another forward. Parameters, names, saving, loading and
merging stay PEFT's, so a checkpoint is an ordinary PEFT checkpoint.

Magnitude m, norm and their ratio, the direction, are float32 whatever the dtype of the weights, since training moves
most directions by less than bfloat16 can tell from 1. For the same reason the direction is applied before the sum of
base and adapter is rounded to the activations' dtype (docs/adr/0019).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as functional
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
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


class Parts(NamedTuple):
    """What an adapted layer is made of.

    Attributes:
        weight: W, (out, in), frozen.
        squared_norm: ||W||^2 per output row, (out,) float32; None for LoRA.
        a: A, (r, in).
        b: B, (out, r).
        magnitude: m, (out,); None for LoRA.
        scaling: s.
    """

    weight: Tensor
    squared_norm: Tensor | None
    a: Tensor
    b: Tensor
    magnitude: Tensor | None
    scaling: float


class Factors(NamedTuple):
    """What a layer multiplies with between two optimizer steps, in the activations' dtype but for the direction.

    Attributes:
        a: A, (r, in).
        b: s B, each row times its direction, (out, r).
        direction: m / ||W + sBA||, (out,) float32; None for LoRA.
        excess: direction - 1, (out,); None for LoRA.
    """

    a: Tensor
    b: Tensor
    direction: Tensor | None
    excess: Tensor | None


def _squared_norm(weight: Tensor) -> Tensor:
    """||W||^2 per output row, (out,) float32."""
    return weight.float().square().sum(1)


@torch.no_grad()
def weight_norms(layers: Sequence[Parts]) -> list[Tensor]:
    """||W + sBA|| per output row, (out,) float32, of each layer; all of them DoRA's."""
    norms = []
    for weight, squared_norm, a, b, _, scaling in layers:
        assert squared_norm is not None
        # In W's dtype: the term is a small part of the sum, and copying W to float32 would take most of the time.
        cross = ((weight @ a.to(weight.dtype).T).float() * b.float()).sum(1)
        a, b = a.float(), b.float()
        update = ((b @ (a @ a.T)) * b).sum(1)
        squared = squared_norm + 2 * scaling * cross + scaling**2 * update
        # Rounding could take a row of zeros below zero.
        norms.append(squared.clamp(min=torch.finfo(torch.float32).tiny).sqrt())
    return norms


class FastLoraLinear(LoraLinear):
    """PEFT's LoRA layer on a plain linear one, whose forward and gradient are a few products without copies.

    Made by `use_fast_adapters` out of a layer that exists; whatever is asked of a merged, disabled or multiple
    adapter is left to PEFT.

    Attributes:
        norm: ||W + sBA|| per output row, (out,) float32, as `refresh_norms` left it; None for LoRA.
    """

    norm: Tensor | None = None
    _norm_of: tuple[object, ...] = ()
    _squared_norm: Tensor | None = None
    _squared_norm_of = 0
    _factors: Factors | None = None
    _factors_of: tuple[object, ...] = ()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The adapted layer's output, (..., out), from its input (..., in)."""
        if self.disable_adapters or self.merged or len(self.active_adapters) != 1 or args or kwargs:
            return super().forward(x, *args, **kwargs)
        bias = cast("Tensor | None", self.get_base_layer().bias)
        if torch.compiler.is_compiling():
            out = self._in_plain_operations(x)
            return out if bias is None else out + bias
        weight, _, a, b, magnitude, scaling = self._parts()
        adapted: Tensor = _AdaptedLinear.apply(x, weight, bias, a, b, magnitude, self.factors(x.dtype), scaling)
        return adapted

    def _in_plain_operations(self, x: Tensor) -> Tensor:
        """For a compiler, which finds the gradient and what to fuse by itself; the norm is there already."""
        weight, _, a, b, magnitude, scaling = self._parts()
        out, hidden = functional.linear(x, weight), functional.linear(x, a.to(x.dtype))
        if magnitude is None:
            return out + functional.linear(hidden, (b * scaling).to(x.dtype))
        fixed = magnitude.detach()
        direction = fixed / cast(Tensor, self.norm)
        update = functional.linear(hidden, (b * (scaling * direction)[:, None]).to(x.dtype))
        out = (out * direction + update).to(x.dtype)  # in float32 until here
        # The output is linear in m. A factor of 1 with that derivative needs nothing kept but the output.
        return (out * (1 + (magnitude - fixed) / fixed.where(fixed != 0, 1))).to(x.dtype)

    def _parts(self) -> Parts:
        adapter = self.active_adapters[0]
        a, b = (cast(Tensor, part[adapter].weight) for part in (self.lora_A, self.lora_B))
        magnitude = cast(Tensor, self.lora_magnitude_vector[adapter].weight) if adapter in self.lora_variant else None
        weight = cast(Tensor, self.get_base_layer().weight)
        return Parts(weight, self._squared_norm, a, b, magnitude, self.scaling[adapter])

    @staticmethod
    def _state(parts: Parts) -> tuple[object, ...]:
        """Changes whenever an adapter's weights do."""
        weight, _, a, b, magnitude, scaling = parts
        trained = (a, b) if magnitude is None else (a, b, magnitude)
        versions = tuple(part._version for part in trained)
        places = tuple(part.data_ptr() for part in (weight, *trained))
        return _OptimizerSteps.count, versions, places, scaling

    @torch.no_grad()
    def _stale(self) -> Parts | None:
        """What to make the norm of, if there is one and the adapter has changed since it was made."""
        parts = self._parts()
        if parts.magnitude is None or self._norm_of == self._state(parts):
            return None
        if self._squared_norm is None or self._squared_norm_of != parts.weight.data_ptr():
            self._squared_norm = _squared_norm(parts.weight)
            self._squared_norm_of = parts.weight.data_ptr()
        return parts._replace(squared_norm=self._squared_norm)

    def forget_norm(self) -> None:
        """Have the norm made again before it is used next, whether the adapter has changed or not."""
        self._norm_of, self._factors_of = (), ()

    @torch.no_grad()
    def factors(self, dtype: torch.dtype) -> Factors:
        """The factors of W + sBA, made once per optimizer step.

        Args:
            dtype: The activations'.
        """
        parts = self._parts()
        state = (self._state(parts), dtype)
        if self._factors is None or state != self._factors_of:
            refresh_norms([self])
            _, _, a, b, magnitude, scaling = parts
            if magnitude is None:
                self._factors = Factors(a.to(dtype), (b * scaling).to(dtype), None, None)
            else:
                direction = magnitude / cast(Tensor, self.norm)
                adapted_b = (b * (scaling * direction)[:, None]).to(dtype)
                self._factors = Factors(a.to(dtype), adapted_b, direction, (direction - 1).to(dtype))
            self._factors_of = state
        return self._factors


def refresh_norms(
    layers: Sequence[FastLoraLinear], make: Callable[[Sequence[Parts]], list[Tensor]] = weight_norms
) -> None:
    """Makes the norms of layers whose adapters have changed since: once per optimizer step.

    Args:
        layers: Those that go through `make` together.
        make: `weight_norms`, or a compiled form of it.
    """
    stale = {layer: parts for layer in layers if (parts := layer._stale()) is not None}
    if stale:
        for layer, norm in zip(stale, make(list(stale.values())), strict=True):
            layer.norm, layer._norm_of = norm, layer._state(stale[layer])


class _AdaptedLinear(torch.autograd.Function):
    """direction * (Wx + s B A x) + bias for a frozen W, in place wherever the result is our own."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        weight_a: Tensor,
        weight_b: Tensor,
        magnitude: Tensor | None,
        factors: Factors,
        scaling: float,
    ) -> Tensor:
        rows = x.flatten(0, -2)
        hidden = rows @ factors.a.T
        out = rows @ weight.T
        if factors.excess is None:
            out.addmm_(hidden, factors.b.T)
        else:
            # All that the adapter adds, which is small, before the one sum that rounds to the output's precision.
            out.add_((out * factors.excess).addmm_(hidden, factors.b.T))
        # m's gradient needs the output, which mostly lives on anyway; without DoRA none of it is kept.
        ctx.save_for_backward(rows, weight, hidden, magnitude, None if magnitude is None else out)
        ctx.factors, ctx.scaling = factors, scaling
        ctx.dtypes = weight_a.dtype, weight_b.dtype
        if bias is not None:
            out = out + bias
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, hidden, magnitude, out = ctx.saved_tensors
        factors: Factors = ctx.factors
        dtype_a, dtype_b = ctx.dtypes
        flat = gradient.flatten(0, -2)
        to_hidden = flat @ factors.b
        to_a = (to_hidden.T @ rows).to(dtype_a)
        to_b = (hidden.T @ flat).T.to(dtype_b) * ctx.scaling  # in this order: the other one copies its large operand
        to_magnitude = None
        if factors.direction is not None and factors.excess is not None:
            # The output is linear in m, so its derivative by m is output / m; a row of zeros stays one.
            to_magnitude = (flat * out).sum(0, dtype=torch.float32) / magnitude.where(magnitude != 0, 1)
            to_b *= factors.direction[:, None]
            flat = torch.addcmul(flat, flat, factors.excess)
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (flat @ weight).addmm_(to_hidden, factors.a).view(*gradient.shape[:-1], -1)
        return to_x, None, None, to_a, to_b, to_magnitude, None, None


@torch.no_grad()
def start_magnitudes(model: PeftModel) -> None:
    """Set the magnitudes of fresh adapters to the float32 norms of their weights, so that they change nothing.

    PEFT takes the norm in the weights' dtype. In bfloat16 a row then starts up to 0.4 % off what our float32 norm
    divides by. Layers that keep PEFT's own forward also keep its norm and its magnitude.

    Args:
        model: The classifier with fresh adapters, after `use_fast_adapters`.
    """
    for module in model.modules():
        if isinstance(module, FastLoraLinear):
            parts = module._parts()
            if parts.magnitude is not None:
                (norm,) = weight_norms([parts._replace(squared_norm=_squared_norm(parts.weight))])
                parts.magnitude.copy_(norm)


def use_fast_adapters(model: PeftModel) -> int:
    """Gives every LoRA or DoRA layer our forward where it is exact; the others keep PEFT's own.

    It needs a plain linear base layer, not a quantised one, that is frozen, and no dropout, which a layer applies to
    the adapter's input alone.

    Returns:
        The number of layers changed.
    """
    changed, kept = 0, 0
    for module in model.modules():
        if not isinstance(module, LoraLinear):
            continue
        base = module.get_base_layer()
        frozen = not any(parameter.requires_grad for parameter in base.parameters())  # the bias, too
        plain = type(base) is nn.Linear and not module.fan_in_fan_out and frozen
        known = all(
            # PEFT keeps the class itself or an object.
            issubclass(variant if isinstance(variant, type) else type(variant), DoraLinearVariant)
            for variant in module.lora_variant.values()
        )
        if plain and known and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values()):
            # The layer stays the object that PEFT knows; only what it computes with is exchanged.
            module.__class__ = FastLoraLinear
            changed += 1
        else:
            kept += 1
    if kept:
        logger.info(
            "%d adapted layers keep PEFT's own forward: dropout above 0 or a base layer that is not plain", kept
        )
    return changed
