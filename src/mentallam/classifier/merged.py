"""Merged weights on disk, in Hugging Face layout: plain transformers loads them, and so does `load_merged`.

The head stays float32 in the file, as in training and scoring, whatever the dtype of the other weights.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from mentallam.classifier import attention
from mentallam.classifier.families import FAMILIES, changed, read_architecture
from mentallam.classifier.loading import load_whole, quiet_loading, unreadable
from mentallam.classifier.packed_model import PackedForSequenceClassification, packed_class, read_tokenizer
from mentallam.device import compute_device

if TYPE_CHECKING:
    from peft import PeftModel

# What the hub and older file systems handle; transformers alone would write up to 50 GB into one file.
_LARGEST_FILE = "5GB"


def save_merged(
    merged: "PeftModel", tokenizer: PreTrainedTokenizerBase, last_tokens: Iterable[int], folder: Path
) -> None:
    """Write config.json, the weights and the tokenizer.

    Args:
        merged: A classifier whose adapters are merged; they are removed from it.
        tokenizer: Its tokenizer.
        last_tokens: The token ids that a pair may end with.
        folder: The folder to write into.
    """
    plain = merged.unload()
    architecture = changed(
        plain.config, dtype=plain.model.dtype, pad_token_id=_pad_token(plain.config, tokenizer, set(last_tokens))
    )
    with torch.device("meta"):
        written = FAMILIES[architecture.model_type](architecture)
    written.load_state_dict(plain.state_dict(), assign=True)
    with quiet_loading():
        written.save_pretrained(folder, max_shard_size=_LARGEST_FILE)
    tokenizer.save_pretrained(folder)


def load_merged(
    folder: Path, dtype: torch.dtype, way_out: str
) -> tuple[PackedForSequenceClassification, PreTrainedTokenizerBase]:
    """Load what `save_merged` wrote onto this machine's device, ready for packed scoring.

    Args:
        folder: The folder.
        dtype: Data type of the weights; the head is float32.
        way_out: What the user can do if a file is damaged, for the error.

    Raises:
        MentallamError: The folder holds no complete model of a supported family.
    """
    try:
        architecture = read_architecture(folder)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error, way_out) from None
    device = compute_device()
    model: PackedForSequenceClassification = load_whole(
        _with_float32_head(architecture.model_type).from_pretrained,
        folder,
        way_out,
        config=architecture,
        dtype=dtype,
        attn_implementation=attention.NAME,
        device_map={"": device} if device.type == "cuda" else None,
    )
    return model.eval(), read_tokenizer(folder, way_out)


def _with_float32_head(model_type: str) -> type[PackedForSequenceClassification]:
    """Return a family's packed classifier whose head `from_pretrained` leaves in float32."""
    packed = packed_class(model_type)
    return type(packed.__name__, (packed,), {"__module__": __name__, "_keep_in_fp32_modules_strict": ["score"]})


def _pad_token(architecture: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, last_tokens: set[int]) -> int | None:
    """Return a token for padding, or None.

    transformers reads a row's logits at its last token that is no padding, so a pair must never end with it.
    """
    candidates = (architecture.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    known = [token for token in candidates if token is not None and 0 <= token < architecture.vocab_size]
    return next((token for token in known if token not in last_tokens), None)
