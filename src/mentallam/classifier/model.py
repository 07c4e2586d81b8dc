"""The classifier: a base of a supported family, DoRA adapters, and a head with two logits on each pair's last token."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig, PreTrainedTokenizerBase

from mentallam.classifier import attention
from mentallam.classifier.compiling import compile_layers
from mentallam.classifier.dora import start_magnitudes, use_fast_adapters
from mentallam.classifier.families import changed, did_you_mean
from mentallam.classifier.loading import load_whole
from mentallam.classifier.packed_model import (
    PackedForSequenceClassification,
    compute_dtype,
    packed_class,
    read_tokenizer,
)
from mentallam.classifier.shared_base import frozen_base
from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import AdapterConfig, Config
from mentallam.device import compute_device
from mentallam.errors import MentallamError

LABELS = ("no", "yes")

logger = logging.getLogger(__name__)


# How a base becomes a classifier, whether its weights are loaded or only counted.
_CLASSIFIER: dict[str, Any] = {
    "num_labels": len(LABELS),
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: index for index, label in enumerate(LABELS)},
}


def empty_base(architecture: PreTrainedConfig, dtype: torch.dtype) -> PackedForSequenceClassification:
    """Build what `load_base` loads, without its weights; under torch's meta device it takes no memory."""
    architecture = changed(architecture, **_CLASSIFIER, dtype=dtype, attn_implementation=attention.NAME)
    model = packed_class(architecture.model_type)(architecture)
    for parameter in model.model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


