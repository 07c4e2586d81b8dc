import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor

from mentallam.classifier.dora import Factors, FastLoraLinear, Parts, refresh_norms, use_fast_adapters, weight_norms
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.model import build_classifier, load_base
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, compose_config
from tests.samples import PROJECT
from tests.unit.classifier.builders import gradients, make_classifier, make_examples, relative_difference


def lora_layers(model: PeftModel) -> list[LoraLinear]:
    return [module for module in model.modules() if isinstance(module, LoraLinear)]


def with_pefts_forward(model: PeftModel) -> PeftModel:
    model = copy.deepcopy(model)
    for layer in lora_layers(model):
        layer.__class__ = LoraLinear
    return model


def logits_and_loss(model: PeftModel, examples: list[PostExample]) -> tuple[torch.Tensor, torch.Tensor]:
    batch = pack(examples)
    labels = batch.pop("labels")
    outputs = model(**batch)
    return outputs.logits, pair_loss(outputs, labels)


def test_every_projection_is_fast(classifier: tuple[PeftModel, Prompter]) -> None:
    layers = lora_layers(classifier[0])
    assert len(layers) == 2 * 7
    assert all(isinstance(layer, FastLoraLinear) for layer in layers)


@pytest.mark.parametrize("adapter", ["dora", "lora"])
@pytest.mark.parametrize("fused", [False, True])  # A fused optimizer leaves the version as it is.
def test_equals_peft_in_logits_gradients_and_after_ten_steps(tiny_base: BaseModel, adapter: str, fused: bool) -> None:
    config = compose_config(PROJECT / "hydra_configs", "tiny", f"adapter={adapter}")
    ours, prompter = make_classifier(tiny_base, config)
    examples = make_examples(prompter)
    pefts = with_pefts_forward(ours)
    optimizers = [
        torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), lr=1e-2, fused=fused) for m in (ours, pefts)
    ]
    start = logits_and_loss(ours, examples)[0].detach()
    for step in range(10):
        results = [logits_and_loss(model, examples) for model in (ours, pefts)]
        assert (results[0][0] - results[1][0]).abs().max() < (1e-4 if step else 1e-5)
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
    base = layer.get_base_layer().weight
    a, b, scaling = layer.lora_A["default"].weight, layer.lora_B["default"].weight, layer.scaling["default"]
    magnitude = layer.lora_magnitude_vector["default"].weight

    def check(factors: Factors) -> None:
        norm = (base + scaling * b @ a).norm(dim=1)
        torch.testing.assert_close(layer.norm, norm, rtol=1e-5, atol=0)
        torch.testing.assert_close(factors.direction, magnitude / norm, rtol=1e-5, atol=0)
        torch.testing.assert_close(factors.excess, magnitude / norm - 1, rtol=0, atol=1e-5)

    def factors() -> Factors:
        return layer.factors(torch.float32)

    first = factors()
    check(first)
    assert factors() is first
    for trained in (a, b, magnitude):
        with torch.no_grad():
            trained.mul_(3)
        check(factors())
    in_bfloat16 = layer.factors(torch.bfloat16)
    assert {part.dtype for part in (in_bfloat16.a, in_bfloat16.b, in_bfloat16.excess)} == {torch.bfloat16}
    assert in_bfloat16.direction.dtype == torch.float32


@pytest.fixture
def in_bfloat16() -> Config:
    return compose_config(PROJECT / "hydra_configs", "tiny", "model.dtype=bfloat16")


def test_a_fresh_adapter_changes_no_row(tiny_base: BaseModel, in_bfloat16: Config) -> None:
    torch.manual_seed(0)
    for layer in lora_layers(build_classifier(tiny_base, in_bfloat16)[0]):
        assert layer.get_base_layer().weight.dtype == torch.bfloat16
        assert layer.lora_magnitude_vector["default"].weight.dtype == torch.float32
        factors = layer.factors(torch.bfloat16)
        assert (factors.direction == 1).all()
        assert not factors.excess.any()


@pytest.mark.parametrize("compiled", [False, True])
def test_a_magnitude_a_thousandth_larger_changes_the_output_in_bfloat16(
    tiny_base: BaseModel, in_bfloat16: Config, compiled: bool
) -> None:
    """Change a magnitude by less than bfloat16 can tell from 1: a rounded direction or output would not move."""
    layer = lora_layers(make_classifier(tiny_base, in_bfloat16)[0])[0]
    layer.lora_B["default"].weight.data.mul_(0.1)  # the adapter's part of the output is small, as in training
    forward = torch.compile(layer, backend="eager") if compiled else layer
    magnitude = layer.lora_magnitude_vector["default"].weight
    x = torch.randn(4096, layer.in_features).bfloat16()
    outputs = []
    with torch.no_grad():
        refresh_norms([layer])
        magnitude.copy_(layer.norm)
        for _ in range(2):
            refresh_norms([layer])
            outputs.append(forward(x).double())
            magnitude.mul_(1.001)
    before, after = outputs
    seen = (before * after).sum(0) / before.square().sum(0) - 1  # by least squares, a row at a time
    assert seen.min() > 0.0005
    assert seen.max() < 0.0015


