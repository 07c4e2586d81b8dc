"""Supported model families, and refusals of architectures whose packed scores would not be exact.

`FAMILIES` is the only place where a family is added. tests/unit/classifier/test_families.py tests the same equalities
for each (docs/models.md).
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    LlamaForSequenceClassification,
    MistralForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForSequenceClassification,
    Qwen3ForSequenceClassification,
)

from mentallam.config import ModelConfig
from mentallam.errors import MentallamError

FAMILIES: dict[str, type[PreTrainedModel]] = {
    "llama": LlamaForSequenceClassification,
    "mistral": MistralForSequenceClassification,
    "qwen2": Qwen2ForSequenceClassification,
    "qwen3": Qwen3ForSequenceClassification,
}
"""transformers' generic classifier of each family, by config.json's `model_type`."""

# transformers still accepts these keys of older configurations.
_OLDER_KEYS = {"model_type", "rope_theta", "rope_scaling"}


def make_architecture(described: Mapping[str, Any], where: str = "model.architecture") -> PreTrainedConfig:
    """Return the architecture that `model.architecture` describes.

    Args:
        described: The keys of a config.json; `model_type` names the family and defaults to llama.
        where: The place that holds the keys, for errors.

    Raises:
        MentallamError: The family is not supported, a key is unknown, or a value does not fit.
    """
    family = _config_class(described.get("model_type", "llama"), where)
    known = {field.name for field in fields(family)} | _OLDER_KEYS
    if unknown := sorted(set(described) - known):
        raise MentallamError(f"{where} has no key {unknown[0]}{did_you_mean(unknown[0], known)}")
    return _configured(family, described, where)


def read_architecture(folder: Path, gguf_file: str | None = None) -> PreTrainedConfig:
    """Read the architecture of a base model on disk.

    Args:
        folder: The folder of config.json or of the GGUF file.
        gguf_file: Name of the GGUF file, if there is no config.json.

    Raises:
        MentallamError: The family is not supported, or a value in the file does not fit.
        OSError, ValueError: The file can't be read.
    """
    if gguf_file is None and not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json")  # transformers would assume an empty one.
    try:
        described, _ = PreTrainedConfig.get_config_dict(str(folder), gguf_file=gguf_file, local_files_only=True)
    except RecursionError:
        raise ValueError("config.json is nested too deeply") from None
    where = str(folder / (gguf_file or "config.json"))
    family = _config_class(described.get("model_type"), where)
    architecture = _configured(family, described, where)
    architecture.name_or_path = str(folder)
    return architecture


def check_architecture(architecture: PreTrainedConfig, model: ModelConfig) -> None:
    """Refuse a base that can't score pairs of `model.max_length` tokens exactly.

    Args:
        architecture: The base model's architecture.
        model: The base model's configuration.

    Raises:
        MentallamError: The base can't do it; the message names the limit and what to do.
    """
    positions = architecture.max_position_embeddings
    if model.max_length > positions:
        raise MentallamError(
            f"model.max_length={model.max_length} is above the {positions} positions that {model.name} was trained on "
            f"(max_position_embeddings): set model.max_length={positions} or less, or choose another base model"
        )
    layers = getattr(architecture, "layer_types", None) or []
    if other := sorted(set(layers) - {"full_attention", "sliding_attention"}):
        raise _inexact(model, f"has layers of the type {other[0]}")
    window = getattr(architecture, "sliding_window", None)
    slides = "sliding_attention" in layers or (window is not None and not layers)
    if slides and (window or 0) < model.max_length:
        raise MentallamError(
            f"{model.name} attends through a sliding window of {window} tokens, and model.max_length="
            f"{model.max_length} is longer: set model.max_length={window} or less, or choose another base model "
            f"(docs/models.md)"
        )
    rope = getattr(architecture, "rope_parameters", None) or {}
    short = rope.get("original_max_position_embeddings") or positions
    if rope.get("rope_type") == "longrope" and model.max_length > short:
        raise _inexact(model, f"turns positions by other factors (longrope) in rows above {short} tokens")
    if getattr(architecture, "attn_logit_softcapping", None):
        raise _inexact(model, "caps the attention's scores (attn_logit_softcapping)")
    if getattr(architecture, "attention_dropout", 0):
        raise _inexact(model, "drops attention weights at random (attention_dropout in its config.json)")


def changed(architecture: PreTrainedConfig, **values: Any) -> PreTrainedConfig:
    """Return a copy of an architecture with other values; transformers derives the layers' types from them."""
    described = {name: value for name, value in architecture.to_dict().items() if name != "layer_types"}
    copy = type(architecture).from_dict({**described, **values})
    copy.name_or_path = architecture.name_or_path
    return copy


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that names the most similar known word, or an empty string."""
    similar = get_close_matches(word, sorted(known), 1)
    return f"; did you mean {similar[0]}?" if similar else ""


def _config_class(model_type: str | None, where: str) -> type[PreTrainedConfig]:
    if model_type not in FAMILIES:
        raise MentallamError(
            f"the model family {model_type} ({where}) is not supported: choose a base model of the families "
            f"{', '.join(FAMILIES)} (docs/models.md)"
        )
    found = FAMILIES[model_type].config_class
    assert found is not None
    return found


def _configured(family: type[PreTrainedConfig], described: Mapping[str, Any], where: str) -> PreTrainedConfig:
    try:
        return family.from_dict(dict(described))
    except (TypeError, ValueError, KeyError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise MentallamError(f"{where} does not describe a {family.model_type} model: {reason}") from None


def _inexact(model: ModelConfig, fact: str) -> MentallamError:
    return MentallamError(
        f"{model.name} {fact}, so posts that share a row would not score as they do alone: choose another base model "
        f"(docs/models.md)"
    )
