"""Attention over a packed row: each prefix once, each suffix against its prefix and itself, and nothing else.

A dense mask over the row would do about twice the needed work, and copying the prefix to every suffix nine times the
prefix's. Registered with transformers' AttentionInterface under the name `shared_prefix`; a model that is called
without a packing behaves as with `sdpa`.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from mentallam.classifier.packing import Packing

NAME = "shared_prefix"

# A prefix is attended to in pieces of this many tokens, so that of the keys that the causal rule hides only those of
# the piece itself are computed; a quarter of the work at 500 tokens. Smaller pieces cost more in calls than they save.
_PIECE = 256

# Tokens of a block of queries, and of keys, in flex attention: PyTorch's default.
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
    """Attention in the form that transformers' AttentionInterface expects.

    Args:
        module: The attention layer.
        query: (1, H, T, D), heads with positions already rotated in; H is a multiple of G.
        key: (1, G, T, D).
        value: (1, G, T, D).
        attention_mask: Must be None with a packing: the packing says who sees whom.
        scaling: Factor on the scores.
        dropout: Must be 0 with a packing.
        packing: How the tokens belong together, in compiled layers as `for_compiled_layers` gives it; None for an
            ordinary batch.
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
    if isinstance(packing, BlockMask):
        fused = flex_attention(
            query,
            key,
            value,
            block_mask=packing,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
            # The other kernel, for generation, can't be had for some short rows (pytorch/pytorch#185349).
            kernel_options={"FORCE_USE_FLEX_ATTENTION": True},
        )
        return fused.transpose(1, 2), None
    return _packed(query[0], key[0], value[0], scaling or query.shape[-1] ** -0.5, packing)[None], None


class Opaque:
    """A packing that the compiler hands on without a look: of a list it would compile every length anew."""

    def __init__(self, packing: Packing) -> None:
        self.packing = packing


def for_compiled_layers(packing: Packing, device: torch.device) -> BlockMask | Opaque:
    """A packing as compiled layers take it: flex attention for a GPU; on a CPU that has no gradient.

    Args:
        packing: How the row's tokens belong together.
        device: Where the attention is computed.
    """
    return block_mask(packing, device) if device.type == "cuda" else Opaque(packing)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _packed(query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing | Opaque) -> Tensor:
    """Never compiled as a whole, since no two rows have the same segments; what is done for a segment is."""
    compiled = isinstance(packing, Opaque)
    posts = packing.packing if isinstance(packing, Opaque) else packing
    out: Tensor = _PackedAttention.apply(query, key, value, scaling, posts, _compiled_steps() if compiled else _PLAIN)
    return out


