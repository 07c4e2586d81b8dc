import shutil

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, create_mask

from mentallam.classifier import attention
from mentallam.classifier.packing import Packing, pack
from mentallam.classifier.prompts import PostExample

posts = st.lists(
    st.tuples(st.integers(0, 11), st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=1, max_size=3
)


def sees(packing: Packing, length: int) -> Tensor:
    """Return (T, T) bool by the rule: a token sees the prefix of its post and its suffix, up to itself."""
    part = torch.full((length, 2), -1)  # post, suffix; suffix -1 is the prefix
    for number, post in enumerate(packing):
        part[post.start : post.end, 0] = number
        part[post.suffixes : post.end, 1] = post.cells // post.longest
    same_post = part[:, None, 0] == part[None, :, 0]
    same_part = part[:, None, 1] == part[None, :, 1]
    return same_post & (same_part | (part[None, :, 1] == -1)) & torch.ones(length, length).tril().bool()


def with_one_token_everywhere(lengths: list[tuple[int, list[int]]]) -> list[PostExample]:
    return [
        PostExample(str(number), [1] * prefix, False, [str(k) for k in range(len(ends))], [[1] * n for n in ends], [])
        for number, (prefix, ends) in enumerate(lengths)
    ]


@given(posts, st.sampled_from([(4, 2), (3, 1), (2, 2)]), st.integers(1, 6))
@example([(5, [3, 3]), (300, [2, 2, 2])], (4, 2), 4)  # suffixes of one length fill their table
@settings(max_examples=60, deadline=None)
def test_equals_softmax_under_a_dense_mask(
    lengths: list[tuple[int, list[int]]], heads: tuple[int, int], piece: int
) -> None:
    batch = pack(with_one_token_everywhere(lengths))
    packing, pool_index = batch["packing"], batch["pool_index"]
    length = packing[-1].end
    torch.manual_seed(length)
    states = [torch.randn(1, n, length, 4, requires_grad=True) for n in (heads[0], heads[1], heads[1])]
    gradient = torch.randn(1, length, heads[0], 4)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_PIECE", piece)
        ours, _ = attention.shared_prefix_attention(nn.Identity(), *states, None, packing=packing)
        our_gradients = torch.autograd.grad(ours, states, gradient)
        with torch.no_grad():
            forward_only, _ = attention.shared_prefix_attention(nn.Identity(), *states, None, packing=packing)
            query, key, value = (state[0] for state in states)
            pooled = attention.pooled_attention(query[:, pool_index], key, value, 0.5, packing)

    q, k, v = (t.repeat_interleave(heads[0] // t.shape[1], 1) for t in states)
    scores = (q @ k.transpose(2, 3) / 2).masked_fill(~sees(packing, length), -torch.inf)
    dense = (scores.softmax(-1) @ v).transpose(1, 2)
    torch.testing.assert_close(ours, dense)
    torch.testing.assert_close(forward_only, dense)
    torch.testing.assert_close(pooled, dense[0, pool_index])
    for our, expected in zip(our_gradients, torch.autograd.grad(dense, states, gradient), strict=True):
        torch.testing.assert_close(our, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "lengths", [pytest.param([(300, [9, 9, 9])], marks=pytest.mark.slow), [(400, [20] * 9), (270, [2, 8])]]
)
def test_compiled_equals_plain(lengths: list[tuple[int, list[int]]]) -> None:
    packing = pack(with_one_token_everywhere(lengths))["packing"]
    length = packing[-1].end
    torch.manual_seed(length)
    states = [torch.randn(1, n, length, 16, requires_grad=True) for n in (4, 2, 2)]
    gradient = torch.randn(1, length, 4, 16)
    found = []
    for seen in (packing, attention.for_compiled_layers(packing, torch.device("cpu"))):
        out, _ = attention.shared_prefix_attention(nn.Identity(), *states, None, packing=seen)
        found.append((out, *torch.autograd.grad(out, states, gradient)))
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)


@given(posts)
@settings(max_examples=30, deadline=None)
def test_the_mask_of_the_fused_kernel_is_the_rule(lengths: list[tuple[int, list[int]]]) -> None:
    packing = pack(with_one_token_everywhere(lengths))["packing"]
    length = packing[-1].end
    rule = attention.block_mask(packing, torch.device("cpu")).mask_mod
    assert torch.equal(create_mask(rule, None, None, length, length, "cpu")[0, 0], sees(packing, length))


@given(posts, st.integers(1, 6))
@example([(0, [1]), (9, [3, 3, 5]), (11, [5])], 3)
@settings(max_examples=60, deadline=None)
def test_the_blocks_of_the_mask_equal_those_that_pytorch_finds_pair_by_pair(
    lengths: list[tuple[int, list[int]]], block: int
) -> None:
    packing = pack(with_one_token_everywhere(lengths))["packing"]
    length = packing[-1].end
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "_BLOCK", block)
        ours = attention.block_mask(packing, torch.device("cpu"))
    pytorchs = create_block_mask(ours.mask_mod, None, None, length, length, device="cpu", BLOCK_SIZE=block)
    assert (ours.seq_lengths, ours.BLOCK_SIZE) == (pytorchs.seq_lengths, pytorchs.BLOCK_SIZE)
    for kind in ("kv", "full_kv", "q", "full_q"):
        for name in (f"{kind}_num_blocks", f"{kind}_indices"):
            found, expected = getattr(ours, name), getattr(pytorchs, name)
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected), name


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_fused_attention_equals_plain_where_a_cpu_can_show_it() -> None:
    """Compare the forward only; tests/gpu compares the gradient. The row has hidden, partly visible and full blocks."""
    packing = pack(with_one_token_everywhere([(300, [40, 90, 7]), (150, [30, 30])]))["packing"]
    mask = attention.block_mask(packing, torch.device("cpu"))
    assert mask.kv_num_blocks.sum() > 6
    assert mask.full_kv_num_blocks.sum() > 0
    assert mask.sparsity() > 30
    torch.manual_seed(0)
    states = [torch.randn(1, n, packing[-1].end, 16) for n in (4, 2, 2)]
    fused = torch.compile(attention.shared_prefix_attention)
    with torch.no_grad():
        outputs = [
            f(nn.Identity(), *states, None, packing=p)[0]
            for f, p in ((fused, mask), (attention.shared_prefix_attention, packing))
        ]
    torch.testing.assert_close(*outputs)


def test_large_scores_do_not_overflow() -> None:
    packing = pack([PostExample("p", [1] * 4, False, ["a"], [[1, 1]], [])])["packing"]
    states = [torch.full((1, 1, 6, 4), 50.0, requires_grad=True) for _ in range(3)]
    out, _ = attention.shared_prefix_attention(nn.Identity(), *states, None, packing=packing)
    torch.testing.assert_close(out, torch.full((1, 6, 1, 4), 50.0))


def test_dropout_is_refused() -> None:
    packing = pack([PostExample("p", [1], False, ["a"], [[1]], [])])["packing"]
    states = [torch.zeros(1, 1, 2, 4) for _ in range(3)]
    with pytest.raises(ValueError, match="attention_dropout"):
        attention.shared_prefix_attention(nn.Identity(), *states, None, dropout=0.1, packing=packing)
