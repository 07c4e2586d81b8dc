"""Post embeddings by the frozen base model, before it has learnt anything about criteria."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray

from mentallam.classifier.packed_model import PackedForSequenceClassification
from mentallam.classifier.packing import pack
from mentallam.classifier.passes import run_in_passes
from mentallam.classifier.progress import progress_bar
from mentallam.classifier.prompts import Prompter

_WAY_OUT = "lower model.max_length, take embedding out of baselines.models, or take a machine with more memory"


@torch.no_grad()
def embed_posts(
    model: PackedForSequenceClassification,
    prompter: Prompter,
    post_ids: Sequence[str],
    texts: Sequence[str],
    tokens_per_pass: int,
    progress: str | None = None,
) -> NDArray[np.float32]:
    """Return the mean of the last hidden states over each post's tokens; each post is read alone.

    Args:
        model: The base model; its head is not used.
        prompter: The tokenizer, and the number of tokens that a post may have in a pair.
        post_ids: The posts' ids, for errors.
        texts: The posts, in the same order.
        tokens_per_pass: Tokens of one pass; halved, with a log record, when memory runs out.
        progress: Title of the progress bar; None shows no bar.

    Returns:
        (posts, hidden size) in the order of the posts, averaged in float32 whatever the model's dtype.

    Raises:
        MentallamError: A single post does not fit into memory.
    """
    model.eval()
    device = next(model.parameters()).device
    examples = [prompter.post_alone(post_id, text) for post_id, text in zip(post_ids, texts, strict=True)]
    embeddings = torch.empty(len(examples), model.config.hidden_size)

    def run(chosen: list[int]) -> None:
        batch = send_to_device(pack([examples[position] for position in chosen]), device)
        packing = batch["packing"]
        output = model.model(batch["input_ids"], position_ids=batch["position_ids"], packing=packing, use_cache=False)
        hidden = output.last_hidden_state[0].float()
        means = [hidden[post.start + prompter.begin_tokens : post.end].mean(0) for post in packing]
        embeddings[chosen] = torch.stack(means).cpu()
        bar.update(len(chosen))

    with progress_bar(len(examples), progress, "posts") as bar:
        run_in_passes(examples, tokens_per_pass, run, _WAY_OUT)
    return embeddings.numpy()