def require_bitsandbytes(option: str) -> None:
    """Refuse an option that needs bitsandbytes if that library is missing.

    Raises:
        MentallamError: It is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise MentallamError(
            f"{option} needs the library bitsandbytes: install the extra, `pip install -e '.[quantization]'` in "
            f"the project's folder, or leave the option out"
        )


def load_base(
    base: BaseModel, dtype: torch.dtype, quantization: str = "none"
) -> tuple[PackedForSequenceClassification, PreTrainedTokenizerBase]:
    """Load the frozen base with a fresh head (float32), and its tokenizer, onto this machine's device.

    All models of a process share the weights of their base (`shared_base`); a quantised base is loaded each time.

    Args:
        base: The base model on disk.
        dtype: Data type of the weights; for a quantised base, the one it computes in.
        quantization: `nf4` turns every projection into 4 bits as it is loaded; `none` leaves them.

    Raises:
        MentallamError: The folder holds no complete model of a supported family, or the extra `quantization` is
            missing.
    """
    tokenizer = load_base_tokenizer(base)
    device = compute_device()
    if quantization == "nf4":
        require_bitsandbytes("model.quantization=nf4")
        model = _quantised(base, dtype, device)
    else:
        shared = frozen_base(base, dtype, device)
        with torch.device("meta"):
            model = empty_base(shared.architecture, dtype)
        shared.put_into(model.model)
        head = torch.empty(model.score.weight.shape, dtype=dtype, device=device)
        model.score.weight = nn.Parameter(nn.init.normal_(head, std=model.config.initializer_range))
    model.score.float()  # it is small, and its rounding would reach the probability directly
    return model.eval(), tokenizer


def _quantised(base: BaseModel, dtype: torch.dtype, device: torch.device) -> PackedForSequenceClassification:
    architecture = base.architecture()
    model: PackedForSequenceClassification = load_whole(
        packed_class(architecture.model_type).from_pretrained,
        base.folder,
        base.way_out,
        fresh=["score.weight"],
        config=changed(architecture, **_CLASSIFIER),
        dtype=dtype,
        quantization_config=_nf4(dtype),
        attn_implementation=attention.NAME,
        device_map={"": device} if device.type == "cuda" else None,
    )
    module: Any
    for module in model.modules():
        # On a CPU bitsandbytes would reorder the 4-bit weights at the first scoring, and PEFT would then take DoRA's
        # norms of other numbers.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_base_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer, without its weights.

    Raises:
        MentallamError: The folder holds none that can be read.
    """
    return read_tokenizer(base.folder, base.way_out)


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """Return QLoRA's settings (arXiv 2305.14314); the head is trained, so it is not quantised."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["score"],
    )


def add_adapter(model: PackedForSequenceClassification, adapter: AdapterConfig) -> PeftModel:
    """Wrap the base in trainable DoRA (or LoRA) adapters; the head is trained in full and saved with them.

    Raises:
        MentallamError: A target module or a number of layers that the model doesn't have.
    """
    model.frozen_layers = layers_below_adapter(model.config, adapter)
    _check_targets(model, adapter)
    config = lora_config(model.config, adapter)
    adapted = get_peft_model(model, config)
    assert isinstance(adapted, PeftModel)
    # PEFT holds a set, whose order differs between processes; in this order the saved file is always the same.
    config.target_modules = sorted(adapter.target_modules)
    use_fast_adapters(adapted)
    start_magnitudes(adapted)
    return adapted


def lora_config(architecture: PreTrainedConfig, adapter: AdapterConfig) -> LoraConfig:
    """Return PEFT's configuration of the adapters on a base.

    Raises:
        MentallamError: `adapter.top_layers` does not fit the base.
    """
    return LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        use_dora=adapter.use_dora,
        target_modules=list(adapter.target_modules),
        layers_to_transform=list(range(layers_below_adapter(architecture, adapter), architecture.num_hidden_layers)),
        modules_to_save=["score"],
    )


def prepare_base(config: Config, base_models: str) -> dict[str, str]:
    """Get the base model onto this machine, check that the adapter fits it, and return where it lies, as plain values.

    Args:
        config: The resolved configuration.
        base_models: Folder of the base weights that were converted or made on this machine.

    Raises:
        MentallamError: As `weights.prepare_base_model` and `check_adapter`.
    """
    base = prepare_base_model(config.model, Path(base_models))
    check_adapter(base.architecture(), config.adapter)
    return base.to_dict()


def check_adapter(architecture: PreTrainedConfig, adapter: AdapterConfig) -> None:
    """Refuse an adapter that doesn't fit the base, before any weights are loaded.

    Raises:
        MentallamError: A target module or a number of layers that the model doesn't have.
    """
    layers_below_adapter(architecture, adapter)
    with torch.device("meta"):  # one layer is enough, because all are alike
        _check_targets(empty_base(changed(architecture, num_hidden_layers=1), torch.float32), adapter)


def _check_targets(model: PackedForSequenceClassification, adapter: AdapterConfig) -> None:
    """Refuse names that match no projection; PEFT ignores such a name as long as another one matches."""
    layers = cast(nn.ModuleList, model.model.layers)
    projections = {name for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
    names = {projection.rpartition(".")[2] for projection in projections}
    unknown = [
        target
        for target in adapter.target_modules
        if not any(f".{projection}".endswith(f".{target}") for projection in projections)
    ]
    if unknown:
        raise MentallamError(
            f"adapter.target_modules names {', '.join(unknown)}, which no layer of the model has: choose from "
            f"{', '.join(sorted(names))} (the head, score, is always trained in full){did_you_mean(unknown[0], names)}"
        )


def layers_below_adapter(architecture: PreTrainedConfig, adapter: AdapterConfig) -> int:
    """Return the number of layers that are not trained, counted from the first one.

    Raises:
        MentallamError: `adapter.top_layers` is below 1, or above the number of the model's layers.
    """
    layers: int = architecture.num_hidden_layers
    if adapter.top_layers is not None and not 0 < adapter.top_layers <= layers:
        raise MentallamError(
            f"adapter.top_layers is {adapter.top_layers}; the model has layers 1 to {layers}, null takes all"
        )
    return layers - (adapter.top_layers or layers)


def build_classifier(base: BaseModel, config: Config) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Build a base with fresh adapters and a fresh head, ready for training; call after seeding."""
    model, tokenizer = load_base(base, compute_dtype(config.model.dtype), config.model.quantization)
    adapted = add_adapter(model, config.adapter)
    if config.model.gradient_checkpointing:
        # It works in training mode only; scoring keeps nothing for a backward pass anyway.
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
    model_on_gpu = next(adapted.parameters()).is_cuda
    if config.model.compile_on_gpu if model_on_gpu else config.model.compile_on_cpu:
        compile_layers(adapted)
    return adapted, tokenizer
