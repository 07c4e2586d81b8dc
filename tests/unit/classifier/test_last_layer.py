"""What the last layer leaves out; test_families.py compares its result with each family's whole layer."""

from typing import Any, cast

import pytest
import torch
from peft import PeftModel

from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter


@pytest.mark.parametrize("gradient", [False, True])
def test_only_pooled_tokens_pass_the_whole_last_layer_where_no_gradient_is_needed(
    gradient: bool, classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    batch = pack(examples)
    tokens, pairs = batch["input_ids"].shape[1], len(batch["pool_index"])
    layers = cast(Any, classifier[0]).base_model.model.model.layers
    rows: dict[str, list[int]] = {}
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp"):
        for number, layer in enumerate(layers):
            seen = rows.setdefault(f"{number}.{name}", [])
            layer.get_submodule(name).register_forward_pre_hook(
                lambda _, args, seen=seen: seen.append(args[0].shape[-2])
            )
    with torch.set_grad_enabled(gradient):
        classifier[0](**cast(dict[str, Any], batch))
    last = f"{len(layers) - 1}."
    for name, seen in rows.items():
        whole = gradient or not name.startswith(last) or name.endswith(("k_proj", "v_proj"))
        assert seen == [tokens if whole else pairs], name
