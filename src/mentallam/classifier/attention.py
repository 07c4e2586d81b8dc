"""Attention over a packed row: each suffix attends to its prefix and itself, and each prefix is computed once.

A dense mask over the row does about twice the necessary work. Copying the prefix to every suffix does the prefix's work
nine times. The function is registered with transformers' AttentionInterface as `shared_prefix`. Without a packing, a
model computes what it computes with `sdpa`.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mentallam.classifier.packing import PackedPost, Packing

NAME = "shared_prefix"

# A prefix attends in pieces of this many tokens, so that the only hidden keys that are computed are those of the piece
# itself. This saves a quarter of the work at 500 tokens. Smaller pieces cost more in calls than they save.
_PIECE = 256

# Tokens in a block of queries or keys in flex attention: PyTorch's default.
_BLOCK = 128


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    packing: "Packing | Opaque | BlockMask | None" = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute attention with the signature that transformers' AttentionInterface expects.

    Args:
        module: The attention layer.
        query: (1, H, T, D), with rotary positions applied; H is a multiple of G.
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None with a packing, which already says which tokens see which.
        scaling: Factor on the scores.
        dropout: Must be 0 with a packing.
        packing: How the tokens belong together; in compiled layers, the result of `for_compiled_layers`. None for an
            ordinary batch.
        **kwargs: Options of an ordinary batch, passed to `sdpa`.

    Returns:
        (1, T, H, D), and None in place of attention weights.

    Raises:
        ValueError: Dropout is above 0 with a packing.
    """
    if packing is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    if dropout:
        raise ValueError("attention dropout would be shared by all criteria of a post; set attention_dropout to 0")
    if isinstance(packing, BlockMask):
        fused = flex_attention(
            query,
            key,
            value,
            block_mask=packing,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
            # The other kernel, for generation, fails on some short rows (pytorch/pytorch#185349).
            kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
        )
        return fused.transpose(1, 2), None
    return _packed(query[0], key[0], value[0], scaling or query.shape[-1] ** -0.5, packing)[None], None


class Opaque:
    """A packing that the compiler passes through unread; for a plain list it would recompile for every length."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing


def for_compiled_layers(packing: Packing, device: torch.device) -> BlockMask | Opaque:
    """Return a packing in the form that compiled layers take.

    A GPU uses flex attention and needs its block mask. Flex attention has no gradient on a CPU.

    Args:
        packing: How the row's tokens belong together.
        device: Where the attention is computed.
    """
    return block_mask(packing, device) if device.type == "cuda" else Opaque(packing)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _packed(query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing | Opaque) -> Tensor:
    """Compute attention over all segments; only the steps for one segment are compiled, since rows differ in theirs."""
    compiled = isinstance(packing, Opaque)
    posts = packing.packing if isinstance(packing, Opaque) else packing
    if not torch.is_grad_enabled():
        return _forward_only(query, key, value, scaling, posts)
    out: Tensor = _PackedAttention.apply(query, key, value, scaling, posts, _compiled_steps() if compiled else _PLAIN)
    return out


def block_mask(packing: Packing, device: torch.device) -> BlockMask:
    """Return the mask of PyTorch's flex attention, which skips the blocks of a row that are hidden.

    The blocks are derived from the packing. PyTorch's `create_block_mask` looks at every pair of tokens and takes
    2.6 GB for a row of 16,384 (docs/performance-notes.md).

    Args:
        packing: How the row's tokens belong together.
        device: Where the attention is computed; `meta` gives the mask's tensors without content.
    """
    length = packing[-1].end
    posts, suffixes, parts = (torch.zeros(length, dtype=torch.int32, device=device) for _ in range(3))
    n_parts = 0
    for number, post in enumerate(packing):
        posts[post.start : post.end] = number
        # Suffixes are numbered from 1 because 0 is the prefix. Part numbers run on from post to post.
        suffixes[post.suffixes : post.end] = post.cells.to(device) // post.longest + 1
        parts[post.start : post.end] = suffixes[post.start : post.end] + n_parts
        n_parts += 1 + post.criteria

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        prefix_or_same = (suffixes[key] == 0) | (suffixes[key] == suffixes[query])
        return (posts[query] == posts[key]) & prefix_or_same & (key <= query)

    pairs = _visible_pairs(posts, suffixes, parts, len(packing), n_parts)
    full = pairs == _BLOCK**2
    return BlockMask.from_kv_blocks(
        *_listed((pairs > 0) & ~full),
        *_listed(full),
        BLOCK_SIZE=_BLOCK,
        mask_mod=sees,
        seq_lengths=(length, length),
    )


def _visible_pairs(posts: Tensor, suffixes: Tensor, parts: Tensor, n_posts: int, n_parts: int) -> Tensor:
    """Count the visible (query, key) pairs of each block: (blocks, blocks) float32, exact below 2^24.

    A prefix is one part and each suffix another. A query sees the keys of its part up to itself and, in a suffix, the
    whole prefix of its post. Off the diagonal, the pairs of a block are therefore a product of counts.

    Args:
        posts: (T,), the post of each token.
        suffixes: (T,), its suffix, numbered from 1; 0 is the prefix.
        parts: (T,), its part, numbered across all posts.
        n_posts: Number of posts.
        n_parts: Number of parts.
    """
    blocks = torch.arange(len(posts), device=posts.device) // _BLOCK
    n_blocks = -(-len(posts) // _BLOCK)

    def counted(of: Tensor, number: int, chosen: Tensor) -> Tensor:
        counts = torch.zeros(number * n_blocks, device=of.device)
        return counts.index_add_(0, of * n_blocks + blocks, chosen.float()).view(number, n_blocks)

    of_parts = counted(parts, n_parts, torch.ones_like(suffixes))
    of_suffixes, of_prefixes = (counted(posts, n_posts, chosen) for chosen in (suffixes > 0, suffixes == 0))
    # On the diagonal a part sees itself causally: n (n + 1) / 2 pairs, which is neither none nor all of the block.
    return (
        (of_parts.T @ of_parts).tril(-1) + (of_parts * (of_parts + 1) / 2).sum(0).diag() + of_suffixes.T @ of_prefixes
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of key blocks of each query block, (1, 1, blocks), and their indices, the chosen ones first."""
    numbers = chosen.sum(-1, dtype=torch.int32)
    indices = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
    return numbers[None, None], indices[None, None]


