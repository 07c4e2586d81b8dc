from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import set_seed

from mentallam.seeds import dev_split_seed, rank_seed, sample_seed, training_seed

DERIVED = (training_seed, dev_split_seed, sample_seed)
KEYS = st.tuples(st.integers(0, 2**40), st.integers(0, 100))


@pytest.mark.parametrize("derive", DERIVED)
@given(one=KEYS, other=KEYS)
def test_no_two_folds_of_any_seeds_share_a_seed(
    derive: Callable[[int, int], int], one: tuple[int, int], other: tuple[int, int]
) -> None:
    assume(one != other)
    assert derive(*one) != derive(*other)
    assert derive(*one) == derive(*one)


@pytest.mark.parametrize("derive", DERIVED)
def test_the_seeds_that_people_choose_are_all_different(derive: Callable[[int, int], int]) -> None:
    derived = {derive(seed, fold) for seed in range(500) for fold in range(10)}
    assert len(derived) == 5000
    for seed in derived:
        np.random.RandomState(seed)  # It accepts 32 bits.
    set_seed(max(derived))


def test_a_fold_has_different_seeds_for_different_things() -> None:
    assert len({derive(42, fold) for derive in DERIVED for fold in range(10)}) == 30


def test_each_rank_draws_something_else_in_each_step() -> None:
    drawn = {rank_seed(seed, step, rank) for seed in range(20) for step in range(50) for rank in range(1, 9)}
    assert len(drawn) == 8000
    assert drawn.isdisjoint(training_seed(seed, fold) for seed in range(20) for fold in range(10))


def test_seeds_stay_the_same_in_later_versions() -> None:
    """Pin the seeds, without which results could not be repeated; NumPy guarantees SeedSequence's stability."""
    expected = [3142992634, 3908812709, 2518636028, 1971025805, 966049817]
    assert [training_seed(42, fold) for fold in range(5)] == expected
