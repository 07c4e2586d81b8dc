"""The classifier without adapters: a decoder of a supported family, and a head on each pair's last token.

This module, and what it imports, does without PEFT, whose import takes seconds: merged weights need none.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from mentallam.classifier import attention
from mentallam.classifier.families import FAMILIES
from mentallam.classifier.last_layer import last_layer
from mentallam.classifier.loading import UNREADABLE, unreadable
from mentallam.classifier.packing import Packing
from mentallam.device import on_gpu


class PackedForSequenceClassification(GenericForSequenceClassification, PreTrainedModel):
    """transformers' generic classifier, which also takes packed rows; `packed_class` makes a family's class of it.

    With a packing, the head reads the tokens that `pool_index` names, one per pair; without one this is transformers'
    classifier. The head may have another dtype than the other weights: it is float32 wherever pairs are scored.

    Attributes:
        compiled: Whether the layers are compiled; see `compiling`.
        frozen_layers: Number of layers below the lowest trained one.
    """

    model: PreTrainedModel
    score: nn.Linear
    compiled = False
    frozen_layers = 0

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)
        # PEFT copies the head and with it the hook; transformers' forward gives it states of the other weights' dtype.
        self.score.register_forward_pre_hook(_in_dtype_of_weight)

    def forward(
        self,
        input_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        packing: Packing | None = None,
        pool_index: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Return logits, (N, 2) float32 for N packed pairs; see `packing.PackedBatch` for the arguments.

        A packed row with `inputs_embeds` begins at the lowest trained layer.
        """
        if packing is None:
            plain: SequenceClassifierOutput = super().forward(
                input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds, labels=labels, **kwargs
            )
            return plain
        seen = attention.for_compiled_layers(packing, self.device) if self.compiled else packing
        kwargs.update(input_ids=input_ids, position_ids=position_ids, use_cache=False, packing=seen, return_dict=True)
        if inputs_embeds is not None:
            kwargs.update(input_ids=None, inputs_embeds=inputs_embeds)
        first = 0 if inputs_embeds is None else self.frozen_layers
        if self.compiled or torch.is_grad_enabled():
            pooled = some_layers(self.model, first, None)(**kwargs).last_hidden_state[0, pool_index]
        else:
            assert position_ids is not None and pool_index is not None
            below = some_layers(self.model, first, -1)(**kwargs).last_hidden_state
            pooled = last_layer(self.model, below, position_ids, packing, pool_index)
        return SequenceClassifierOutput(logits=self.score(pooled.float()))


def _in_dtype_of_weight(head: nn.Module, states: tuple[Tensor]) -> tuple[Tensor]:
    return (states[0].to(cast(Tensor, head.weight).dtype),)


@cache
def packed_class(model_type: str) -> type[PackedForSequenceClassification]:
    """Return a family's classifier that also takes packed rows.

    Args:
        model_type: A key of `families.FAMILIES`.
    """
    family = FAMILIES[model_type]
    return type(f"Packed{family.__name__}", (PackedForSequenceClassification, family), {"__module__": __name__})


def some_layers(decoder: PreTrainedModel, first: int, last: int | None) -> PreTrainedModel:
    """Return a decoder of some layers of another one; only the decoder with the last layer has the final norm.

    Args:
        decoder: The whole decoder, unchanged; the layers are shared with it, not copied.
        first: The first layer, counted from 0.
        last: The layer after the last one, or counted from the end if negative; None takes all that follow.
    """
    part = copy.copy(decoder)
    part._modules = {**decoder._modules, "layers": cast(nn.ModuleList, decoder.layers)[first:last]}
    if last is not None:
        part._modules["norm"] = nn.Identity()
    return part


def compute_dtype(name: str) -> torch.dtype:
    """Return the dtype that `auto`, `bfloat16` or `float32` means on this machine.

    `auto` is bfloat16 where the GPU, or the CPU's AVX512-BF16 or AMX units, multiply in it; elsewhere bfloat16 is
    emulated and slower than float32.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if on_gpu():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


def read_tokenizer(folder: str | Path, way_out: str) -> PreTrainedTokenizerBase:
    """Read the tokenizer of a folder in Hugging Face layout.

    Args:
        folder: The folder.
        way_out: What the user can do if it can't be read, for the error.

    Raises:
        MentallamError: The folder holds none that can be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    except UNREADABLE as error:
        raise unreadable(folder, error, way_out) from None
    return tokenizer