class _Segment(NamedTuple):
    """Sequences that each see some earlier tokens of their post in full and themselves causally.

    Attributes:
        seen: The earlier tokens, a range of the row.
        tokens: The sequences' tokens, a range of the row.
        table: (K, S): K sequences of at most S tokens.
        cells: As in `PackedPost`; None where the tokens fill the table in order.
    """

    seen: slice
    tokens: slice
    table: tuple[int, int]
    cells: Tensor | None


def _segments(packing: Packing) -> Iterator[_Segment]:
    """Yield the pieces of each prefix, which see the pieces before them, then its suffixes, which see all of it."""
    for post in packing:
        for start in range(post.start, post.suffixes, _PIECE):
            end = min(start + _PIECE, post.suffixes)
            yield _Segment(slice(post.start, start), slice(start, end), (1, end - start), None)
        yield _suffixes(post)


def _suffixes(post: PackedPost) -> _Segment:
    full = post.criteria * post.longest == post.end - post.suffixes
    return _Segment(
        slice(post.start, post.suffixes),
        slice(post.suffixes, post.end),
        (post.criteria, post.longest),
        None if full else post.cells,
    )


def _forward_only(query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing) -> Tensor:
    """Return what `_PackedAttention` does where no gradient is needed, with fewer passes over the scores."""
    q = query.unflatten(0, (key.shape[0], -1)).transpose(1, 2)  # (G, T, R, D)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for segment in _segments(packing):
        length = segment.table[1]
        later = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
        _scatter(out, _fused(_gather(q, segment), key, value, scaling, segment, later), segment)
    return out.transpose(0, 1).flatten(1, 2)


def pooled_attention(query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing) -> Tensor:
    """Compute the attention of each pair's last token, which sees its prefix and its whole suffix; no gradient.

    Args:
        query: (H, N, D) for N pairs, with rotary positions applied; H is a multiple of G.
        key: (G, T, D), of the whole row.
        value: (G, T, D).
        scaling: Factor on the scores.
        packing: How the row's tokens belong together.

    Returns:
        (N, H, D).
    """
    groups = key.shape[0]
    q = query.unflatten(0, (groups, -1)).transpose(1, 2)  # (G, N, R, D)
    attended = []
    for post, pairs in zip(packing, q.split([post.criteria for post in packing], 1), strict=True):
        empty = torch.full((post.criteria * post.longest,), -torch.inf, dtype=q.dtype, device=q.device)
        empty[post.cells] = 0
        hidden = empty.view(post.criteria, 1, post.longest).repeat(groups, 1, 1)
        attended.append(_fused(pairs[:, :, None], key, value, scaling, _suffixes(post), hidden))
    return torch.cat(attended, 1).transpose(0, 1).flatten(1, 3)