@pytest.mark.parametrize("adapter", ["dora", "lora"])
def test_in_bfloat16_as_near_to_float32_as_peft(tiny_base: BaseModel, adapter: str) -> None:
    config = compose_config(PROJECT / "hydra_configs", "tiny", f"adapter={adapter} model.dtype=bfloat16")
    errors = []
    for seed in range(3):  # the rounding of one draw of weights may favour either
        ours, prompter = make_classifier(tiny_base, config, seed)
        examples = make_examples(prompter)
        pefts = with_pefts_forward(ours)
        exact = with_pefts_forward(ours).float()  # the same weights
        found = []
        for model in (ours, pefts, exact):
            logits, loss = logits_and_loss(model, examples)
            loss.backward()
            found.append((logits.detach(), gradients(model)))
        assert next(ours.parameters()).dtype == torch.bfloat16
        assert all(gradient.dtype == torch.float32 for gradient in found[0][1].values())
        assert len(found[0][1]) == len(found[2][1])
        pairs = ((found[0], found[2]), (found[1], found[2]), (found[0], found[1]))
        errors.append([distances(*pair) for pair in pairs])
    for our_error, peft_error, apart in np.mean(errors, axis=0).T:
        assert 0 < our_error < 1.5 * peft_error
        assert apart < 2 * peft_error


def test_pefts_checkpoints_and_ours_are_the_same_files(
    tiny_base: BaseModel, in_bfloat16: Config, tmp_path: Path
) -> None:
    ours, prompter = make_classifier(tiny_base, in_bfloat16)
    pefts = with_pefts_forward(ours)
    examples = make_examples(prompter)
    for saved in (ours, pefts):
        folder = tmp_path / type(lora_layers(saved)[0]).__name__
        saved.save_pretrained(str(folder))
        read = PeftModel.from_pretrained(load_base(tiny_base, torch.bfloat16)[0], str(folder)).eval()
        assert not any(isinstance(layer, FastLoraLinear) for layer in lora_layers(read))
        with torch.no_grad():
            for reader in (pefts, ours):
                assert torch.equal(logits_and_loss(read, examples)[0], logits_and_loss(reader, examples)[0])
                use_fast_adapters(read)


def distances(one: tuple[Tensor, dict[str, Tensor]], other: tuple[Tensor, dict[str, Tensor]]) -> list[float]:
    """Return the relative distance of the logits, then of the gradients of A, B, magnitude and head as vectors."""
    kinds = [kind for kind in ("lora_A", "lora_B", "magnitude", "score") if any(kind in name for name in one[1])]
    pairs = [(one[0], other[0])]
    for kind in kinds:
        names = sorted(name for name in one[1] if kind in name)
        pairs.append(tuple(torch.cat([result[1][name].flatten() for name in names]) for result in (one, other)))
    return [float((left - right).norm() / right.norm()) for left, right in pairs]


def test_leaves_dropout_to_peft(tiny_base: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", "adapter.dropout=0.1"))
    assert not any(isinstance(layer, FastLoraLinear) for layer in lora_layers(model))
    assert "keep PEFT's forward" in caplog.text


def test_a_disabled_or_merged_adapter_is_left_to_peft(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    model, _ = classifier
    with torch.no_grad():
        for layer in lora_layers(model):
            layer.lora_B["default"].weight.normal_(std=0.1)
        adapted = logits_and_loss(model, examples)[0]
        with model.disable_adapter():
            plain = logits_and_loss(model, examples)[0]
        assert (plain - adapted).abs().max() > 1e-3
        model.merge_adapter()
        assert (logits_and_loss(model, examples)[0] - adapted).abs().max() < 1e-4
        model.unmerge_adapter()
        assert (logits_and_loss(model, examples)[0] - adapted).abs().max() < 1e-4


def test_bias_and_a_row_of_zeros() -> None:
    """Cover what Llama has not but other bases might have."""
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(12, 6))
    base[0].weight.data[2] = 0
    model = get_peft_model(base, LoraConfig(target_modules=["0"], use_dora=True, r=2))
    model.base_model.model[0].lora_B["default"].weight.data.normal_()
    model.base_model.model[0].lora_magnitude_vector["default"].weight.data[2] = 0
    pefts = copy.deepcopy(model)
    assert use_fast_adapters(model) == 1
    x = torch.randn(5, 12)
    outputs = [m(x) for m in (model, pefts)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    ours, theirs = gradients(model), gradients(pefts)
    for name in ours:
        assert torch.isfinite(ours[name]).all()
        if "magnitude" in name:
            ours[name], theirs[name] = ours[name][[0, 1, 3, 4, 5]], theirs[name][[0, 1, 3, 4, 5]]
        torch.testing.assert_close(ours[name], theirs[name])


def test_the_norm_of_bfloat16_weights_is_exact_enough() -> None:
    torch.manual_seed(0)
    base = (torch.randn(96, 64) * 0.1).bfloat16()
    a, b = torch.randn(8, 64) * 0.1, torch.randn(96, 8) * 0.05
    exact = (base.double() + 2 * b.double() @ a.double()).norm(dim=1)
    (norm,) = weight_norms([Parts(base, base.float().square().sum(1), a, b, torch.ones(96), 2.0)])
    error = (norm - exact).abs() / exact
    assert error.max() < 1e-3  # a bfloat16 weight is itself known to 4e-3


def test_a_trained_base_is_left_to_peft() -> None:
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(12, 6)), LoraConfig(target_modules=["0"], bias="all"))
    assert use_fast_adapters(model) == 0  # The fast gradient has no part for the base.
