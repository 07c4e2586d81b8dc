import gc
import logging
import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel

from mentallam.classifier.passes import passes, run_in_passes
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.errors import MentallamError

pytestmark = pytest.mark.usefixtures("only_new_garbage")

GPU_FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
CPU_FULL = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory: you tried to ..."
)
WINDOWS_FULL = RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: not enough memory: you tried ...")


def post(name: str, prefix: int, suffixes: list[int]) -> PostExample:
    return PostExample(
        name, [0] * prefix, False, [str(k) for k in range(len(suffixes))], [[0] * length for length in suffixes], []
    )


posts = st.lists(st.tuples(st.integers(1, 30), st.lists(st.integers(1, 5), min_size=1, max_size=4)), max_size=12)


@given(posts, st.integers(1, 60))
def test_posts_are_in_one_pass_each_and_passes_in_budget(sizes: list[tuple[int, list[int]]], budget: int) -> None:
    examples = [post(str(number), *size) for number, size in enumerate(sizes)]
    lengths = [prefix + sum(suffixes) for prefix, suffixes in sizes]
    split = passes(examples, budget)
    assert sorted(position for chosen in split for position in chosen) == list(range(len(examples)))
    assert all(sum(lengths[position] for position in chosen) <= budget for chosen in split if len(chosen) > 1)
    in_order = [lengths[position] for chosen in split for position in chosen]
    assert in_order == sorted(lengths, reverse=True)
    for chosen, following in pairwise(split):  # No pass ends while the next post would fit.
        assert sum(lengths[position] for position in [*chosen, following[0]]) > budget


@pytest.mark.parametrize("error", [GPU_FULL, CPU_FULL, WINDOWS_FULL, MemoryError()])
def test_when_memory_runs_out_the_budget_is_halved_and_kept(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    examples = [post(str(number), 10, [5, 5]) for number in range(7)]
    done: list[int] = []

    def run(chosen: list[int]) -> None:
        if len(chosen) > 2:
            raise error
        done.extend(chosen)

    with caplog.at_level(logging.WARNING):
        assert run_in_passes(examples, 161, run, "") == 40
    assert sorted(done) == list(range(7))
    assert [record.args for record in caplog.records] == [(7, 80), (4, 40)]
    assert "out of memory with 7 posts in a pass; tokens_per_pass is 80 from here on" in caplog.text


def test_ended_passes_run_again_only_with_start_over() -> None:
    examples = [post(str(number), 10, [10]) for number in range(4)]
    calls: list[list[int]] = []

    def run(chosen: list[int]) -> None:
        calls.append(chosen)
        if 2 in chosen and len(chosen) > 1:
            raise CPU_FULL

    assert run_in_passes(examples, 40, run, "") == 20
    assert calls == [[0, 1], [2, 3], [2], [3]] or calls == [[0, 1, 2, 3], [0, 1], [2, 3], [2], [3]]
    calls.clear()
    assert run_in_passes(examples, 40, run, "", start_over=calls.clear) == 20
    assert calls == [[0], [1], [2], [3]]


def test_a_single_post_that_does_not_fit_is_one_sentence() -> None:
    def run(chosen: list[int]) -> None:
        raise CPU_FULL

    with pytest.raises(MentallamError) as error:
        run_in_passes([post("s_1", 10, [5]), post("s_2", 30, [5, 6])], 64, run, "buy memory")
    assert error.value.message == (
        "post s_2 (41 tokens with its 2 criteria) does not fit into memory by itself: buy memory"
    )


@pytest.mark.parametrize(
    ("suffixes", "words"), [([5], "15 tokens with its 1 criterion"), ([], "10 tokens"), ([5, 5], "2 criteria")]
)
def test_the_error_tells_the_size_of_a_post_that_does_not_fit(suffixes: list[int], words: str) -> None:
    def run(chosen: list[int]) -> None:
        raise MemoryError

    with pytest.raises(MentallamError, match=rf"^post s_1 \(([^)]*){words}\) does not fit"):
        run_in_passes([post("s_1", 10, suffixes)], 64, run, "")


def test_the_smallest_budget_is_one_token() -> None:
    budgets: list[int] = []

    def run(chosen: list[int]) -> None:
        budgets.append(len(chosen))
        if len(chosen) > 1:
            raise MemoryError

    assert run_in_passes([post(str(number), 1, []) for number in range(3)], 3, run, "") == 1
    assert budgets == [3, 1, 1, 1]


def test_a_post_alone_in_its_pass_is_not_run_again_where_a_later_one_fails() -> None:
    """Check that the error names the post of the broken pass, not one of an ended pass."""

    def run(chosen: list[int]) -> None:
        if chosen == [2]:
            raise MemoryError

    with pytest.raises(MentallamError, match=r"^post c \(3 tokens\)"):
        run_in_passes([post("a", 5, []), post("b", 4, []), post("c", 3, [])], 1, run, "")


def test_tensors_of_a_broken_pass_are_freed_before_the_next() -> None:
    class Tensor:
        pass

    broken: list[weakref.ref[Tensor]] = []
    found: list[bool] = []

    def run(chosen: list[int]) -> None:
        found.append(any(reference() for reference in broken))
        if len(chosen) > 1:
            tensor = Tensor()
            tensor.itself = tensor  # type: ignore[attr-defined]  # only the garbage collector frees it
            broken.append(weakref.ref(tensor))
            raise MemoryError

    gc.disable()
    try:
        run_in_passes([post("a", 2, []), post("b", 1, [])], 3, run, "")
    finally:
        gc.enable()
    assert len(broken) == 1 and found == [False, False, False]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    def run(chosen: list[int]) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_in_passes([post("a", 1, [1])] * 2, 64, run, "")


@pytest.mark.parametrize("tokens_per_pass", [1, 200, 10_000])
def test_scores_keep_the_order_of_the_examples(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], tokens_per_pass: int
) -> None:
    model, _ = classifier
    alone = np.concatenate([score_pairs(model, [example], 1) for example in examples])
    assert alone.std() > 1e-3
    np.testing.assert_allclose(score_pairs(model, examples, tokens_per_pass), alone, rtol=0, atol=1e-5)
    assert score_pairs(model, [], tokens_per_pass).shape == (0,)


def test_scores_survive_a_lack_of_memory(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = classifier
    expected = score_pairs(model, examples, 10_000)

    def fail(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].shape[1] > 300:
            raise CPU_FULL

    with model.base_model.model.model.layers[0].register_forward_pre_hook(fail):
        np.testing.assert_allclose(score_pairs(model, examples, 1200), expected, rtol=0, atol=1e-5)
    assert [record.args[1] for record in caplog.records if record.args] == [600, 300]


def test_a_post_that_cannot_be_scored_is_an_error_that_says_what_to_do(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    def fail(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        raise CPU_FULL

    model, _ = classifier
    with (
        model.base_model.model.model.layers[0].register_forward_pre_hook(fail),
        pytest.raises(
            MentallamError, match=r"^post s_1_2 \(264 tokens with its 2 criteria\) .* set inference.dtype=bf"
        ),
    ):
        score_pairs(model, examples, 10_000)