def _fused(q: Tensor, key: Tensor, value: Tensor, scaling: float, segment: _Segment, hidden: Tensor) -> Tensor:
    """Attend from a segment's queries to the tokens that it sees and to its own, in one softmax.

    The keys seen are copied to each sequence. They are few; the scores are what takes the time.

    Args:
        q: (G, K, Q, R, D), Q queries of each sequence.
        key: (G, T, D), of the whole row.
        value: (G, T, D).
        scaling: Factor on the scores.
        segment: The K sequences of S tokens.
        hidden: (Q, S) or (G * K, Q, S), -inf where a query does not see a token of its sequence, else 0.

    Returns:
        The outputs, shaped as the queries.
    """
    groups, sequences, _, heads, width = q.shape
    keys, values = (
        torch.cat([states[:, None, segment.seen].expand(-1, sequences, -1, -1), _gather(states, segment)], 2).flatten(
            0, 1
        )  # (G * K, P + S, D)
        for states in (key, value)
    )
    bias = functional.pad(hidden, (segment.seen.stop - segment.seen.start, 0)).repeat_interleave(heads, -2)
    queries = q.reshape(groups * sequences, -1, width)
    scores = torch.baddbmm(bias, queries, keys.transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(-1), values).view(q.shape)


class _Steps(NamedTuple):
    """The two computations for a segment, plain or compiled: `_attend` and `_gradients`."""

    attend: Callable[..., tuple[Tensor, ...]]
    gradients: Callable[..., tuple[Tensor, ...]]


