"""Posts of a corpus as token ids with their labels: what training learns from and scoring is checked against."""

from collections.abc import Sequence

import pandas as pd

from mentallam.classifier.prompts import PostExample, Prompter


def labelled_examples(
    prompter: Prompter, post_ids: Sequence[str], posts: pd.DataFrame, pairs: pd.DataFrame
) -> list[PostExample]:
    """The named posts with the criteria that have a label for them.

    Args:
        prompter: Makes the token ids.
        post_ids: Which posts, in this order.
        posts: Columns post_id, text.
        pairs: Columns post_id, criterion_id, label.
    """
    texts = posts.set_index("post_id")["text"]
    labels = pairs[pairs["post_id"].isin(set(post_ids))].groupby("post_id", sort=False)
    asked = {post_id: (list(own["criterion_id"]), list(own["label"].astype(int))) for post_id, own in labels}
    return [prompter.example(post_id, texts[post_id], *asked[post_id]) for post_id in post_ids]
