"""Scores of pairs: the path that evaluation and inference share."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn

from mentallam.classifier.packing import pack
from mentallam.classifier.passes import run_in_passes
from mentallam.classifier.progress import progress_bar
from mentallam.classifier.prompts import PostExample

_WAY_OUT = "ask fewer criteria of it at a time, set inference.dtype=bfloat16, or take a machine with more memory"


def score_pairs(
    model: nn.Module, examples: Sequence[PostExample], tokens_per_pass: int, progress: str | None = None
) -> NDArray[np.float64]:
    """Return the logit of each pair: the head's output for "yes" minus its output for "no".

    Args:
        model: The classifier.
        examples: Posts with the criteria asked of them.
        tokens_per_pass: Tokens of one pass; halved, with a log record, when memory runs out.
        progress: Title of the progress bar; None shows no bar.

    Returns:
        (N,) float64, pairs in the order of the examples. `sigmoid` turns logits into probabilities.

    Raises:
        MentallamError: A single post with its criteria does not fit into memory.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = [torch.empty(0, dtype=torch.float64)] * len(examples)

    def run(chosen: list[int]) -> None:
        batch = pack([examples[position] for position in chosen])
        output = model(**send_to_device(batch, device)).logits
        found = (output[:, 1] - output[:, 0]).double().cpu()
        pair_counts = [len(examples[position].suffixes) for position in chosen]
        for position, post_logits in zip(chosen, found.split(pair_counts), strict=True):
            logits[position] = post_logits
        bar.update(len(chosen))

    # A norm that DoRA caches here serves the next training step, and inference_mode would make it unusable there.
    with torch.no_grad(), progress_bar(len(examples), progress, "posts") as bar:
        run_in_passes(examples, tokens_per_pass, run, _WAY_OUT)
    model.train(was_training)
    return torch.cat(logits).numpy() if logits else np.empty(0)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability of "yes" for the logits that `score_pairs` returns."""
    return np.asarray(expit(logits))
