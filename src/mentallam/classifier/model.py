"""The classifier: a Llama base, DoRA adapters, and a head with two logits on each pair's last token."""

import copy
import logging
from importlib.util import find_spec
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from mentallam.classifier import attention
from mentallam.classifier.compiling import compile_layers
from mentallam.classifier.dora import start_magnitudes, use_fast_adapters
from mentallam.classifier.packing import Packing
from mentallam.classifier.weights import BaseModel, quiet_loading
from mentallam.config import AdapterConfig, Config
from mentallam.errors import MentallamError

LABELS = ("no", "yes")

logger = logging.getLogger(__name__)


class PackedLlamaForSequenceClassification(LlamaForSequenceClassification):
    """Llama with a sequence-classification head that also takes packed rows.

    With a packing, the head reads the tokens named by `pool_index`, one per pair; without one it is transformers' own.

    Attributes:
        compiled: Whether the layers are; see `compiling`.
        frozen_layers: Layers below the lowest that is trained.
    """

    compiled = False
    frozen_layers = 0

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
        """Logits, (N, 2) float32 for N packed pairs; see `packing.PackedBatch` for the arguments.

        A packed row with `inputs_embeds` begins at the lowest trained layer.
        """
        if packing is None:
            plain: SequenceClassifierOutput = super().forward(
                input_ids, position_ids=position_ids, inputs_embeds=inputs_embeds, labels=labels, **kwargs
            )
            return plain
        seen = attention.for_compiled_layers(packing, self.device) if self.compiled else packing
        kwargs.update(use_cache=False, packing=seen, return_dict=True)
        if inputs_embeds is None:
            output = self.model(input_ids, position_ids=position_ids, **kwargs)
        else:
            trained = some_layers(self.model, self.frozen_layers, None)
            output = trained(inputs_embeds=inputs_embeds, position_ids=position_ids, **kwargs)
        return SequenceClassifierOutput(logits=self.score(output.last_hidden_state[0, pool_index].float()))


def some_layers(decoder: LlamaModel, first: int, last: int | None) -> LlamaModel:
    """A decoder of some of another's layers, the same objects; the final norm stands only behind the last of all.

    Args:
        decoder: The whole one; it stays as it is.
        first: The first of the layers, counted from 0.
        last: Behind the last of them; None for all that follow.
    """
    part = copy.copy(decoder)
    part._modules = {**decoder._modules, "layers": decoder.layers[first:last]}
    if last is not None:
        part._modules["norm"] = nn.Identity()
    return part


def compute_device() -> torch.device:
    """The first GPU, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that `auto`, `bfloat16` or `float32` stands for on this machine.

    `auto` is bfloat16 where the GPU, or the CPU's AVX512-BF16 or AMX units, multiply in it; elsewhere bfloat16 is
    emulated and slower than float32.
    """
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


# How a base becomes a classifier, whether its weights are loaded or only counted.
_CLASSIFIER: dict[str, Any] = {
    "num_labels": len(LABELS),
    "id2label": dict(enumerate(LABELS)),
    "label2id": {label: index for index, label in enumerate(LABELS)},
}


def empty_base(architecture: LlamaConfig, dtype: torch.dtype) -> PackedLlamaForSequenceClassification:
    """As `load_base`, but without weights: on torch's meta device if called under it, which takes no memory."""
    changed = LlamaConfig.from_dict({**architecture.to_dict(), **_CLASSIFIER})
    model = PackedLlamaForSequenceClassification._from_config(changed, dtype=dtype, attn_implementation=attention.NAME)
    model.score.float()
    assert isinstance(model, PackedLlamaForSequenceClassification)
    return model


def require_bitsandbytes(option: str) -> None:
    """Says how to get the library that 4-bit weights and 8-bit optimizers need.

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
) -> tuple[PackedLlamaForSequenceClassification, PreTrainedTokenizerBase]:
    """The frozen base with a fresh head (float32) and its tokenizer, on this machine's device.

    Args:
        base: Where it lies.
        dtype: Of the weights; of a quantised base, what it computes in.
        quantization: `nf4` turns every projection into 4 bits as it is loaded; `none` leaves them.

    Raises:
        MentallamError: The folder holds no complete Llama model, or the extra `quantization` is missing.
    """
    if quantization == "nf4":
        require_bitsandbytes("model.quantization=nf4")
    tokenizer = load_base_tokenizer(base)
    try:
        with quiet_loading():
            model = PackedLlamaForSequenceClassification.from_pretrained(
                base.folder,
                **_CLASSIFIER,
                dtype=dtype,
                quantization_config=_nf4(dtype) if quantization == "nf4" else None,
                attn_implementation=attention.NAME,
                device_map={"": compute_device()} if torch.cuda.is_available() else None,
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(base, error) from None
    model.score.float()  # small, and the one place where rounding would reach the probability directly
    return model, tokenizer


def load_base_tokenizer(base: BaseModel) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, without its weights.

    Raises:
        MentallamError: The folder holds none that can be read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base.folder)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(base, error) from None
    return tokenizer


def _unreadable(base: BaseModel, error: Exception) -> MentallamError:
    reason = str(error).strip().splitlines()[0]
    return MentallamError(
        f"the base model in {base.folder} can't be loaded ({reason}); remove it to have it made again"
    )


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """QLoRA's recipe (arXiv 2305.14314); the head is trained, so it stays as it is."""
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["score"],
    )


def add_adapter(model: PackedLlamaForSequenceClassification, adapter: AdapterConfig) -> PeftModel:
    """Wraps the base in trainable DoRA (or LoRA) adapters; the head is trained in full and saved with them.

    Raises:
        MentallamError: A target module or a number of layers that the model doesn't have.
    """
    model.frozen_layers = layers_below_adapter(model.config, adapter)
    try:
        adapted = get_peft_model(
            model,
            LoraConfig(
                task_type=TaskType.SEQ_CLS,
                r=adapter.r,
                lora_alpha=adapter.alpha,
                lora_dropout=adapter.dropout,
                use_dora=adapter.use_dora,
                target_modules=list(adapter.target_modules),
                layers_to_transform=list(range(model.frozen_layers, model.config.num_hidden_layers)),
                modules_to_save=["score"],
            ),
        )
    except ValueError as error:
        raise MentallamError(
            f"adapter.target_modules={adapter.target_modules} doesn't fit the model: {error}"
        ) from None
    assert isinstance(adapted, PeftModel)
    use_fast_adapters(adapted)
    start_magnitudes(adapted)
    return adapted


def layers_below_adapter(architecture: LlamaConfig, adapter: AdapterConfig) -> int:
    """How many layers stay as they are, from the first one on.

    Raises:
        MentallamError: More trained layers than the model has, or none.
    """
    layers = architecture.num_hidden_layers
    if adapter.top_layers is not None and not 0 < adapter.top_layers <= layers:
        raise MentallamError(
            f"adapter.top_layers is {adapter.top_layers}; the model has layers 1 to {layers}, null takes all"
        )
    return layers - (adapter.top_layers or layers)


def build_classifier(base: BaseModel, config: Config) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Base, fresh adapters and fresh head, ready for training; call after seeding."""
    model, tokenizer = load_base(base, compute_dtype(config.model.dtype), config.model.quantization)
    adapted = add_adapter(model, config.adapter)
    if config.model.gradient_checkpointing:
        # Only while the model is in training mode; scoring keeps nothing for a backward pass anyway.
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
    on_gpu = next(adapted.parameters()).is_cuda
    if config.model.compile_on_gpu if on_gpu else config.model.compile_on_cpu:
        compile_layers(adapted)
    return adapted, tokenizer
