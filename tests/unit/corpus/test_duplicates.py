import random
from itertools import combinations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import DisjointSet

from mentallam.corpus import duplicates
from mentallam.corpus.duplicates import FEWEST_WORDS, find_duplicates, shingles
from mentallam.corpus.groups import group_posts
from mentallam.corpus.readers import Corpus

WORDS = [f"word{number}" for number in range(300)]
BASE = " ".join(WORDS)


def posts_of(**texts: str) -> pd.DataFrame:
    return pd.DataFrame({"post_id": list(texts), "text": list(texts.values())})


def found(posts: pd.DataFrame, threshold: float = 0.8) -> list[list[object]]:
    columns = ["post_id", "duplicate_of", "similarity"]
    return find_duplicates(posts, threshold)[columns].to_numpy().tolist()


def similarity(first: str, second: str) -> float:
    a, b = set(shingles(first)), set(shingles(second))
    return len(a & b) / len(a | b)


def containment(first: str, second: str) -> float:
    a, b = set(shingles(first)), set(shingles(second))
    return len(a & b) / min(len(a), len(b))


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


def new_words(rng: random.Random, n: int) -> list[str]:
    return [f"w{rng.randrange(10**9)}" for _ in range(n)]


def test_no_pair_at_the_threshold_is_overlooked() -> None:
    """These 300 pairs are barely above the threshold."""
    rng = random.Random(0)
    texts = {}
    for number in range(300):
        words = new_words(rng, 300)
        texts[f"a{number:03}"] = " ".join(words)
        texts[f"b{number:03}"] = " ".join([*words[:268], *(f"x{place}" for place in range(32))])
    posts = posts_of(**texts)
    assert 0.8 <= similarity(texts["a000"], texts["b000"]) < 0.805
    assert len(find_duplicates(posts, 0.8)) == 300


def test_a_post_with_words_appended_or_some_words_changed_is_linked() -> None:
    words = WORDS[:100]
    appended = " ".join([*words, *WORDS[200:230]])
    changed = " ".join("another" if place in (12, 37, 61, 88) else word for place, word in enumerate(words))
    for copy in (appended, changed, f"It starts otherwise. {' '.join(words)} And ends so."):
        posts = posts_of(a=" ".join(words), b=copy, c="these words are in no other post but this one")
        [[post_id, duplicate_of, alike, contained]] = find_duplicates(posts, 0.8, 0.75).to_numpy().tolist()
        assert (post_id, duplicate_of) == ("b", "a")
        assert (alike, contained) == (similarity(posts["text"][0], copy), containment(posts["text"][0], copy))
    # By default only a part without any change is one.
    assert found(posts_of(a=" ".join(words), b=appended, c=changed)) == [["b", "a", pytest.approx(96 / 126)]]


def test_the_containment_decides_from_fifty_words_on() -> None:
    rng = random.Random(1)
    words = new_words(rng, 60)
    longer = " ".join([*new_words(rng, 40), *words[:50], *new_words(rng, 40)])
    contained = containment(" ".join(words), longer)
    assert 0.8 < contained < 0.85
    posts = posts_of(a=" ".join(words), b=longer)
    assert len(find_duplicates(posts, 0.8, contained)) == 1
    assert find_duplicates(posts, 0.8, contained + 1e-9).empty
    for n_words, links in ((FEWEST_WORDS - 1, 0), (FEWEST_WORDS, 1)):
        part = posts_of(a=" ".join(words[:n_words]), b=" ".join([*words, *new_words(rng, 40)]))
        assert len(find_duplicates(part, 0.8, 0.75)) == links


def test_phrases_here_and_there_in_a_very_long_post_are_no_copy() -> None:
    rng = random.Random(2)
    words = new_words(rng, 96)
    scattered = [word for start in range(0, 96, 24) for word in (*words[start : start + 24], *new_words(rng, 300))]
    assert containment(" ".join(words), " ".join(scattered)) > 0.8
    assert find_duplicates(posts_of(a=" ".join(words), b=" ".join(scattered)), 0.8, 0.75).empty


def test_a_template_takes_few_comparisons_and_says_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The short posts are but the beginning of the template, so that their rarest runs are those of all others."""
    rng = random.Random(3)
    template = new_words(rng, 60)
    texts = {f"p{number:03}": " ".join([*template, *new_words(rng, 60)]) for number in range(300)}
    texts |= {f"q{number:03}": " ".join([*template[:45], *new_words(rng, 1)]) for number in range(100)}
    compared: list[tuple[int, int]] = []
    monkeypatch.setattr(duplicates, "DisjointSet", counting(compared))
    posts = posts_of(**texts)
    with caplog.at_level("WARNING"):
        assert len(find_duplicates(posts, 0.8)) == 99  # the short posts
    assert 0 < len(compared) <= 2 * len(texts) * duplicates._MOST_COMPARED
    [message] = caplog.messages
    assert message.startswith("100 posts share runs of words with more than 32 others, perhaps a template")
    # What is no template finds its copy all the same.
    copy = f"{texts['p150']} and one more word"
    assert ["z", "p150"] in find_duplicates(posts_of(**texts, z=copy), 0.8).iloc[:, :2].to_numpy().tolist()


def counting(compared: list[tuple[int, int]]) -> type[DisjointSet]:
    class Counted(DisjointSet):
        def connected(self, x: int, y: int) -> bool:
            compared.append((x, y))
            return bool(super().connected(x, y))

    return Counted


@st.composite
def corpora(draw: st.DrawFn) -> pd.DataFrame:
    """Draw short posts from four words, so that many are alike."""
    texts = draw(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=9).map(" ".join), max_size=12))
    ids = draw(st.permutations([f"p{number}" for number in range(len(texts))]))
    return pd.DataFrame({"post_id": list(ids), "text": texts}, dtype=str)


@settings(deadline=None, max_examples=50)
@given(corpora(), st.integers(0, 100), st.sampled_from([0.5, 0.6, 0.8, 1]))
def test_the_order_of_rows_does_not_matter_and_links_are_all_true_ones(
    posts: pd.DataFrame, seed: int, threshold: float
) -> None:
    links = find_duplicates(posts, threshold)
    assert find_duplicates(posts.sample(frac=1, random_state=seed), threshold).equals(links)
    text = posts.set_index("post_id")["text"]
    for post_id, other, alike, _ in links.itertuples(index=False):
        assert other < post_id
        assert alike == similarity(text[post_id], text[other]) >= threshold
    # The links connect what a comparison of all pairs connects.
    sets = DisjointSet(posts["post_id"])
    for one, other in combinations(posts["post_id"], 2):
        if similarity(text[one], text[other]) >= threshold:
            sets.merge(one, other)
    groups = group_posts(posts.assign(author=None), "post_id", links)
    assert groups["group"].tolist() == [min(sets.subset(post_id)) for post_id in posts["post_id"]]


@settings(deadline=None, max_examples=50)
@given(corpora())
def test_identical_texts_are_in_one_group(posts: pd.DataFrame) -> None:
    text, links = posts.set_index("post_id")["text"], find_duplicates(posts, 0.8)
    posts = posts.assign(author=None)
    # Identical texts are always in one group.
    groups = group_posts(posts, "post_id", links).set_index("post_id")["group"]
    for one, other in combinations(posts["post_id"], 2):
        if text[one] == text[other]:
            assert groups[one] == groups[other]


def test_the_sample_has_none(sample: Corpus) -> None:
    assert find_duplicates(sample.posts, 0.8, 0.75).empty
    assert len(find_duplicates(sample.posts, 0.6)) == 1  # its phrases recur
