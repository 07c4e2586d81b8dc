import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mentallam.corpus.subsets import LearningCurveOptions, nested_subsets, sized_splits
from mentallam.errors import MentallamError


@given(
    st.dictionaries(st.text(min_size=1, max_size=4), st.sampled_from("abcdefg"), min_size=1),
    st.lists(st.integers(1, 100), min_size=1, max_size=4, unique=True),
    st.integers(0, 2**32 - 1),
    st.randoms(),
)
def test_subsets_grow_by_whole_groups(group_of: dict[str, str], percents: list[int], seed: int, rng: object) -> None:
    posts = list(group_of)
    subsets = nested_subsets(posts, group_of, sorted(percents), seed)
    rng.shuffle(posts)  # type: ignore[attr-defined]
    assert nested_subsets(posts, group_of, sorted(percents), seed) == subsets
    before: set[str] = set()
    for percent, subset in subsets.items():
        chosen = {group_of[post_id] for post_id in subset}
        assert {post_id for post_id in posts if group_of[post_id] in chosen} == set(subset)
        largest = max(sum(group_of[post_id] == group for post_id in posts) for group in chosen)
        share = percent * len(posts) / 100
        assert share - 1e-9 <= len(subset) < share + largest + 1e-9
        assert before <= set(subset)
        before = set(subset)
    assert subsets.get(100, sorted(posts)) == sorted(posts)


def test_dev_and_held_out_posts_are_the_same_at_all_sizes() -> None:
    ids = [f"p{number}" for number in range(10)]
    pairs = pd.DataFrame({"post_id": ids, "label": [0, 1] * 5})
    groups = pd.DataFrame({"post_id": ids, "group": ids})
    split = {"fold": 0, "seed": 42, "train": ids[:6], "dev": ids[6:8], "held_out": ids[8:]}
    other = {**split, "fold": 1, "train": ids[4:], "dev": ids[2:4], "held_out": ids[:2]}
    sized = sized_splits(LearningCurveOptions(sizes="50;100", folds=2), pairs, groups, split, other)
    assert [(each["size"], each["fold"]) for each in sized] == [(50, 0), (50, 1), (100, 0), (100, 1)]
    assert sized[2] == {**split, "size": 100, "train_pairs": 6, "train_positive": 3}
    assert len(sized[0]["train"]) == 3 and {*sized[0]["train"]} < {*split["train"]}
    assert all(each[part] == split[part] for each in sized[::2] for part in ("dev", "held_out"))
    with pytest.raises(MentallamError, match="learning_curve.folds is 3, but there are 2 folds"):
        sized_splits(LearningCurveOptions(sizes="50;100", folds=3), pairs, groups, split, other)


@pytest.mark.parametrize("sizes", ["", "50", "50;50", "100;50", "0;50", "50;101", "50;", "a;b", "2.5;50"])
def test_other_sizes_are_refused(sizes: str) -> None:
    with pytest.raises(ValidationError, match="it takes"):
        LearningCurveOptions(sizes=sizes, folds=1)
