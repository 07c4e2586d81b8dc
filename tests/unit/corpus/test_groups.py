import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import DisjointSet

from mentallam.corpus.groups import author_of, group_posts
from mentallam.errors import MentallamError

POSTS = pd.DataFrame({"post_id": ["s_2_1", "s_1_1", "s_1_2", "s_3_1"], "author": ["2", "1", "1", "3"]})


def links(*pairs: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(pairs, columns=["post_id", "duplicate_of"], dtype=str)


def groups(group_by: str, duplicates: pd.DataFrame | None) -> list[str]:
    grouped = group_posts(POSTS, group_by, duplicates)
    assert grouped["post_id"].tolist() == POSTS["post_id"].tolist()
    return grouped["group"].tolist()


def test_posts_or_authors_alone() -> None:
    assert groups("post_id", None) == groups("post_id", links()) == POSTS["post_id"].tolist()
    assert groups("author", None) == ["2", "1", "1", "3"]


def test_duplicates_join_posts_under_the_smallest_name() -> None:
    assert groups("post_id", links(("s_3_1", "s_2_1"))) == ["s_2_1", "s_1_1", "s_1_2", "s_2_1"]
    assert groups("post_id", links(("s_3_1", "s_2_1"), ("s_3_1", "s_1_2"))) == ["s_1_2", "s_1_1", "s_1_2", "s_1_2"]


def test_duplicates_join_all_posts_of_their_authors() -> None:
    assert groups("author", links(("s_3_1", "s_1_2"))) == ["2", "1", "1", "1"]


def clusters(posts: pd.DataFrame, group_by: str, duplicates: pd.DataFrame | None) -> list[str]:
    return group_posts(posts, group_by, duplicates)["cluster"].tolist()


def test_clusters_are_the_authors_whatever_the_folds_group_by() -> None:
    expected = ["s_2_1", "s_1_1", "s_1_1", "s_3_1"]
    assert clusters(POSTS, "post_id", None) == clusters(POSTS, "author", links()) == expected
    assert clusters(POSTS.assign(author=None), "post_id", None) == POSTS["post_id"].tolist()


def test_near_copies_join_authors_to_one_cluster_but_posts_to_one_group() -> None:
    copies = links(("s_3_1", "s_1_2"))
    assert group_posts(POSTS, "post_id", copies)["group"].tolist() == ["s_2_1", "s_1_1", "s_1_2", "s_1_2"]
    assert clusters(POSTS, "post_id", copies) == ["s_2_1", "s_1_1", "s_1_1", "s_1_1"]


def test_a_post_of_an_unknown_author_is_a_cluster_of_its_own_or_that_of_its_copies() -> None:
    # The id of the unnamed post is the name of an author.
    posts = pd.DataFrame({"post_id": ["1", "a", "b", "c", "d"], "author": [None, "1", "1", None, None]})
    assert clusters(posts, "post_id", None) == ["1", "a", "a", "c", "d"]
    assert clusters(posts, "post_id", links(("c", "b"))) == ["1", "a", "a", "a", "d"]


@given(st.lists(st.sampled_from([None, "x", "y", "z"]), min_size=1, max_size=8), st.data())
def test_clusters_are_the_smallest_sets_that_divide_neither_authors_nor_groups(
    authors: list[str | None], data: st.DataObject
) -> None:
    ids = data.draw(st.permutations([f"p{number}" for number in range(len(authors))]))
    posts = pd.DataFrame({"post_id": ids, "author": pd.Series(authors, dtype="str")})
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=4))
    found = group_posts(posts, "post_id", links(*pairs))
    sets = DisjointSet(ids)
    for _, same in [*posts.groupby("author")["post_id"], *found.groupby("group")["post_id"]]:
        for post_id in same:
            sets.merge(same.iloc[0], post_id)
    assert found["cluster"].tolist() == [min(sets.subset(post_id)) for post_id in ids]


def test_author_of() -> None:
    authors = author_of(pd.Series(["s_12_3", "s_a_b_4", "t_12_3", "s_12", "12"]))
    assert authors.tolist()[:2] == ["12", "a_b"]
    assert authors.isna().tolist() == [False, False, True, True, True]


def test_grouping_by_author_needs_authors() -> None:
    posts = pd.DataFrame({"post_id": ["s_1_2", "p7"], "author": ["1", None]})
    with pytest.raises(MentallamError, match=r"post p7: .*use post_id"):
        group_posts(posts, "author", None)
