"""Attention of one layer over a packed row, in three ways that take turns; medians in milliseconds.

python benchmarks/attention.py
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as functional
from torch import nn

from mentallam.classifier.attention import shared_prefix_attention
from mentallam.classifier.packing import PackedBatch, pack
from mentallam.classifier.prompts import PostExample

HEADS, GROUPS, WIDTH = 9, 3, 64  # the shape of SmolLM2-135M
ROUNDS = 15


def batch(posts: int, prefix: int, criteria: int, suffix: int) -> PackedBatch:
    """Pack equally long posts into one row; `prefix` and `suffix` are numbers of tokens."""
    one = [[1] * suffix for _ in range(criteria)]
    return pack(
        [PostExample(str(p), [1] * prefix, False, [str(k) for k in range(criteria)], one, []) for p in range(posts)]
    )


def dense(q, k, v, packed: PackedBatch, posts: int):  # type: ignore[no-untyped-def]
    """Attend with one (L, L) mask per post, as transformers does."""
    length = q.shape[2] // posts
    q, k, v = (t[0].unflatten(1, (posts, length)).transpose(0, 1) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=packed["mask"], enable_gqa=True)  # type: ignore[typeddict-item]


def copied(q, k, v, packed: PackedBatch):  # type: ignore[no-untyped-def]
    """Attend with the prefix's keys copied to every suffix, in a fused kernel."""
    prefix = torch.stack([torch.arange(post.start, post.suffixes) for post in packed["packing"]])
    suffix = torch.stack([torch.arange(post.suffixes, post.end).view(post.criteria, -1) for post in packed["packing"]])
    criteria = suffix.shape[1]
    q, k, v = (t[0].transpose(0, 1) for t in (q, k, v))
    first = functional.scaled_dot_product_attention(
        *(t[prefix].transpose(1, 2) for t in (q, k, v)), is_causal=True, enable_gqa=True
    )
    suffix_q, suffix_k, suffix_v = (t[suffix.flatten(0, 1)].transpose(1, 2) for t in (q, k, v))
    keys, values = (
        torch.cat([t[prefix].transpose(1, 2).repeat_interleave(criteria, 0), of_suffix], 2)
        for t, of_suffix in ((k, suffix_k), (v, suffix_v))
    )
    causal = torch.ones(suffix.shape[2], suffix.shape[2]).tril().bool()
    mask = torch.cat([torch.ones(suffix.shape[2], prefix.shape[1]).bool(), causal], 1)
    return first, functional.scaled_dot_product_attention(suffix_q, keys, values, attn_mask=mask, enable_gqa=True)


def timed(run, states) -> float:  # type: ignore[no-untyped-def]
    """Return the milliseconds of one forward and backward pass."""
    start = time.perf_counter()
    out = run()
    torch.autograd.grad(sum(o.sum() for o in (out if isinstance(out, tuple) else (out,)) if o is not None), states)
    return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| post tokens | suffix tokens | dense mask | prefix copied | plain products (ours) |")
    print("| --- | --- | --- | --- | --- |")
    for prefix, suffix in ((80, 22), (380, 22), (380, 40)):
        posts, criteria = 4, 9
        packed = batch(posts, prefix, criteria, suffix)
        length = prefix + criteria * suffix
        segment = torch.cat([torch.zeros(prefix), torch.arange(1, criteria + 1).repeat_interleave(suffix)])
        sees = (segment[None] == segment[:, None]) | (segment[None] == 0)
        packed["mask"] = sees & torch.ones(length, length).tril().bool()  # type: ignore[typeddict-unknown-key]
        states = [
            torch.randn(1, h, posts * length, WIDTH, dtype=torch.bfloat16, requires_grad=True)
            for h in (HEADS, GROUPS, GROUPS)
        ]
        ways = {
            "dense": lambda: dense(*states, packed, posts),
            "copied": lambda: copied(*states, packed),
            "ours": lambda: shared_prefix_attention(nn.Identity(), *states, None, packing=packed["packing"]),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, way in ways.items():
                times[name].append(timed(way, states))
        row = " | ".join(f"{statistics.median(times[name]):.1f}" for name in ways)
        print(f"| {prefix} | {criteria} x {suffix} | {row} |")


if __name__ == "__main__":
    main()
