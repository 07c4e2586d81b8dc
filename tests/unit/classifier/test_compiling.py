"""Compiled layers on a CPU, and what a CPU can show of those for a GPU; these are trained in tests/gpu."""

import copy
import shutil
from typing import Any

import pytest
import torch
from peft import PeftModel

from mentallam.classifier import compiling
from mentallam.classifier.compiling import compile_layers, compiler_errors
from mentallam.classifier.dora import FastLoraLinear, refresh_norms
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import pair_loss
from mentallam.classifier.weights import BaseModel
from mentallam.config import compose_config
from mentallam.errors import MentallamError
from tests.conftest import PROJECT
from tests.unit.classifier.conftest import gradients, make_classifier, make_examples, relative_difference


@pytest.mark.parametrize("adapter", ["dora", "lora"])
def test_what_is_compiled_equals_what_is_not(tiny_base: BaseModel, adapter: str) -> None:
    model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", f"adapter={adapter}"))
    layer = next(module for module in model.modules() if isinstance(module, FastLoraLinear))
    other = copy.deepcopy(layer)
    x = torch.randn(1, 20, layer.in_features)
    refresh_norms([other])
    # Captured as for a GPU, but run as it is: no C++ is made.
    outputs = [layer(x), torch.compile(other, backend="eager", fullgraph=True)(x)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    assert relative_difference(*(gradients(each) for each in (layer, other))) < 1e-5


def test_scores_of_the_compiled_model_follow_its_weights(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = classifier
    plain = copy.deepcopy(model)
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *args, **options: real(*args, **{**options, "backend": "eager"}))
    assert compile_layers(model)
    for scale in (1.0, 1.5):  # the second time with norms of other weights
        for each in (model, plain):
            for name, parameter in each.named_parameters():
                if "lora_B" in name:
                    with torch.no_grad():  # not through .data, which no one is told of
                        parameter.mul_(scale)
        assert score_pairs(model, examples, 512) == pytest.approx(score_pairs(plain, examples, 512), abs=1e-4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_compiled_for_a_cpu_once_for_rows_of_any_number_of_posts(tiny_base: BaseModel, checkpointing: str) -> None:
    overrides = f"model.compile_on_cpu=true model.gradient_checkpointing={checkpointing}"
    model, prompter = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", overrides))
    plain, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny"))
    assert (model.base_model.model.compiled, plain.base_model.model.compiled) == (True, False)
    examples = make_examples(prompter)
    for number, posts in enumerate([examples, examples[:1], examples[1:], examples[1:2]]):
        with torch.compiler.set_stance("fail_on_recompile" if number > 0 else "default"):
            for each in (model.train(), plain.train()):
                each.zero_grad()
                batch: dict[str, Any] = dict(pack(posts))
                labels = batch.pop("labels")
                pair_loss(each(**batch), labels).backward()
        assert relative_difference(*(gradients(each) for each in (model, plain))) < 1e-5


@pytest.mark.parametrize(("device", "taken"), [("cpu", False), ("cuda", True)])
def test_each_device_has_its_own_switch(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, device: str, taken: bool
) -> None:
    compiled: list[PeftModel] = []
    monkeypatch.setattr("mentallam.classifier.model.compile_layers", compiled.append)
    monkeypatch.setattr(torch.Tensor, "is_cuda", device == "cuda")
    make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", "model.compile_on_gpu=true"))
    assert len(compiled) == taken


def test_without_a_working_compiler_one_sentence_and_no_compiled_layers(
    classifier: tuple[PeftModel, Prompter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("backend='inductor' raised:\nFailed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(compiling.torch, "compile", broken)
    model, _ = classifier
    assert not compile_layers(model)
    assert not model.base_model.model.compiled
    assert "model.compile_on_cpu: PyTorch's compiler does not work here (Failed to find C compiler.)" in caplog.text


def test_what_cannot_be_compiled_is_one_sentence_with_the_way_out() -> None:
    def branching(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x

    sentence = r"can't be compiled here \(.+\): set model.compile_on_gpu=false and model.compile_on_cpu=false$"
    with pytest.raises(MentallamError, match=sentence), compiler_errors():
        torch.compile(branching, backend="eager", fullgraph=True)(torch.ones(3))


def test_adapters_with_dropout_are_not_compiled(tiny_base: BaseModel) -> None:
    model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", "adapter.dropout=0.1"))
    assert not compile_layers(model)
