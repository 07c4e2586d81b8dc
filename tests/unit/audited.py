"""A corpus small enough to count by hand, and the other inputs of the data audit."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from mentallam.corpus.folds import FoldSplit

SECRET = "Marzipan"
EVIL = "<script>alert(1)</script>&\"'"
STATISTICS = {
    "corpus": "three posts",
    "synthetic": True,
    "data_hash": "ab" * 32,
    "posts_cleaned": {"html_entities": 7, "any": 8},
    "words_per_post": {"mean": 4.0, "min": 3, "q25": 3.0, "q50": 4.0, "q75": 5.0, "max": 6},
    "counts": {"expected": {"posts": 9, "criteria": 9, "pairs": 81}, "found": {}, "override_reason": "a <b>test</b>"},
    "annotations": {"rows": 9, "special_case": 4, "contradictory": 2},
    "placeholder_posts": {"[removed]": 1200, "[<b>gone</b>]": 34},
    "folds": {
        "n_folds": 2,
        "seed": 42,
        "group_by": "post_id",
        "balance": {"fold": 1, "posts": 3, "share": 0.75, "equal_share": 0.5, "uneven": True},
        "without_positives": {"train": [], "dev": [], "held_out": [0, 1]},
    },
    "n_authors": 2,
    "n_authors_straddling_folds": 1,
    "n_posts": 4,
    "n_pairs": 11,
    "n_unlabelled": 1,
    "n_positive": 4,
    "base_rate": 4 / 11,
    "n_without_symptom": 1,
    "criteria": {
        "A": {"symptom": "FIRST", "positive": 2, "explicit_negative": 1},
        "B": {"symptom": "SECOND", "positive": 2, "explicit_negative": 1},
        "C": {"symptom": EVIL, "positive": 0, "explicit_negative": 0},
    },
}
TOKENS = {
    "tokenizer": "tiny",
    "max_length": 300,
    "not_counted": None,
    "tokens_per_post": {"mean": 260.5, "min": 3, "q25": 3.0, "q50": 4.0, "q75": 5.0, "max": 1000},
    "histogram": {"edges": [3, 4, 5], "posts": [2, 2]},
    "truncated": [
        {"max_length": 128, "room": 0, "posts": 4},
        {"max_length": 256, "room": 200, "posts": 3},
        {"max_length": 300, "room": 244, "posts": 2},
        {"max_length": 512, "room": 456, "posts": 1},
        {"max_length": 1024, "room": 968, "posts": 0},
    ],
}
NOT_COUNTED = {"tokenizer": "big", "max_length": 512, "not_counted": "its <tokenizer> is not here"}

POSTS = pd.DataFrame(
    {
        "post_id": ["s_1_1", "s_1_2", "s_2_1", "s_2_2"],
        "text": [f"one two {SECRET}", f"{SECRET} again and again", f"one two {SECRET}", "a b c d e f"],
        "author": ["1", "1", "2", "2"],
    }
)
CRITERIA = pd.DataFrame(
    {
        "criterion_id": ["A", "B", "C"],
        "symptom": ["FIRST", "SECOND", EVIL],
        "criterion": ["The first.", EVIL, "The third."],
    }
)
PAIRS = pd.DataFrame(
    [
        *[("s_1_1", "A", 1, False), ("s_1_1", "B", 1, False), ("s_1_1", "C", 0, False)],
        *[("s_1_2", "A", 1, False), ("s_1_2", "B", 0, True)],  # without C
        *[("s_2_1", "A", 0, True), ("s_2_1", "B", 1, False), ("s_2_1", "C", 0, False)],
        *[("s_2_2", "A", 0, False), ("s_2_2", "B", 0, False), ("s_2_2", "C", 0, False)],
    ],
    columns=["post_id", "criterion_id", "label", "explicit_negative"],
).astype({"label": "int8"})


def folds_of(pairs: pd.DataFrame, *held_out: Sequence[str]) -> list[FoldSplit]:
    """Return folds with the keys that the audit reads.

    Args:
        pairs: Columns post_id, criterion_id, label.
        held_out: The held-out post ids of each fold.
    """
    folds: list[Any] = []
    for number, post_ids in enumerate(held_out):
        labels = pairs[pairs["post_id"].isin(post_ids)].groupby("criterion_id")["label"].agg(["sum", "size"])
        counted = {str(name): {"positive": int(s), "negative": int(n - s)} for name, s, n in labels.itertuples()}
        folds.append(
            {
                "fold": number,
                "held_out": list(post_ids),
                "groups": {"held_out": len(post_ids)},
                "label_distribution": {"held_out": counted},
            }
        )
    return folds


FOLDS = folds_of(PAIRS, ["s_1_1", "s_1_2"], ["s_2_1", "s_2_2"])
