"""Gradients of an optimizer step, pass by pass, as if all its pairs had been trained at once."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
from torch import nn

from mentallam.classifier.packing import pack
from mentallam.classifier.passes import run_in_passes
from mentallam.classifier.prompts import PostExample

_WAY_OUT = "set model.gradient_checkpointing=true, lower model.max_length, or take a machine with more memory"


def pair_loss(
    outputs: Any,
    labels: torch.Tensor,
    pairs_of_step: int | None = None,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean cross-entropy over the pairs of an optimizer step, as if they had been trained one by one.

    Args:
        outputs: With `logits`, (N, 2).
        labels: (N,), 0 or 1.
        pairs_of_step: Pairs in all passes of the step; N where this is the only one.
        class_weights: (2,), weight of an unmatched and of a matched pair; 1 each without.
    """
    if class_weights is not None:
        class_weights = class_weights.to(outputs.logits)
    total = functional.cross_entropy(outputs.logits, labels, weight=class_weights, reduction="sum")
    return total / (pairs_of_step or len(labels))


def add_gradients(
    model: nn.Module,
    examples: Sequence[PostExample],
    tokens_per_pass: int,
    pairs_of_step: int,
    class_weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, int]:
    """Add the gradients of some posts of an optimizer step to the model's.

    Args:
        model: The classifier, without gradients.
        examples: Labelled posts; those of other ranks are left out.
        tokens_per_pass: Tokens of one pass; halved, with a log record, when memory runs out.
        pairs_of_step: Pairs of the whole step, over which the loss is a mean.
        class_weights: As in `pair_loss`.

    Returns:
        These posts' part of the step's loss, and the budget that fitted into memory.

    Raises:
        MentallamError: A single post with its criteria does not fit into memory.
    """
    device = next(model.parameters()).device
    losses: list[torch.Tensor] = []

    def run(chosen: list[int]) -> None:
        batch = send_to_device(pack([examples[position] for position in chosen]), device)
        labels = batch.pop("labels")
        loss = pair_loss(model(**batch), labels, pairs_of_step, class_weights)
        loss.backward()
        losses.append(loss.detach())

    def start_over() -> None:
        model.zero_grad()  # a failed pass may have left a part of its gradients
        losses.clear()

    model.train()
    fitted = run_in_passes(examples, tokens_per_pass, run, _WAY_OUT, start_over)
    return torch.stack(losses).sum() if losses else torch.zeros((), device=device), fitted
