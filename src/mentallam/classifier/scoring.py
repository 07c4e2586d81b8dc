"""Scores of pairs under a model: the one path that evaluation and inference share."""

from collections.abc import Sequence

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import NDArray
from scipy.special import expit
from torch import nn
from tqdm.auto import tqdm

from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample


@torch.no_grad()  # not inference_mode: a norm that DoRA caches here serves the next training step
def score_pairs(
    model: nn.Module, examples: Sequence[PostExample], posts_per_batch: int, progress: str | None = None
) -> NDArray[np.float64]:
    """Logit of each pair: the head's "yes" minus its "no".

    Args:
        model: The classifier.
        examples: Posts with the criteria asked of them.
        posts_per_batch: Posts in one pass.
        progress: Words before a progress bar; no bar without them.

    Returns:
        (N,) float64, pairs in the order of the examples. The probability is `sigmoid` of it.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    logits = []
    bar = tqdm(total=len(examples), desc=progress, unit="post", disable=progress is None)
    for start in range(0, len(examples), posts_per_batch):
        chosen = examples[start : start + posts_per_batch]
        output = model(**send_to_device(pack(chosen), device))
        logits.append((output.logits[:, 1] - output.logits[:, 0]).double().cpu())
        bar.update(len(chosen))
    bar.close()
    model.train(was_training)
    return torch.cat(logits).numpy() if logits else np.empty(0)


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of "yes" from the logit that `score_pairs` gives."""
    return np.asarray(expit(logits))
