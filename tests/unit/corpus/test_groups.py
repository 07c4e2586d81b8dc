import pandas as pd
import pytest

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


def test_author_of() -> None:
    authors = author_of(pd.Series(["s_12_3", "s_a_b_4", "t_12_3", "s_12", "12"]))
    assert authors.tolist()[:2] == ["12", "a_b"]
    assert authors.isna().tolist() == [False, False, True, True, True]


def test_grouping_by_author_needs_authors() -> None:
    posts = pd.DataFrame({"post_id": ["s_1_2", "p7"], "author": ["1", None]})
    with pytest.raises(MentallamError, match=r"post p7: .*use post_id"):
        group_posts(posts, "author", None)
