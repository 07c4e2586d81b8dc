"""Exclusion of placeholders of deleted posts, whose labels belong to a text that no longer exists."""

from __future__ import annotations

import logging
import re

import pandas as pd

from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.identifiers import shown
from mentallam.corpus.texts import prepare_text
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)

# Markdown escapes brackets, and forums use different spaces.
_ESCAPES_AND_SPACES = re.compile(r"[\\\s]+")


def leave_out_placeholders(
    posts: pd.DataFrame, pairs: pd.DataFrame, criteria: pd.DataFrame, options: CleaningOptions
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return the posts that are not placeholders, their pairs, and how many posts each placeholder removed.

    A post is a placeholder if it equals one of `options.placeholders`, ignoring case, white space and backslashes.

    Args:
        posts: post_id, text (cleaned) and more.
        pairs: post_id, criterion_id and more.
        criteria: criterion_id and more.
        options: The options that the posts were cleaned with.

    Raises:
        MentallamError: No post is left, or a criterion loses all its labels.
    """
    written = {_comparable(prepare_text(text, options.mask)[0]): text for text in options.placeholders}
    found = posts["text"].map(lambda text: written.get(_comparable(text)))
    counts = {text: int((found == text).sum()) for text in written.values()}
    counts = {text: count for text, count in counts.items() if count}
    if not counts:
        return posts, pairs, counts
    named = ", ".join(f"{text} ({count})" for text, count in counts.items())
    posts = posts[found.isna()].reset_index(drop=True)
    if posts.empty:
        raise MentallamError(
            f"all {len(found)} posts are placeholders of deleted posts: {named}; get the posts' texts, or keep "
            "placeholders with cleaning.placeholders=[]"
        )
    pairs = pairs[pairs["post_id"].isin(posts["post_id"])].reset_index(drop=True)
    unlabelled = criteria["criterion_id"][~criteria["criterion_id"].isin(pairs["criterion_id"])]
    if not unlabelled.empty:
        raise MentallamError(
            f"criterion {shown(unlabelled.iloc[0])} has labels for placeholders of deleted posts only "
            f"({len(unlabelled)} such criteria); remove it, or keep placeholders with cleaning.placeholders=[]"
        )
    logger.warning(
        "%d of %d posts are placeholders of deleted posts and are left out: %s", sum(counts.values()), len(found), named
    )
    return posts, pairs, counts


def _comparable(text: str) -> str:
    return _ESCAPES_AND_SPACES.sub("", text).casefold()