def block_mask(packing: Packing, device: torch.device) -> BlockMask:
    """Return who sees whom in the form of PyTorch's flex attention, which skips the blocks of a row that are hidden.

    The blocks are found from the packing. PyTorch's `create_block_mask` looks at every pair of tokens: 2.6 GB for a row
    of 16,384 (docs/performance.md).

    Args:
        packing: How the row's tokens belong together.
        device: Where the attention is computed; `meta` gives the mask's tensors without content.
    """
    length = packing[-1].end
    posts, suffixes, parts = (torch.zeros(length, dtype=torch.int32, device=device) for _ in range(3))
    n_parts = 0
    for number, post in enumerate(packing):
        posts[post.start : post.end] = number
        # A suffix counts from 1, 0 is the prefix; the parts of all posts are counted through.
        suffixes[post.suffixes : post.end] = post.cells.to(device) // post.longest + 1
        parts[post.start : post.end] = suffixes[post.start : post.end] + n_parts
        n_parts += 1 + post.criteria

    def sees(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        of_a_kind = (suffixes[key] == 0) | (suffixes[key] == suffixes[query])
        return (posts[query] == posts[key]) & of_a_kind & (key <= query)

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
    """Count the pairs of a query and a key that it sees, by block: (blocks, blocks) float32, exact below 2^24.

    A prefix is one part and each suffix another. The keys that a query sees are its own part's up to itself and, for a
    suffix, all of its post's prefix. So away from the diagonal a block's pairs are a product of counts.

    Args:
        posts: (T,), the post of each token.
        suffixes: (T,), its suffix, counted from 1; 0 is the prefix.
        parts: (T,), its part, counted through all posts.
        n_posts: How many posts there are.
        n_parts: How many parts.
    """
    blocks = torch.arange(len(posts), device=posts.device) // _BLOCK
    n_blocks = -(-len(posts) // _BLOCK)

    def counted(of: Tensor, number: int, chosen: Tensor) -> Tensor:
        counts = torch.zeros(number * n_blocks, device=of.device)
        return counts.index_add_(0, of * n_blocks + blocks, chosen.float()).view(number, n_blocks)

    of_parts = counted(parts, n_parts, torch.ones_like(suffixes))
    of_suffixes, of_prefixes = (counted(posts, n_posts, chosen) for chosen in (suffixes > 0, suffixes == 0))
    # On the diagonal a part sees itself causally, n (n + 1) / 2 pairs: never none, and never all.
    return (
        (of_parts.T @ of_parts).tril(-1) + (of_parts * (of_parts + 1) / 2).sum(0).diag() + of_suffixes.T @ of_prefixes
    )


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many blocks of keys each block of queries has, (1, 1, blocks), and which: those first, in order."""
    numbers = chosen.sum(-1, dtype=torch.int32)
    indices = chosen.int().argsort(dim=-1, descending=True, stable=True).int()
    return numbers[None, None], indices[None, None]


class _Segment(NamedTuple):
    """Sequences that see some earlier tokens of their post in full, and each itself causally.

    Attributes:
        seen: The earlier tokens, a range of the row.
        own: The sequences' tokens, a range of the row.
        table: (K, S): K sequences of at most S tokens.
        cells: As in `PackedPost`; None where the own tokens fill the table in order.
    """

    seen: slice
    own: slice
    table: tuple[int, int]
    cells: Tensor | None


def _segments(packing: Packing) -> Iterator[_Segment]:
    """Pieces of each prefix, each of which sees those before it; then the suffixes, which see the whole prefix."""
    for post in packing:
        for start in range(post.start, post.suffixes, _PIECE):
            end = min(start + _PIECE, post.suffixes)
            yield _Segment(slice(post.start, start), slice(start, end), (1, end - start), None)
        full = post.criteria * post.longest == post.end - post.suffixes
        yield _Segment(
            slice(post.start, post.suffixes),
            slice(post.suffixes, post.end),
            (post.criteria, post.longest),
            None if full else post.cells,
        )


class _Steps(NamedTuple):
    """What is computed for a segment, as it stands or compiled: see `_attend` and `_gradients`."""

    attend: Callable[..., tuple[Tensor, ...]]
    gradients: Callable[..., tuple[Tensor, ...]]


class _PackedAttention(torch.autograd.Function):
    """Softmax attention within segments, with its gradient written out so that nothing is copied or computed twice.

    The gradient is FlashAttention's (Dao et al. 2022, arXiv 2205.14135, appendix B.2) with the weights kept: for
    weights P = E / sum(E), output o and its gradient g, the scores' gradient is P * (g v^T - g . o).
    Shapes below: G groups of R heads, K sequences of S tokens, N = K * S * R queries of a group, P tokens seen.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, scaling: float, packing: Packing, steps: _Steps
    ) -> Tensor:
        """The heads' outputs, (T, H, D), of (H, T, D) queries and (G, T, D) keys and values."""
        groups = key.shape[0]
        q = (query * scaling).unflatten(0, (groups, -1)).transpose(1, 2).contiguous()  # (G, T, R, D)
        k, v = key.contiguous(), value.contiguous()
        out = torch.empty_like(q)
        kept: list[Tensor] = []
        for segment in _segments(packing):
            own = [_gather(states, segment) for states in (q, k, v)]
            attended, *weights = steps.attend(*own, k[:, segment.seen], v[:, segment.seen])
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
            own = [_gather(states, segment) for states in (q, k, v, out, gradient)]
            found = ctx.steps.gradients(*own, k[:, segment.seen], v[:, segment.seen], *weights)
            to_own_q, to_own_k, to_own_v, to_seen_k, to_seen_v = found
            _scatter(to_q, to_own_q, segment)
            _add(to_k, to_own_k, segment)
            _add(to_v, to_own_v, segment)
            to_k[:, segment.seen] += to_seen_k
            to_v[:, segment.seen] += to_seen_v
        return (to_q * ctx.scaling).transpose(1, 2).flatten(0, 1), to_k, to_v, None, None, None


def _attend(own_q: Tensor, own_k: Tensor, own_v: Tensor, seen_k: Tensor, seen_v: Tensor) -> tuple[Tensor, ...]:
    """What a segment's queries (G, K, S, R, D) attend to; the softmax's numerators, seen and own, and their sums."""
    seen, own = _exponentials(own_q, seen_k, own_k)
    total = own.sum(-1, dtype=torch.float32).view(seen.shape[:2]) + seen.sum(-1, dtype=torch.float32)
    attended = torch.bmm(own, own_v.flatten(0, 1)).view(*total.shape, -1)
    if seen.shape[-1]:
        attended += torch.bmm(seen, seen_v)
    return (attended / total[..., None]).to(own_q.dtype).view_as(own_q), seen, own, total


# Written with reshapes to (..., -1) that went from (G, N, D) back to sequences, it came out of torch 2.13's compiler
# with wrong gradients; test_compiled_equals_plain holds this form to the plain one.
def _gradients(
    own_q: Tensor,
    own_k: Tensor,
    own_v: Tensor,
    own_out: Tensor,
    own_g: Tensor,
    seen_k: Tensor,
    seen_v: Tensor,
    seen: Tensor,
    own: Tensor,
    total: Tensor,
) -> tuple[Tensor, ...]:
    """Gradients by a segment's queries, its own keys and values, (G * K, S, D), and those seen, (G, P, D)."""
    mean = (own_g * own_out).sum(-1, dtype=torch.float32).view_as(total)
    g = (own_g / total.view(own_g.shape[:-1])[..., None]).to(own_q.dtype)
    mean = (mean / total).to(own_q.dtype)[..., None]  # (G, N, 1)

    # By sequence: (G * K, S * R, D) and (G * K, S, D).
    queries, by_sequence = (states.flatten(0, 1).flatten(1, 2) for states in (own_q, g))
    own_k, own_v = own_k.flatten(0, 1), own_v.flatten(0, 1)
    scores = torch.bmm(by_sequence, own_v.transpose(1, 2)).sub_(mean.view(*own.shape[:2], 1)).mul_(own)
    to_q = torch.bmm(scores, own_k).view_as(own_q)
    to_own_k = torch.bmm(scores.transpose(1, 2), queries)
    to_own_v = torch.bmm(own.transpose(1, 2), by_sequence)
    if not seen.shape[-1]:
        return to_q, to_own_k, to_own_v, torch.zeros_like(seen_k), torch.zeros_like(seen_v)
    queries, g = own_q.flatten(1, 3), g.flatten(1, 3)  # (G, N, D)
    scores = torch.bmm(g, seen_v.transpose(1, 2)).sub_(mean).mul_(seen)
    to_q += torch.bmm(scores, seen_k).view_as(own_q)
    return to_q, to_own_k, to_own_v, torch.bmm(scores.transpose(1, 2), queries), torch.bmm(seen.transpose(1, 2), g)


def _exponentials(q: Tensor, seen_k: Tensor, own_k: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax numerators of scaled queries, those over seen tokens (G, N, P) and over own ones (G * K, S * R, S).

    Scores are in the inputs' dtype, as the products that make them; each row's largest is taken off first.
    """
    groups, sequences, length, heads, width = q.shape
    seen = torch.bmm(q.reshape(groups, -1, width), seen_k.transpose(1, 2))
    own = torch.bmm(q.reshape(groups * sequences, -1, width), own_k.flatten(0, 1).transpose(1, 2))
    later = torch.full((length, length), -torch.inf, dtype=q.dtype, device=q.device).triu_(1)
    own.view(-1, length, heads, length).add_(later[:, None])
    largest = own.amax(-1, keepdim=True).view(*seen.shape[:2], 1)
    if seen.shape[-1]:
        largest = torch.maximum(largest, seen.amax(-1, keepdim=True))
        seen.sub_(largest).exp_()
    own.sub_(largest.view(*own.shape[:2], 1)).exp_()
    return seen, own


_PLAIN = _Steps(_attend, _gradients)


@cache
def _compiled_steps() -> _Steps:
    return _Steps(torch.compile(_attend, dynamic=True), torch.compile(_gradients, dynamic=True))


def _gather(states: Tensor, segment: _Segment) -> Tensor:
    """A segment's own tokens out of (G, T, ...) as a table, (G, K, S, ...), zeros in its empty cells."""
    own: Tensor = states[:, segment.own]
    if segment.cells is not None:
        sequences, length = segment.table
        empty = own.new_zeros(own.shape[0], sequences * length, *own.shape[2:])
        own = empty.index_copy_(1, segment.cells, own)
    return own.view(own.shape[0], *segment.table, *own.shape[2:])


def _scatter(states: Tensor, table: Tensor, segment: _Segment) -> None:
    """Writes the table of `_gather` back."""
    own = table.flatten(1, 2)
    states[:, segment.own] = own if segment.cells is None else own.index_select(1, segment.cells)


def _add(states: Tensor, rows: Tensor, segment: _Segment) -> None:
    """Adds what (G * K, S, D) holds for a segment's own tokens to (G, T, D)."""
    own = rows.view(states.shape[0], -1, rows.shape[-1])
    states[:, segment.own] += own if segment.cells is None else own.index_select(1, segment.cells)


AttentionInterface.register(NAME, shared_prefix_attention)
