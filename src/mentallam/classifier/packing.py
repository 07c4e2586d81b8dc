"""Packing: several posts with all their criteria as one row of tokens, without padding.

The row holds one post after the other, each as its prefix and then its suffixes:

    prefix_0 suffix_0,0 suffix_0,1 ... | prefix_1 suffix_1,0 suffix_1,1 ... | ...

Every layer except attention treats each token separately, so it works on this row without any padding. Attention needs
to know where each token belongs. The `packing` says so; it is made once per batch and used by all layers.
Position ids restart at len(prefix) for every suffix, so each pair is numbered as if it stood alone.
"""

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, TypedDict

import torch

from mentallam.classifier.prompts import PostExample


class PackedPost(NamedTuple):
    """The place of one post in the row, and of its K suffixes of at most S tokens in a (K, S) table.

    Attributes:
        start: Index of the prefix's first token.
        suffixes: Index of the first suffix's first token; the other suffixes follow it.
        end: Index after the last suffix's last token.
        criteria: K.
        longest: S.
        cells: (end - suffixes,) int64, the cell k * S + s of each suffix token in the table.
    """

    start: int
    suffixes: int
    end: int
    criteria: int
    longest: int
    cells: torch.Tensor


Packing = list[PackedPost]


class PackedBatch(TypedDict):
    """The model's input: T tokens that hold N pairs.

    Attributes:
        input_ids: (1, T) int64.
        position_ids: (1, T) int64.
        packing: How the tokens belong together.
        pool_index: (N,) int64, the last token of each pair, pairs in the order of the examples.
        labels: (N,) int64, 1 matched, 0 unmatched; -100 where unknown.
        inputs_embeds: (1, T, hidden size), the input of the lowest trained layer, if the examples have it; else None.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    packing: Packing
    pool_index: torch.Tensor
    labels: torch.Tensor
    inputs_embeds: torch.Tensor | None


def pack(examples: Sequence[PostExample]) -> PackedBatch:
    """Pack posts with their criteria into one row.

    Args:
        examples: Posts, each with at least one criterion; the criteria may differ from post to post.
    """
    packing: Packing = []
    positions, pooled = [], []
    start = 0
    for example in examples:
        lengths = torch.tensor([len(suffix) for suffix in example.suffixes])
        ends = lengths.cumsum(0)
        prefix, longest = len(example.prefix), int(lengths.max())
        within = torch.arange(int(ends[-1])) - (ends - lengths).repeat_interleave(lengths)  # index in the suffix
        cells = torch.arange(len(lengths)).repeat_interleave(lengths) * longest + within
        suffixes, end = start + prefix, start + prefix + len(within)
        packing.append(PackedPost(start, suffixes, end, len(lengths), longest, cells))
        positions += [torch.arange(prefix), prefix + within]
        pooled.append(suffixes + ends - 1)
        start = end
    tokens = chain.from_iterable(chain(example.prefix, *example.suffixes) for example in examples)
    states = [example.states for example in examples if example.states is not None]
    labels = [example.labels or [-100] * len(example.suffixes) for example in examples]
    return PackedBatch(
        input_ids=torch.tensor([list(tokens)]),
        position_ids=torch.cat(positions)[None],
        packing=packing,
        pool_index=torch.cat(pooled),
        labels=torch.tensor(list(chain.from_iterable(labels))),
        inputs_embeds=torch.cat(states)[None] if len(states) == len(examples) else None,
    )
