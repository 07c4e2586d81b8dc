from typing import Any

import pandas as pd
import pytest

from mentallam.corpus.folds import FoldOptions
from mentallam.pipelines.data_processing.nodes import group_posts

WORDS = "the lamp in the hall flickers and nobody has come to look at it since the first snow of the year fell"


@pytest.fixture
def posts() -> pd.DataFrame:
    """Return posts of two authors; the second author copies one post of the first and adds a word."""
    texts = ["We baked bread, and it rose only on the second day.", WORDS, f"{WORDS} again"]
    ids = ["s_1_1", "s_1_2", "s_2_1"]
    return pd.DataFrame({"post_id": ids, "text": texts, "raw_sha256": "0" * 64, "author": ["1", "1", "2"]})


def grouped(posts: pd.DataFrame, **options: Any) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the group of each post, and the links."""
    found, links = group_posts(posts, FoldOptions(seed=1, dev_splits=2, **options))
    return found["group"].tolist(), list(zip(links["post_id"], links["duplicate_of"], strict=True))


def test_near_copies_share_a_group(posts: pd.DataFrame) -> None:
    assert grouped(posts, group_by="post_id") == (["s_1_1", "s_1_2", "s_1_2"], [("s_2_1", "s_1_2")])
    assert grouped(posts, group_by="author") == (["1", "1", "1"], [("s_2_1", "s_1_2")])


def test_near_copies_are_only_counted_where_that_is_asked_for(posts: pd.DataFrame) -> None:
    assert grouped(posts, group_by="post_id", duplicates="report") == (posts["post_id"].tolist(), [("s_2_1", "s_1_2")])


def test_near_copies_are_not_looked_for_where_that_is_asked_for(posts: pd.DataFrame) -> None:
    assert grouped(posts, group_by="author", duplicates="ignore") == (["1", "1", "2"], [])


def test_the_threshold_decides_what_is_a_near_copy(posts: pd.DataFrame) -> None:
    assert grouped(posts, group_by="post_id", near_duplicate_threshold=1.0) == (posts["post_id"].tolist(), [])
