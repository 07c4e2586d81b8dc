import copy

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant

from mentallam.classifier.dora import CachedNormDora, Factors
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.training import pair_loss
from mentallam.classifier.weights import BaseModel
from mentallam.config import compose_config
from tests.conftest import PROJECT
from tests.unit.classifier.conftest import gradients, make_classifier, relative_difference


def lora_layers(model: PeftModel) -> list[LoraLinear]:
    return [module for module in model.modules() if isinstance(module, LoraLinear)]


def with_pefts_own_dora(model: PeftModel) -> PeftModel:
    model = copy.deepcopy(model)
    for layer in lora_layers(model):
        layer.lora_variant["default"] = DoraLinearVariant()
    return model


def logits_and_loss(model: PeftModel, examples: list[PostExample]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = pack(examples)
    labels = batch.pop("labels")
    outputs = model(**batch)
    return outputs.logits, pair_loss(outputs, labels)


def test_every_projection_has_the_cached_norm(classifier: tuple[PeftModel, Prompter]) -> None:
    layers = lora_layers(classifier[0])
    assert len(layers) == 2 * 7
    assert all(isinstance(layer.lora_variant["default"], CachedNormDora) for layer in layers)


@pytest.mark.parametrize("fused", [False, True])  # a fused optimizer changes weights without a trace in their version
def test_equals_pefts_dora_in_logits_gradients_and_after_ten_steps(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], fused: bool
) -> None:
    ours, _ = classifier
    pefts = with_pefts_own_dora(ours)
    optimizers = [
        torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), lr=1e-2, fused=fused) for m in (ours, pefts)
    ]
    start = logits_and_loss(ours, examples)[0].detach()
    for step in range(10):
        results = [logits_and_loss(model, examples) for model in (ours, pefts)]
        assert (results[0][0] - results[1][0]).abs().max() < 1e-4 if step else 1e-5
        for _, loss in results:
            loss.backward()
        if step == 0:
            assert relative_difference(gradients(ours), gradients(pefts)) < 1e-5
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    after = [logits_and_loss(model, examples)[0] for model in (ours, pefts)]
    assert (after[0] - after[1]).abs().max() < 1e-3
    assert (after[0] - start).abs().max() > 0.1  # the steps moved the model far beyond that tolerance


def test_factors_are_kept_until_the_adapter_changes(classifier: tuple[PeftModel, Prompter]) -> None:
    layer = lora_layers(classifier[0])[0]
    variant, base = layer.lora_variant["default"], layer.get_base_layer().weight
    a, b, scaling = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    magnitude = layer.lora_magnitude_vector["default"].weight

    def check(factors: Factors) -> None:
        norm = (base + scaling * b @ a).norm(dim=1)
        torch.testing.assert_close(factors.norm, norm, rtol=1e-5, atol=0)
        torch.testing.assert_close(factors.direction, magnitude / norm, rtol=1e-5, atol=0)

    def factors() -> Factors:
        return variant.factors(base, a, b, magnitude, scaling, torch.float32)

    first = factors()
    check(first)
    assert factors() is first
    for trained in (a, b, magnitude):
        with torch.no_grad():
            trained.mul_(3)
        check(factors())
    assert variant.factors(base, a, b, magnitude, scaling, torch.bfloat16).a.dtype == torch.bfloat16


@pytest.mark.parametrize("overrides", ["adapter.dropout=0.1", "adapter=lora"])
def test_leaves_other_layers_alone(tiny_base: BaseModel, overrides: str) -> None:
    model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", overrides))
    assert not any(isinstance(layer.lora_variant.get("default"), CachedNormDora) for layer in lora_layers(model))


def test_norm_is_exact_enough_beside_bfloat16_weights() -> None:
    torch.manual_seed(0)
    base = (torch.randn(96, 64) * 0.1).bfloat16()
    a, b = torch.randn(8, 64) * 0.1, torch.randn(96, 8) * 0.05
    exact = (base.double() + 2 * b.double() @ a.double()).norm(dim=1)
    norm = CachedNormDora().factors(base, a, b, torch.ones(96), 2.0, torch.bfloat16).norm
    error = (norm - exact).abs() / exact
    assert error.max() < 1e-3  # a bfloat16 weight is itself known to 4e-3
