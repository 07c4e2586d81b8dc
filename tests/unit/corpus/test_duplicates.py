import random
from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.corpus.duplicates import find_duplicates, shingles
from mentallam.corpus.groups import group_posts
from mentallam.corpus.readers import Corpus

WORDS = [f"word{number}" for number in range(300)]
BASE = " ".join(WORDS)


def posts_of(**texts: str) -> pd.DataFrame:
    return pd.DataFrame({"post_id": list(texts), "text": list(texts.values())})


def found(posts: pd.DataFrame, threshold: float = 0.8) -> list[list[object]]:
    return find_duplicates(posts, threshold).to_numpy().tolist()


def similarity(first: str, second: str) -> float:
    a, b = shingles(first), shingles(second)
    return len(a & b) / len(a | b)


def test_copies_and_near_copies_are_linked_with_their_similarity() -> None:
    edited = BASE.replace("word150", "another")
    posts = posts_of(c=BASE, a=BASE, d=edited, b="quite other words than those of the rest")
    assert found(posts) == [["c", "a", 1.0], ["d", "a", pytest.approx(291 / 301)]]


def test_case_and_punctuation_do_not_count() -> None:
    assert found(posts_of(a="I can not sleep at night", b="i can NOT sleep, at night!"), 1) == [["b", "a", 1.0]]


def test_short_posts_are_duplicates_only_as_a_whole() -> None:
    assert found(posts_of(a="so tired", b="so tired now", c="So tired.", d=":(", e=":)")) == [["c", "a", 1.0]]


def test_the_threshold_decides() -> None:
    posts = posts_of(a=BASE, b=" ".join(WORDS[:270] + [f"new{number}" for number in range(30)]))
    alike = similarity(*posts["text"])
    assert 0.8 < alike < 0.82
    assert len(found(posts, alike)) == 1
    assert found(posts, alike + 1e-9) == []


def test_many_copies_of_one_post_take_one_link_each() -> None:
    posts = posts_of(**{f"p{number:03}": f"{BASE} {number}" for number in range(100)})
    assert len(find_duplicates(posts, 0.8)) == 99


def test_few_pairs_at_the_threshold_are_overlooked() -> None:
    """MinHash may rarely miss a pair; these 300 pairs are barely above the threshold."""
    rng = random.Random(0)
    texts = {}
    for number in range(300):
        words = [f"w{rng.randrange(10**9)}" for _ in range(300)]
        texts[f"a{number:03}"] = " ".join(words)
        texts[f"b{number:03}"] = " ".join([*words[:268], *(f"x{place}" for place in range(32))])
    posts = posts_of(**texts)
    assert 0.8 <= similarity(texts["a000"], texts["b000"]) < 0.805
    assert len(find_duplicates(posts, 0.8)) >= 290


@st.composite
def corpora(draw: st.DrawFn) -> pd.DataFrame:
    """Draw short posts from four words, so that many are alike."""
    texts = draw(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9).map(" ".join), max_size=12))
    ids = draw(st.permutations([f"p{number}" for number in range(len(texts))]))
    return pd.DataFrame({"post_id": list(ids), "text": texts}, dtype=str)


@settings(deadline=None, max_examples=50)
@given(corpora(), st.integers(0, 100))
def test_the_order_of_rows_does_not_matter_and_links_are_true(posts: pd.DataFrame, seed: int) -> None:
    links = find_duplicates(posts, 0.8)
    assert find_duplicates(posts.sample(frac=1, random_state=seed), 0.8).equals(links)
    text = posts.set_index("post_id")["text"]
    for post_id, other, alike in links.itertuples(index=False):
        assert other < post_id
        assert alike == similarity(text[post_id], text[other]) >= 0.8
    # Identical texts are always in one group.
    groups = group_posts(posts, "post_id", links).set_index("post_id")["group"]
    for one, other in combinations(posts["post_id"], 2):
        if text[one] == text[other]:
            assert groups[one] == groups[other]


def test_the_sample_has_none(sample: Corpus) -> None:
    assert find_duplicates(sample.posts, 0.8).empty
    assert len(find_duplicates(sample.posts, 0.6)) == 1  # its phrases recur