class _PackedAttention(torch.autograd.Function):
    """Softmax attention within segments, with an explicit gradient so that nothing is copied or computed twice.

    The gradient is FlashAttention's (Dao et al. 2022, arXiv 2205.14135, appendix B.2) with the weights kept: for
    weights P = E / sum(E), output o and its gradient g, the scores' gradient is P * (g v^T - g . o).
    Shapes below: G groups of R heads, K sequences of S tokens, N = K * S * R queries of a group, P tokens seen.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing, steps: _Steps
    ) -> Tensor:
        """Return the heads' outputs, (T, H, D), from (H, T, D) queries and (G, T, D) keys and values."""
        groups = key.shape[0]
        q = (query * scaling).unflatten(0, (groups, -1)).transpose(1, 2).contiguous()  # (G, T, R, D)
        k, v = key.contiguous(), value.contiguous()
        out = torch.empty_like(q)
        kept: list[Tensor] = []
        for segment in _segments(packing):
            tables = [_gather(states, segment) for states in (q, k, v)]
            attended, *weights = steps.attend(*tables, k[:, segment.seen], v[:, segment.seen])
            _scatter(out, attended, segment)
            kept += weights
        ctx.save_for_backward(q, k, v, out, *kept)
        ctx.scaling, ctx.packing, ctx.steps = scaling, packing, steps
        return out.transpose(0, 1).flatten(1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *kept = ctx.saved_tensors
        gradient = gradient.unflatten(1, (q.shape[0], -1)).transpose(0, 1).contiguous()  # (G, T, R, D)
        to_q, to_k, to_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for segment, *weights in zip(_segments(ctx.packing), kept[::3], kept[1::3], kept[2::3], strict=True):
            tables = [_gather(states, segment) for states in (q, k, v, out, gradient)]
            found = ctx.steps.gradients(tables, (k[:, segment.seen], v[:, segment.seen]), weights)
            to_table_q, to_table_k, to_table_v, to_seen_k, to_seen_v = found
            _scatter(to_q, to_table_q, segment)
            _add(to_k, to_table_k, segment)
            _add(to_v, to_table_v, segment)
            to_k[:, segment.seen] += to_seen_k
            to_v[:, segment.seen] += to_seen_v
        return (to_q * ctx.scaling).transpose(1, 2).flatten(0, 1), to_k, to_v, None, None, None


def _attend(q: Tensor, k: Tensor, v: Tensor, seen_k: Tensor, seen_v: Tensor) -> tuple[Tensor, ...]:
    """Attend from a segment's queries, (G, K, S, R, D), to its keys and to those seen before it, (G, P, D).

    Returns:
        The outputs, shaped as the queries; the softmax's numerators over tokens seen and within the segment; their sum.
    """
    seen, within = _exponentials(q, seen_k, k)
    total = within.sum(-1, dtype=torch.float32).view(seen.shape[:2]) + seen.sum(-1, dtype=torch.float32)
    attended = torch.bmm(within, v.flatten(0, 1)).view(*total.shape, -1)
    if seen.shape[-1]:
        attended += torch.bmm(seen, seen_v)
    return (attended / total[..., None]).to(q.dtype).view_as(q), seen, within, total


# torch 2.13 compiled an earlier form, with reshapes to (..., -1) from (G, N, D) back to sequences, to wrong gradients.
# test_compiled_equals_plain compares this form with the plain one.
def _gradients(
    tables: Sequence[Tensor], seen_states: tuple[Tensor, Tensor], weights: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Return the gradients with respect to a segment's queries, keys and values, and the keys and values seen.

    Args:
        tables: The segment's queries, keys, values, outputs and the outputs' gradient.
        seen_states: Keys and values seen, (G, P, D).
        weights: What `_attend` returns after the outputs.

    Returns:
        (G, K, S, R, D) for the queries; (G * K, S, D) for the segment's keys and values; (G, P, D) for those seen.
    """
    q, k, v, out, gradient = tables
    seen_k, seen_v = seen_states
    seen, within, total = weights
    mean = (gradient * out).sum(-1, dtype=torch.float32).view_as(total)
    g = (gradient / total.view(gradient.shape[:-1])[..., None]).to(q.dtype)
    mean = (mean / total).to(q.dtype)[..., None]  # (G, N, 1)

    # By sequence: (G * K, S * R, D) and (G * K, S, D).
    queries, by_sequence = (states.flatten(0, 1).flatten(1, 2) for states in (q, g))
    k, v = k.flatten(0, 1), v.flatten(0, 1)
    scores = torch.bmm(by_sequence, v.transpose(1, 2)).sub_(mean.view(*within.shape[:2], 1)).mul_(within)
    to_q = torch.bmm(scores, k).view_as(q)
    to_k = torch.bmm(scores.transpose(1, 2), queries)
    to_v = torch.bmm(within.transpose(1, 2), by_sequence)
    if not seen.shape[-1]:
        return to_q, to_k, to_v, torch.zeros_like(seen_k), torch.zeros_like(seen_v)
    queries, g = q.flatten(1, 3), g.flatten(1, 3)  # (G, N, D)
    scores = torch.bmm(g, seen_v.transpose(1, 2)).sub_(mean).mul_(seen)
    to_q += torch.bmm(scores, seen_k).view_as(q)
    return to_q, to_k, to_v, torch.bmm(scores.transpose(1, 2), queries), torch.bmm(seen.transpose(1, 2), g)


def _exponentials(q: Tensor, seen_k: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return the softmax's numerators over tokens seen, (G, N, P), and within the segment, (G * K, S * R, S).

    Queries are already scaled. Scores stay in the inputs' dtype; the largest of each row is subtracted first.
    """
    groups, sequences, length, heads, width = q.shape
    seen = torch.bmm(q.reshape(groups, -1, width), seen_k.transpose(1, 2))
    within = torch.bmm(q.reshape(groups * sequences, -1, width), k.flatten(0, 1).transpose(1, 2))
    later = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    within.view(-1, length, heads, length).add_(later[:, None])
    largest = within.amax(-1, keepdim=True).view(*seen.shape[:2], 1)
    if seen.shape[-1]:
        largest = torch.maximum(largest, seen.amax(-1, keepdim=True))
        seen.sub_(largest).exp_()
    within.sub_(largest.view(*within.shape[:2], 1)).exp_()
    return seen, within


_PLAIN = _Steps(_attend, _gradients)


@cache
def _compiled_steps() -> _Steps:
    return _Steps(torch.compile(_attend, dynamic=True), torch.compile(_gradients, dynamic=True))


def _gather(states: Tensor, segment: _Segment) -> Tensor:
    """Return a segment's tokens out of (G, T, ...) as a table, (G, K, S, ...), with zeros in its empty cells."""
    table: Tensor = states[:, segment.tokens]
    if segment.cells is not None:
        sequences, length = segment.table
        empty = table.new_zeros(table.shape[0], sequences * length, *table.shape[2:])
        table = empty.index_copy_(1, segment.cells, table)
    return table.view(table.shape[0], *segment.table, *table.shape[2:])


def _scatter(states: Tensor, table: Tensor, segment: _Segment) -> None:
    """Write a table back to the segment's tokens in (G, T, ...): the inverse of `_gather`."""
    rows = table.flatten(1, 2)
    states[:, segment.tokens] = rows if segment.cells is None else rows.index_select(1, segment.cells)


def _add(states: Tensor, table: Tensor, segment: _Segment) -> None:
    """Add a table of (G * K, S, D) to the segment's tokens in (G, T, D)."""
    rows = table.view(states.shape[0], -1, table.shape[-1])
    states[:, segment.tokens] += rows if segment.cells is None else rows.index_select(1, segment.cells)


AttentionInterface.register(NAME, shared_prefix_attention)
