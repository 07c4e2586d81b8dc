"""Passes: groups of posts that go through the model at once, as many as a token budget and memory allow.

An optimizer step always covers the same whole posts. The budget decides only how many passes they take, so it changes
memory and speed but no result.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from mentallam.classifier.prompts import PostExample
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


def passes(examples: Sequence[PostExample], tokens_per_pass: int) -> list[list[int]]:
    """Split posts into passes of similar length, longest first so that a post too large for memory fails at once.

    Args:
        examples: Posts with the criteria asked of them.
        tokens_per_pass: Tokens of one pass, posts and criteria together; a post with more gets a pass to itself.

    Returns:
        The positions of each pass's posts.
    """
    lengths = [example.n_tokens for example in examples]
    split: list[list[int]] = []
    left = 0
    for position in sorted(range(len(examples)), key=lambda position: -lengths[position]):
        if not split or lengths[position] > left:
            split.append([])
            left = tokens_per_pass
        split[-1].append(position)
        left -= lengths[position]
    return split


def run_in_passes(
    examples: Sequence[PostExample],
    tokens_per_pass: int,
    run: Callable[[list[int]], None],
    way_out: str,
    start_over: Callable[[], None] | None = None,
) -> int:
    """Run all posts in passes; when memory runs out, continue with half the budget.

    Args:
        examples: Posts with the criteria asked of them.
        tokens_per_pass: The initial budget.
        run: Called with the positions of each pass's posts.
        way_out: What the user can do if a single post does not fit.
        start_over: Called before all passes run again, for work that one broken pass spoils completely. Without it,
            only posts whose pass had not ended run again.

    Returns:
        The budget that fitted into memory.

    Raises:
        MentallamError: A single post does not fit.
    """
    left = list(range(len(examples)))
    while True:
        ended: set[int] = set()
        pass_: list[int] = []
        try:
            for chosen in passes([examples[position] for position in left], tokens_per_pass):
                pass_ = [left[position] for position in chosen]
                run(pass_)
                ended.update(pass_)
            return tokens_per_pass
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            if len(pass_) == 1:
                raise MentallamError(_too_long(examples[pass_[0]], way_out)) from None
        # This code is outside the except block because the error's traceback holds the tensors of the broken pass.
        tokens_per_pass = max(1, tokens_per_pass // 2)
        logger.warning(
            "out of memory with %d posts in a pass; tokens_per_pass is %d from here on, the result stays the same",
            len(pass_),
            tokens_per_pass,
        )
        if start_over is None:
            left = [position for position in left if position not in ended]
        else:
            start_over()
        clear_device_cache(garbage_collection=True)


def _is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return True
    return "not enough memory" in str(error)  # from the CPU's allocator on Windows


def _too_long(example: PostExample, way_out: str) -> str:
    criteria = len(example.criterion_ids)
    asked = f" with its {criteria} criteri{'on' if criteria == 1 else 'a'}" if criteria else ""
    size = f"{example.n_tokens} tokens{asked}"
    return f"post {example.post_id} ({size}) does not fit into memory by itself: {way_out}"
