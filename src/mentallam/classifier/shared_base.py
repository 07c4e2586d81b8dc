"""The frozen base, loaded once per process: each fold's model adds its adapters and head to the same weights.

Nothing changes a base. PEFT trains adapters beside it, and a merge makes copies (`checkpoint.load_checkpoint`). PEFT
puts new modules into each model (docs/adr/0018).
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig

from mentallam.classifier.loading import load_whole
from mentallam.classifier.weights import BaseModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FrozenBase:
    """The decoder's tensors, on the device that computes.

    Attributes:
        architecture: The base model's architecture.
        weights: Weights by name, never written to.
        buffers: Buffers by name that no file has, such as rotary frequencies.
    """

    architecture: PreTrainedConfig
    weights: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]

    def put_into(self, decoder: nn.Module) -> None:
        """Put these tensors into a decoder on the meta device; only the buffers are copied."""
        decoder.load_state_dict(dict(self.weights), assign=True)
        for name, buffer in self.buffers.items():
            owner, _, leaf = name.rpartition(".")
            setattr(decoder.get_submodule(owner), leaf, buffer.clone())


class _Kept:
    """The base that was loaded last; only one is kept, so that two never take memory at the same time."""

    lock = threading.Lock()
    key: tuple[object, ...] | None = None
    base: FrozenBase | None = None


def frozen_base(base: BaseModel, dtype: torch.dtype, device: torch.device) -> FrozenBase:
    """Return the base's weights, loaded at the first call and kept until `release_base` or another base.

    Args:
        base: The base model on disk.
        dtype: The dtype of the weights.
        device: The device that holds them.

    Raises:
        MentallamError: The folder holds no complete model of a supported family.
    """
    key = (base.folder, base.fingerprint, dtype, device)
    with _Kept.lock:
        if _Kept.base is None or _Kept.key != key:
            _Kept.key = _Kept.base = None
            _Kept.base = _load(base, dtype, device)
            _Kept.key = key
        return _Kept.base


def release_base() -> None:
    """Drop the base; its memory is freed once no model uses it."""
    with _Kept.lock:
        _Kept.key = _Kept.base = None


def _load(base: BaseModel, dtype: torch.dtype, device: torch.device) -> FrozenBase:
    logger.info("Loading the base model %s", base.name)
    architecture = base.architecture()
    decoder = load_whole(
        AutoModel.from_pretrained,
        base.folder,
        base.way_out,
        config=architecture,
        dtype=dtype,
        device_map={"": device} if device.type == "cuda" else None,
    )
    return FrozenBase(
        architecture,
        {name: weight.detach() for name, weight in decoder.state_dict().items()},
        {name: buffer for name, buffer in decoder.named_buffers()},
    )
