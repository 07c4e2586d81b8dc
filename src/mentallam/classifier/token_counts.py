"""How many tokens of a base model posts take, and how many posts don't fit into a pair; no weights are loaded."""

from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import load_tokenizer
from mentallam.config import ModelConfig
from mentallam.corpus.lengths import length_histogram, length_summary
from mentallam.corpus.schemas import wording_by_id
from mentallam.errors import MentallamError

# The lengths of a pair for which cut posts are counted, beside the configured model.max_length.
PAIR_LENGTHS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
POSTS_PER_BATCH = 512  # token ids of so many posts are in memory at a time


def token_statistics(model: ModelConfig, cache: Path, posts: pd.DataFrame, criteria: pd.DataFrame) -> dict[str, Any]:
    """Count the tokens of every post, as the prompt holds them: with the words before the post.

    Args:
        model: Whose tokenizer, prompt and length of a pair.
        cache: Folder for weights that are converted or made on this machine.
        posts: post_id, text.
        criteria: criterion_id, criterion.

    Returns:
        tokenizer (the model's name), max_length, and not_counted: None, or a sentence that says why nothing follows.
        Then tokens_per_post (mean, min, quartiles, max), its histogram, and in truncated for each length of a pair
        the room that the longest criterion leaves for a post, and how many posts are longer and so are cut.
    """
    known = {"tokenizer": model.name, "max_length": model.max_length}
    try:
        tokenizer = load_tokenizer(model, cache)
        wording = wording_by_id(criteria)
        prompter = Prompter(tokenizer, model.prompt, wording, model.max_length)
    except MentallamError as error:
        return {**known, "not_counted": error.message}
    n_tokens = count_tokens(prompter, posts["text"])
    rooms = {length: prompter.room(length) for length in sorted({*PAIR_LENGTHS, model.max_length})}
    return {
        **known,
        "not_counted": None,
        "tokens_per_post": length_summary(n_tokens),
        "histogram": length_histogram(n_tokens),
        "truncated": [
            {"max_length": length, "room": room, "posts": int((n_tokens > room).sum())}
            for length, room in rooms.items()
        ],
    }


def count_tokens(prompter: Prompter, texts: "pd.Series[str]") -> "pd.Series[int]":
    """Tokens of each post, as `Prompter.count_tokens` gives them, batch by batch.

    Args:
        prompter: Whose tokens.
        texts: The posts.

    Returns:
        One count per post, in their order, with a fresh index.
    """
    counts: list[int] = []
    for start in range(0, len(texts), POSTS_PER_BATCH):
        counts.extend(prompter.count_tokens(texts.iloc[start : start + POSTS_PER_BATCH].tolist()))
    return pd.Series(counts)
