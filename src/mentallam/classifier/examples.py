"""Labelled posts of a corpus as token ids, for training and for scoring."""

from collections.abc import Sequence

import pandas as pd

from mentallam.classifier.prompts import PostExample, Prompter


def labelled_examples(
    prompter: Prompter, post_ids: Sequence[str], posts: pd.DataFrame, pairs: pd.DataFrame
) -> list[PostExample]:
    """Return the named posts, each with the criteria that it has a label for.

    Args:
        prompter: The source of the token ids.
        post_ids: The posts to return, in this order.
        posts: Columns post_id, text.
        pairs: Columns post_id, criterion_id, label.
    """
    texts = posts.set_index("post_id")["text"]
    pairs_by_post = pairs[pairs["post_id"].isin(set(post_ids))].groupby("post_id", sort=False)
    asked = {
        post_id: (list(post_pairs["criterion_id"]), list(post_pairs["label"].astype(int)))
        for post_id, post_pairs in pairs_by_post
    }
    return [prompter.example(post_id, texts[post_id], *asked[post_id]) for post_id in post_ids]
