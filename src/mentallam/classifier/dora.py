"""DoRA at the price of LoRA: a factored weight norm, computed once per optimizer step, and an explicit gradient.

DoRA (arXiv 2402.09353) computes y = m / ||W + sBA|| * (W + sBA) x with the norm taken per output row and kept out of
the gradient. PEFT forms W + sBA and its norm in every forward. The norm changes only when A or B do, and at rank r
it has an exact form that never builds a matrix of W's size:

    ||W + sBA||^2 = ||W||^2 + 2s (W A^T . B) + s^2 (B (A A^T) . B)      row by row; ||W||^2 never changes

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
    """A count of the steps of all optimizers in this process.

    It is needed because a fused optimizer changes a tensor in place without raising the tensor's version.
    """

    count = 0

    @classmethod
    def add(cls, *_: Any) -> None:
        cls.count += 1


register_optimizer_step_post_hook(_OptimizerSteps.add)


class Parts(NamedTuple):
    """The parts of an adapted layer.

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
    """The factors of a layer between two optimizer steps, in the activations' dtype except for the direction.

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
    """Return ||W||^2 per output row, (out,) float32."""
    return weight.float().square().sum(1)


@torch.no_grad()
def weight_norms(layers: Sequence[Parts]) -> list[Tensor]:
    """Return ||W + sBA|| per output row, (out,) float32, for each of some DoRA layers."""
    norms = []
    for weight, squared_norm, a, b, _, scaling in layers:
        assert squared_norm is not None
        # The product is in W's dtype because the term is small and copying W to float32 would take most of the time.
        cross = ((weight @ a.to(weight.dtype).T).float() * b.float()).sum(1)
        a, b = a.float(), b.float()
        update = ((b @ (a @ a.T)) * b).sum(1)
        squared = squared_norm + 2 * scaling * cross + scaling**2 * update
        # Rounding could make a row of zeros negative.
        norms.append(squared.clamp(min=torch.finfo(torch.float32).tiny).sqrt())
    return norms


class FastLoraLinear(LoraLinear):
    """PEFT's LoRA layer on a plain linear layer, with a forward and a gradient of a few products without copies.

    `use_fast_adapters` turns existing layers into this class. PEFT's forward still handles merged, disabled and
    multiple adapters.

    Attributes:
        norm: ||W + sBA|| per output row, (out,) float32, as of the last `refresh_norms`; None for LoRA.
    """

    norm: Tensor | None = None
    _norm_of: tuple[object, ...] = ()
    _squared_norm: Tensor | None = None
    _squared_norm_of = 0
    _factors: Factors | None = None
    _factors_of: tuple[object, ...] = ()

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Return the adapted layer's output, (..., out), for its input, (..., in)."""
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
        """Compute the output for a compiler, which derives the gradient itself; the norm must be up to date."""
        weight, _, a, b, magnitude, scaling = self._parts()
        out, hidden = functional.linear(x, weight), functional.linear(x, a.to(x.dtype))
        if magnitude is None:
            return out + functional.linear(hidden, (b * scaling).to(x.dtype))
        fixed = magnitude.detach()
        direction = fixed / cast(Tensor, self.norm)
        update = functional.linear(hidden, (b * (scaling * direction)[:, None]).to(x.dtype))
        out = (out * direction + update).to(x.dtype)  # The sum is in float32, so only its result is rounded.
        # The output is linear in m. A factor of 1 with that derivative keeps nothing but the output for the backward.
        return (out * (1 + (magnitude - fixed) / fixed.where(fixed != 0, 1))).to(x.dtype)

    def _parts(self) -> Parts:
        adapter = self.active_adapters[0]
        a, b = (cast(Tensor, part[adapter].weight) for part in (self.lora_A, self.lora_B))
        magnitude = cast(Tensor, self.lora_magnitude_vector[adapter].weight) if adapter in self.lora_variant else None
        weight = cast(Tensor, self.get_base_layer().weight)
        return Parts(weight, self._squared_norm, a, b, magnitude, self.scaling[adapter])

    @staticmethod
    def _state(parts: Parts) -> tuple[object, ...]:
        """Return a value that changes whenever an adapter's weights do."""
        weight, _, a, b, magnitude, scaling = parts
        trained = (a, b) if magnitude is None else (a, b, magnitude)
        versions = tuple(part._version for part in trained)
        places = tuple(part.data_ptr() for part in (weight, *trained))
        return _OptimizerSteps.count, versions, places, scaling

    @torch.no_grad()
    def _stale(self) -> Parts | None:
        """Return the parts to compute the norm from, or None if the norm is up to date or the layer has none."""
        parts = self._parts()
        if parts.magnitude is None or self._norm_of == self._state(parts):
            return None
        if self._squared_norm is None or self._squared_norm_of != parts.weight.data_ptr():
            self._squared_norm = _squared_norm(parts.weight)
            self._squared_norm_of = parts.weight.data_ptr()
        return parts._replace(squared_norm=self._squared_norm)

    def forget_norm(self) -> None:
        """Force the norm to be recomputed before its next use, even if the adapter has not changed."""
        self._norm_of, self._factors_of = (), ()

    @torch.no_grad()
    def factors(self, dtype: torch.dtype) -> Factors:
        """Return the factors of W + sBA, computed once per optimizer step.

        Args:
            dtype: The dtype of the activations.
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
    layers: Sequence[FastLoraLinear], compute_norms: Callable[[Sequence[Parts]], list[Tensor]] = weight_norms
) -> None:
    """Recompute the norms of those layers whose adapters have changed: once per optimizer step.

    Args:
        layers: The layers that go through `compute_norms` together.
        compute_norms: `weight_norms`, or a compiled form of it.
    """
    stale = {layer: parts for layer in layers if (parts := layer._stale()) is not None}
    if stale:
        for layer, norm in zip(stale, compute_norms(list(stale.values())), strict=True):
            layer.norm, layer._norm_of = norm, layer._state(stale[layer])


class _AdaptedLinear(torch.autograd.Function):
    """direction * (Wx + s B A x) + bias for a frozen W, computed in place on every intermediate result."""

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
            # Everything that the adapter adds is small, so it is summed before the one addition that rounds.
            out.add_((out * factors.excess).addmm_(hidden, factors.b.T))
        # m's gradient needs the output, which mostly stays in memory anyway; LoRA has no m, so it keeps none.
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
        to_b = (hidden.T @ flat).T.to(dtype_b) * ctx.scaling  # The reverse order would copy the large operand.
        to_magnitude = None
        if factors.direction is not None and factors.excess is not None:
            # The output is linear in m, so its derivative by m is output / m; a row of zeros stays zero.
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

    PEFT computes the norm in the weights' dtype. In bfloat16 a row then starts up to 0.4 % off the float32 norm that
    this module divides by. Layers that keep PEFT's forward also keep its norm and its magnitude.

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
    """Turn every LoRA or DoRA layer for which it is exact into a `FastLoraLinear`; the others keep PEFT's forward.

    The base layer must be linear, frozen and not quantised. Dropout must be 0, since a layer applies it to the
    adapter's input alone.

    Returns:
        The number of layers changed.
    """
    changed, kept = 0, 0
    for module in model.modules():
        if not isinstance(module, LoraLinear):
            continue
        base = module.get_base_layer()
        frozen = not any(parameter.requires_grad for parameter in base.parameters())  # The bias counts, too.
        plain = type(base) is nn.Linear and not module.fan_in_fan_out and frozen
        known = all(
            # PEFT stores either the class or an instance of it.
            issubclass(variant if isinstance(variant, type) else type(variant), DoraLinearVariant)
            for variant in module.lora_variant.values()
        )
        if plain and known and all(isinstance(dropout, nn.Identity) for dropout in module.lora_dropout.values()):
            # PEFT holds references to the layer, so the object must stay the same; only its class changes.
            module.__class__ = FastLoraLinear
            changed += 1
        else:
            kept += 1
    if kept:
        logger.info(
            "%d adapted layers keep PEFT's forward: dropout is above 0, or the base layer is not a plain linear one",
            kept,
        )
    return changed
