"""Hidden states below the trained layers: no epoch and no fold changes them, so a run computes them once.

With `adapter.top_layers` the layers below learn nothing. Their output for a post with its criteria depends only on the
base model. Training starts from this output, so no step computes it again or keeps its activations.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import pandas as pd
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import Tensor

from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.model import layers_below_adapter, load_base
from mentallam.classifier.packed_model import compute_dtype, some_layers
from mentallam.classifier.packing import pack
from mentallam.classifier.passes import run_in_passes
from mentallam.classifier.progress import progress_bar
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.corpus.schemas import wording_by_id
from mentallam.errors import MentallamError

_WAY_OUT = "lower model.max_length, or take a machine with more memory"

logger = logging.getLogger(__name__)


@torch.no_grad()
def frozen_states(
    config: Config, base: BaseModel, posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame
) -> dict[str, Tensor]:
    """Compute the input of the lowest trained layer for every post with its labelled criteria.

    Args:
        config: The resolved configuration.
        base: The base model on disk.
        posts: Columns post_id, text.
        criteria: Columns criterion_id, criterion.
        pairs: Columns post_id, criterion_id, label.

    Returns:
        (tokens of the post's row, hidden size) in the model's dtype, by `<layers below>/<post_id>`; empty if every
        layer is trained. A text can be partly recovered from hidden states, so they are as private as the posts.

    Raises:
        MentallamError: A single post with its criteria does not fit into memory, or the model has fewer layers.
    """
    if config.adapter.top_layers is None:
        return {}
    model, tokenizer = load_base(base, compute_dtype(config.model.dtype), config.model.quantization)
    below = layers_below_adapter(model.config, config.adapter)
    if not below:
        return {}
    wording = wording_by_id(criteria)
    prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)
    examples = labelled_examples(prompter, posts["post_id"].tolist(), posts, pairs)
    device, decoder = next(model.parameters()).device, some_layers(model.model, 0, below)
    states: dict[str, Tensor] = {}

    def run(chosen: list[int]) -> None:
        batch = send_to_device(pack([examples[position] for position in chosen]), device)
        found = decoder(
            batch["input_ids"], position_ids=batch["position_ids"], packing=batch["packing"], use_cache=False
        ).last_hidden_state[0]
        for position, post in zip(chosen, batch["packing"], strict=True):
            states[_key(below, examples[position].post_id)] = found[post.start : post.end].cpu().clone()
        bar.update(len(chosen))

    with progress_bar(len(examples), f"layers 1 to {below}", "posts") as bar:
        run_in_passes(examples, config.inference.tokens_per_pass, run, _WAY_OUT)
    size = sum(state.nbytes for state in states.values())
    logger.info("hidden states of %d posts above layer %d, kept for all folds: %.2f GB", len(states), below, size / 1e9)
    return states


def with_states(examples: Sequence[PostExample], states: Mapping[str, Tensor], model: PeftModel) -> list[PostExample]:
    """Return the examples with their hidden states, or unchanged if every layer is trained.

    Args:
        examples: Posts with the same criteria as in `frozen_states`.
        states: The result of `frozen_states`.
        model: The classifier.

    Raises:
        MentallamError: The states belong to other layers or other prompts.
    """
    below = cast(Any, model).base_model.model.frozen_layers
    if not below:
        return list(examples)
    found = []
    for example in examples:
        state = states.get(_key(below, example.post_id))
        if state is None or len(state) != example.n_tokens:
            raise MentallamError(
                f"frozen_states holds no state of post {example.post_id} as this configuration reads it: run "
                f"cv_training from its start"
            )
        found.append(replace(example, states=state))
    return found


def _key(below: int, post_id: str) -> str:
    return f"{below}/{post_id}"
