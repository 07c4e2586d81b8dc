"""Token counts of posts, and the number of posts that don't fit into a pair; no weights are loaded."""

from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import load_tokenizer
from mentallam.config import ModelConfig
from mentallam.corpus.lengths import length_histogram, length_summary
from mentallam.corpus.schemas import wording_by_id
from mentallam.errors import MentallamError

# Cut posts are counted for these lengths of a pair and for the configured model.max_length.
PAIR_LENGTHS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
POSTS_PER_BATCH = 512  # Tokenizing in batches bounds the token ids in memory.


def token_statistics(model: ModelConfig, cache: Path, posts: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Any]:
    """Count the tokens of every post as they stand in the prompt, including the template's words before the post.

    Args:
        model: The configuration of tokenizer, prompt and pair length.
        cache: Folder for weights that are converted or made on this machine.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.

    Returns:
        tokenizer (the model's name), max_length, and not_counted: None, or a sentence that says why the rest is absent.
        The rest: tokens_per_post (mean, min, quartiles, max), its histogram, and truncated. This has an entry per pair
        length: max_length, room (the tokens that the longest criterion leaves for a post), and posts (how many posts
        are longer and therefore cut).
    """
    known = {"tokenizer": model.name, "max_length": model.max_length}
    try:
        tokenizer = load_tokenizer(model, cache)
        wording = wording_by_id(criteria)
        prompter = Prompter(tokenizer, model.prompt, wording, model.max_length)
    except MentallamError as error:
        return {**known, "not_counted": error.message}
    n_tokens = count_tokens(prompter, posts["text"])
    space_by_length = {length: prompter.room(length) for length in sorted({*PAIR_LENGTHS, model.max_length})}
    return {
        **known,
        "not_counted": None,
        "tokens_per_post": length_summary(n_tokens),
        "histogram": length_histogram(n_tokens),
        "truncated": [
            {"max_length": length, "room": space, "posts": int((n_tokens > space).sum())}
            for length, space in space_by_length.items()
        ],
    }


def count_tokens(prompter: Prompter, texts: "pd.Series[str]") -> "pd.Series[int]":
    """Count the tokens of each post with `Prompter.count_tokens`, batch by batch.

    Args:
        prompter: The prompter that counts.
        texts: The posts.

    Returns:
        One count per post, in the order of the posts, with a new index.
    """
    counts: list[int] = []
    for start in range(0, len(texts), POSTS_PER_BATCH):
        counts.extend(prompter.count_tokens(texts.iloc[start : start + POSTS_PER_BATCH].tolist()))
    return pd.Series(counts)
