"""Attention over a packed row: each prefix once, each suffix against its prefix and itself, and nothing else.

A dense mask over the row would do about twice the needed work, and copying the prefix to every suffix nine times the
prefix's. Registered with transformers' AttentionInterface under the name `shared_prefix`; a model that is called
without a packing behaves as with `sdpa`.
"""

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mentallam.classifier.packing import Packing

NAME = "shared_prefix"


class _Rearrange(torch.autograd.Function):
    """`source[index]` (rows) whose gradient is a second gather, several times faster on a CPU than a scatter.

    That is right because the index is one-to-one on real tokens and what is read for padding is never used.
    """

    @staticmethod
    def forward(ctx: Any, source: Tensor, index: Tensor, inverse: Tensor, real: Tensor | None) -> Tensor:
        ctx.save_for_backward(inverse, real)
        return source.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        inverse, real = ctx.saved_tensors
        gradient = gradient.index_select(0, inverse)
        if real is not None:
            gradient = gradient * real[:, None, None].to(gradient.dtype)
        return gradient, None, None, None


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention in the form that transformers' AttentionInterface expects.

    Args:
        module: The attention layer.
        query: (1, H, T, D), heads with positions already rotated in; H is a multiple of G.
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None with a packing: the packing says who sees whom.
        scaling: Factor on the scores.
        dropout: Must be 0 with a packing.
        packing: How the tokens belong together; None for an ordinary batch.
        **kwargs: Passed on for an ordinary batch.

    Returns:
        (1, T, H, D) and no attention weights.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    if dropout:
        raise ValueError("attention dropout would be shared by all criteria of a post; set attention_dropout to 0")
    scaling = scaling or query.shape[-1] ** -0.5
    index = torch.cat([packing["prefix"].flatten(), packing["suffix"].flatten()])
    q, k, v = (
        _Rearrange.apply(states[0].transpose(0, 1), index, packing["restore"], None) for states in (query, key, value)
    )
    posts, prefix_length = packing["prefix"].shape
    cut = posts * prefix_length
    prefix_q, prefix_k, prefix_v = (t[:cut].unflatten(0, (posts, 1, prefix_length)) for t in (q, k, v))
    own_q, own_k, own_v = (t[cut:].unflatten(0, packing["suffix"].shape) for t in (q, k, v))
    prefix_out = _prefix(prefix_q, prefix_k, prefix_v, packing["prefix_bias"], scaling)
    suffix_out = _attend(own_q, (prefix_k[:, 0], prefix_v[:, 0]), own_k, own_v, packing["suffix_bias"], scaling)
    out = torch.cat([prefix_out.flatten(0, 2), suffix_out.flatten(0, 2)])
    return _Rearrange.apply(out, packing["restore"], index, packing["real"])[None], None


def _prefix(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """Causal attention within each prefix, (B, 1, P, H, D).

    Prefixes are padded on the right, where the causal rule hides the padding from every real token. On a CPU the plain
    products win up to about 400 tokens (docs/adr/0003); on a GPU a fused kernel does, and keeps no (P, P) scores.
    """
    if not q.is_cuda:
        return _attend(q, None, k, v, bias, scaling)
    q, k, v = (states[:, 0].transpose(1, 2) for states in (q, k, v))
    grouped = q.shape[1] != k.shape[1]
    out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2)[:, None]


def _attend(
    q: Tensor, seen: tuple[Tensor, Tensor] | None, own_k: Tensor, own_v: Tensor, bias: Tensor, scaling: float
) -> Tensor:
    """Attention of K sequences per post over what they share and over themselves; nothing is copied per sequence.

    Scores are in the inputs' dtype, as the products that make them; the softmax itself computes in float32.

    Args:
        q: (B, K, S, H, D).
        seen: Keys and values that all sequences of a post see, each (B, P, G, D); None for nothing (P = 0).
        own_k: (B, K, S, G, D).
        own_v: (B, K, S, G, D).
        bias: (B or 1, K or 1, S, P + S) float32, 0 where a token may look and -inf where not.
        scaling: Factor on the scores.

    Returns:
        (B, K, S, H, D).
    """
    posts, sequences, length, heads, width = q.shape
    groups = own_k.shape[3]
    repeat = heads // groups
    shape = (posts, groups, sequences, repeat, length)
    by_sequence = (posts, groups, sequences, repeat * length)
    by_post = (posts, groups, sequences * repeat * length)
    q = (q * scaling).unflatten(3, (groups, repeat)).permute(0, 3, 1, 4, 2, 5).reshape(*by_sequence, width)
    own_k, own_v = (t.permute(0, 3, 1, 2, 4) for t in (own_k, own_v))  # B G K S D
    scores = (q @ own_k.transpose(-1, -2)).view(*shape, length)
    bias = bias[:, None, :, None].to(q.dtype)
    if seen is None:
        weights = (scores + bias).softmax(-1)
        out = (weights.view(*by_sequence, length) @ own_v).view(*shape, width)
    else:
        seen_k, seen_v = (t.permute(0, 2, 1, 3) for t in seen)  # B G P D
        seen_scores = (q.view(*by_post, width) @ seen_k.transpose(-1, -2)).view(*shape, -1)
        weights = (torch.cat([seen_scores, scores], -1) + bias).softmax(-1)
        # split, not two slices: its gradient is one concatenation.
        seen_weights, own_weights = weights.split([seen_scores.shape[-1], length], -1)
        out = (seen_weights.reshape(*by_post, -1) @ seen_v).view(*shape, width)
        out = out + (own_weights.reshape(*by_sequence, length) @ own_v).view(*shape, width)
    return out.permute(0, 2, 4, 1, 3, 5).flatten(3, 4)


AttentionInterface.register(NAME, shared_prefix_attention)
