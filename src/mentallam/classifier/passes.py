"""How many posts go through the model at once: as many as a token budget holds, fewer once memory runs out.

An optimizer step is made of whole posts, whatever the budget; it says only in how many passes they are worked off, so
it changes memory and speed and no result.
"""

import logging
from collections.abc import Callable, Sequence

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from mentallam.classifier.prompts import PostExample
from mentallam.errors import MentallamError

logger = logging.getLogger(__name__)


def passes(examples: Sequence[PostExample], tokens_per_pass: int) -> list[list[int]]:
    """Splits posts into passes of posts of like length, the longest first: what does not fit shows at once.

    Args:
        examples: Posts with the criteria asked of them.
        tokens_per_pass: Tokens of the posts and criteria of one pass; a post with more is a pass of its own.

    Returns:
        The positions of each pass's posts.
    """
    lengths = [example.n_tokens for example in examples]
    split: list[list[int]] = []
    room = 0
    for position in sorted(range(len(examples)), key=lambda position: -lengths[position]):
        if not split or lengths[position] > room:
            split.append([])
            room = tokens_per_pass
        split[-1].append(position)
        room -= lengths[position]
    return split


def run_in_passes(
    examples: Sequence[PostExample],
    tokens_per_pass: int,
    run: Callable[[list[int]], None],
    way_out: str,
    start_over: Callable[[], None] | None = None,
) -> int:
    """Runs all posts in passes; where memory runs out, goes on with half the budget.

    Args:
        examples: Posts with the criteria asked of them.
        tokens_per_pass: The budget to begin with.
        run: Called with the positions of each pass's posts.
        way_out: What the user can do where a single post does not fit.
        start_over: For work that a broken pass spoils as a whole: called before all passes are run again. Without it
            only those are run again that had not ended.

    Returns:
        The budget that memory was enough for.

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
        # Out here the error is gone, and with its traceback the tensors of the broken pass.
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
    return "not enough memory" in str(error)  # the CPU's allocator on Windows


def _too_long(example: PostExample, way_out: str) -> str:
    criteria = len(example.criterion_ids)
    asked = f" with its {criteria} criteri{'on' if criteria == 1 else 'a'}" if criteria else ""
    size = f"{example.n_tokens} tokens{asked}"
    return f"post {example.post_id} ({size}) does not fit into memory by itself: {way_out}"
