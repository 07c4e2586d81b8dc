"""Packing: several posts with all their criteria as one row of tokens, without padding.

The row holds the prefixes one after the other, then the suffixes:

    prefix_0 prefix_1 ... | suffix_0,0 suffix_0,1 ... suffix_1,0 ...

Every layer but attention works on tokens one by one, so it sees this row and no padding at all. Attention needs to
know which token belongs where; that is the `packing` dict, made once per batch and used by all layers.
Position ids restart at len(prefix) for every suffix: each pair is numbered as if it stood alone.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TypedDict

import torch
from torch.nn.utils.rnn import pad_sequence

from mentallam.classifier.prompts import PostExample


class Packing(TypedDict):
    """Where the tokens of a packed row belong; B posts, at most P prefix tokens, K suffixes of at most S tokens.

    Attributes:
        prefix: (B, P) int64, index into the row of each prefix token, 0 where there is none.
        suffix: (B, K, S) int64, index into the row of each suffix token, 0 where there is none.
        real: (B * P + B * K * S,) bool, False where there is none.
        restore: (T,) int64, where each token of the row stands in `prefix` and `suffix`, flattened and joined.
        prefix_bias: (1, 1, P, P) float32, -inf where a prefix token may not look: at later ones.
        suffix_bias: (B, K, S, P + S) float32, -inf where a suffix token may not look: at padding of the prefix
            and at later tokens of the suffix.
    """

    prefix: torch.Tensor
    suffix: torch.Tensor
    real: torch.Tensor
    restore: torch.Tensor
    prefix_bias: torch.Tensor
    suffix_bias: torch.Tensor


class PackedBatch(TypedDict):
    """What the model takes: T tokens that hold N pairs.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64.
        packing: How the tokens belong together.
        pool_index: (N,) int64, the last token of each pair, pairs in the order of the examples.
        labels: (N,) int64, 1 matched, 0 unmatched; -100 where unknown.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    packing: Packing
    pool_index: torch.Tensor
    labels: torch.Tensor


def pack(examples: Sequence[PostExample]) -> PackedBatch:
    """Packs posts with their criteria into one row.

    Args:
        examples: Posts, each with at least one criterion; the criteria may differ from post to post.
    """
    prefix_lengths = [len(example.prefix) for example in examples]
    suffix_lengths = [len(suffix) for example in examples for suffix in example.suffixes]
    criteria_per_post = [len(example.suffixes) for example in examples]
    starts = torch.tensor([0, *prefix_lengths, *suffix_lengths]).cumsum(0)
    spans = [torch.arange(start, end) for start, end in pairwise(starts.tolist())]
    prefix_spans, suffix_spans = spans[: len(examples)], spans[len(examples) :]

    prefix = pad_sequence(prefix_spans, batch_first=True, padding_value=-1)
    padded_suffixes = pad_sequence(suffix_spans, batch_first=True, padding_value=-1)
    suffix = pad_sequence(padded_suffixes.split(criteria_per_post), batch_first=True, padding_value=-1)
    places = torch.cat([prefix.flatten(), suffix.flatten()])
    real = places >= 0
    restore = torch.empty(int(starts[-1]), dtype=torch.long)
    restore[places[real]] = real.nonzero().squeeze(1)

    tokens = chain(
        chain.from_iterable(example.prefix for example in examples),
        chain.from_iterable(suffix for example in examples for suffix in example.suffixes),
    )
    positions = [torch.arange(length) for length in prefix_lengths]
    offsets = [length for length, count in zip(prefix_lengths, criteria_per_post, strict=True) for _ in range(count)]
    positions += [torch.arange(at, at + length) for at, length in zip(offsets, suffix_lengths, strict=True)]
    labels = [example.labels or [-100] * len(example.suffixes) for example in examples]
    return PackedBatch(
        input_ids=torch.tensor([list(tokens)]),
        position_ids=torch.cat(positions)[None],
        packing=Packing(
            prefix=prefix.clamp(min=0),
            suffix=suffix.clamp(min=0),
            real=real,
            restore=restore,
            prefix_bias=_causal_bias(prefix.shape[1])[None, None],
            suffix_bias=_suffix_bias(prefix >= 0, suffix),
        ),
        pool_index=starts[len(examples) + 1 :] - 1,
        labels=torch.tensor(list(chain.from_iterable(labels))),
    )


def _causal_bias(length: int) -> torch.Tensor:
    return torch.full((length, length), -torch.inf).triu(1)


def _suffix_bias(real_prefix: torch.Tensor, suffix: torch.Tensor) -> torch.Tensor:
    shape = (*suffix.shape, -1)
    seen = torch.zeros(real_prefix.shape).masked_fill(~real_prefix, -torch.inf)[:, None, None].expand(shape)
    return torch.cat([seen, _causal_bias(suffix.shape[-1]).expand(shape)], -1)
