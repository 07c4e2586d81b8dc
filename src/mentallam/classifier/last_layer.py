"""The last layer where no gradient is needed: only each pair's last token goes through all of it.

The head reads one token per pair, and no layer follows. So the other tokens need keys and values here, but neither a
query nor the MLP. Of SmolLM2's 30 layers this saves nine tenths of one. All families of `families.FAMILIES` build their
layers from these parts; test_families.py compares the result with the family's own forward.
"""

from typing import Any, cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import rotate_half

from mentallam.classifier.attention import pooled_attention
from mentallam.classifier.packing import Packing


def last_layer(
    decoder: PreTrainedModel, hidden: Tensor, position_ids: Tensor, packing: Packing, pool_index: Tensor
) -> Tensor:
    """Apply a decoder's last layer and its final norm to the last token of each pair.

    Args:
        decoder: The whole decoder.
        hidden: (1, T, hidden size), the last layer's input.
        position_ids: (1, T) int64.
        packing: How the tokens belong together.
        pool_index: (N,) int64, the last token of each pair.

    Returns:
        (N, hidden size), equal to the rows `pool_index` of the decoder's output to within rounding.
    """
    layer: Any = cast(nn.ModuleList, decoder.layers)[-1]
    attention = layer.self_attn
    cos, sin = (turn[0] for turn in cast(nn.Module, decoder.rotary_emb)(hidden, position_ids))
    states = layer.input_layernorm(hidden[0])
    query = _heads(attention, "q", states[pool_index], cos[pool_index], sin[pool_index])
    key = _heads(attention, "k", states, cos, sin)
    value = attention.v_proj(states).unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)
    attended = pooled_attention(query, key, value, attention.scaling, packing)
    pooled = hidden[0, pool_index] + attention.o_proj(attended.flatten(1))
    pooled = pooled + layer.mlp(layer.post_attention_layernorm(pooled))
    return cast(Tensor, cast(nn.Module, decoder.norm)(pooled))


def _heads(attention: Any, name: str, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return the queries ("q") or keys ("k") of each head with rotary positions applied: (heads, tokens, D)."""
    projected = getattr(attention, f"{name}_proj")(states).unflatten(-1, (-1, attention.head_dim))
    norm = getattr(attention, f"{name}_norm", None)  # Qwen3 has one
    heads: Tensor = (projected if norm is None else norm(projected)).transpose(0, 1)
    turned: Tensor = heads * cos + rotate_half(heads) * sin
    return turned
