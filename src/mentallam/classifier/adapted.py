"""A checkpoint's adapters and head on their base model."""

from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from mentallam.classifier.dora import use_fast_adapters
from mentallam.classifier.model import load_base, lora_config
from mentallam.classifier.weights import BaseModel, locate_base_model
from mentallam.config import Config
from mentallam.device import compute_device
from mentallam.errors import MentallamError


def load_adapted(
    folder: Path, way_out: str, saved_base: BaseModel, config: Config, cache: Path, dtype: torch.dtype, merge: bool
) -> tuple[PeftModel, PreTrainedTokenizerBase, BaseModel]:
    """Load the base model and put a checkpoint's adapters and head on it.

    Args:
        folder: The checkpoint.
        way_out: What the user can do if it is damaged, for the error.
        saved_base: The base model that it was trained on; its folder does not count.
        config: The configuration that it was trained with.
        cache: Folder of base weights that were converted or made on this machine.
        dtype: Data type of the base weights.
        merge: Add the adapter to the weights.

    Raises:
        MentallamError: The files do not fit the base model, or that can't be had.
    """
    try:
        with safe_open(folder / "adapter_model.safetensors", framework="pt") as weights:
            saved = weights.keys()
    except (OSError, ValueError, SafetensorError) as error:
        raise MentallamError(f"{folder} holds no complete checkpoint ({type(error).__name__}); {way_out}") from None
    base = locate_base_model(saved_base, config.model, cache)
    model, tokenizer = load_base(base, dtype, config.model.quantization)
    if merge and config.model.quantization != "none":
        # The adapter was trained on the numbers that the 4 bits stand for, and the sum would not fit into 4 bits.
        model.dequantize(dtype)
    try:
        # With a configuration of ours, PEFT reads nothing of adapter_config.json, which can name modules to import.
        peft_config = lora_config(model.config, config.adapter)
        adapted = PeftModel.from_pretrained(model, str(folder), config=peft_config, torch_device=str(compute_device()))
    except (KeyError, RuntimeError, ValueError, OSError) as error:  # no head; other shapes
        raise MentallamError(f"{folder} doesn't fit its model ({type(error).__name__}); {way_out}") from None
    # save_embedding_layers=False: otherwise PEFT asks the hub about the base.
    different = set(get_peft_model_state_dict(adapted, save_embedding_layers=False)) ^ set(saved)
    if different:  # PEFT leaves a missing weight, such as the head, at its random start
        raise MentallamError(f"{folder} doesn't fit its model ({len(different)} weights differ by name); {way_out}")
    use_fast_adapters(adapted)
    if merge:
        _merge(adapted)
    adapted.eval()
    return adapted, tokenizer, base


def _merge(adapted: PeftModel) -> None:
    """Merge one layer at a time in float32 with PEFT: the whole model in float32 could take twice its memory.

    Each weight is copied first, because other models share the base (`shared_base`).
    """
    for module in adapted.modules():
        if isinstance(module, LoraLinear):
            weight = cast(Tensor, module.get_base_layer().weight)
            dtype = weight.dtype
            weight.data = weight.data.to(torch.float32, copy=True)
            module.merge()
            weight.data = weight.data.to(dtype)
