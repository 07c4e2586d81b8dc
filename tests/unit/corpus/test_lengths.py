import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentallam.corpus.lengths import length_histogram, length_summary, words_per_post


def test_words_and_their_summary() -> None:
    words = words_per_post(pd.Series(["one", "one two three", "a b"]))
    assert words.tolist() == [1, 3, 2]
    assert length_summary(words) == {"mean": 2.0, "min": 1, "q25": 1.5, "q50": 2.0, "q75": 2.5, "max": 3}


@pytest.mark.parametrize(
    ("lengths", "edges", "posts"),
    [([5], [5, 6], [1]), ([1, 1, 2, 4], [1, 2, 3, 4, 5], [2, 1, 0, 1]), ([0, 1], [1, 2], [2])],
)
def test_short_posts_have_bins_of_one(lengths: list[int], edges: list[int], posts: list[int]) -> None:
    assert length_histogram(pd.Series(lengths)) == {"edges": edges, "posts": posts}


@given(st.lists(st.integers(1, 100_000), min_size=1))
def test_every_post_is_in_the_bin_of_its_length(lengths: list[int]) -> None:
    found = length_histogram(pd.Series(lengths))
    edges, posts = found["edges"], found["posts"]
    assert edges == sorted(set(edges)) and len(edges) == len(posts) + 1
    for lower, upper, n in zip(edges[:-1], edges[1:], posts, strict=True):
        assert n == sum(lower <= length < upper for length in lengths)
    assert sum(posts) == len(lengths)
    assert posts[0] and posts[-1]
