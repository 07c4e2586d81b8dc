"""Compiled layers on a CPU, and as much of those for a GPU as a CPU can test; tests/gpu trains the latter."""

import copy
import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
import torch
from peft import PeftModel

from mentallam.classifier import attention, compiling
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.compiling import compile_layers, compiler_errors, uncompile_layers
from mentallam.classifier.dora import FastLoraLinear, refresh_norms
from mentallam.classifier.fold import CorpusTables, fit_fold, score_fold
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.weights import BaseModel
from mentallam.config import compose_config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA, PROJECT
from tests.unit.classifier.builders import gradients, make_classifier, make_examples, relative_difference
from tests.unit.trained_folds import ORIGIN


def rounding_otherwise(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Callable[..., Any]:
    """Act as a compiler backend without C++ whose results differ in the last digits, as those of C++ do."""

    def run(*inputs: Any) -> Any:
        outputs = graph(*inputs)
        return tuple(
            out * (1 + 1e-6) if isinstance(out, torch.Tensor) and out.is_floating_point() else out for out in outputs
        )

    return run


@pytest.fixture
def no_cpp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Capture the layers as usual, but compile no C++, which takes seconds instead of minutes."""
    real = torch.compile

    def compile_quickly(*args: Any, **options: Any) -> Any:
        return real(*args, **{**options, "backend": rounding_otherwise})

    monkeypatch.setattr(torch, "compile", compile_quickly)
    attention._compiled_steps.cache_clear()
    yield
    attention._compiled_steps.cache_clear()  # Later tests need the real ones.


@pytest.mark.parametrize("adapter", ["dora", "lora"])
def test_a_compiled_adapter_equals_a_plain_one(tiny_base: BaseModel, adapter: str) -> None:
    model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", f"adapter={adapter}"))
    layer = next(module for module in model.modules() if isinstance(module, FastLoraLinear))
    other = copy.deepcopy(layer)
    x = torch.randn(1, 20, layer.in_features)
    refresh_norms([other])
    # The layer is captured as for a GPU, but the eager backend compiles no C++.
    outputs = [layer(x), torch.compile(other, backend="eager", fullgraph=True)(x)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    assert relative_difference(*(gradients(each) for each in (layer, other))) < 1e-5


@pytest.mark.usefixtures("no_cpp")
def test_scores_of_the_compiled_model_follow_its_weights(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    model, _ = classifier
    plain = copy.deepcopy(model)
    assert compile_layers(model)
    for scale in (1.0, 1.5):  # the second time with norms of other weights
        for each in (model, plain):
            for name, parameter in each.named_parameters():
                if "lora_B" in name:
                    with torch.no_grad():  # A change through .data would leave the version as it is.
                        parameter.mul_(scale)
        assert score_pairs(model, examples, 512) == pytest.approx(score_pairs(plain, examples, 512), abs=1e-4)


@pytest.mark.usefixtures("no_cpp")
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_captured_once_for_rows_of_any_number_of_posts(tiny_base: BaseModel, checkpointing: str) -> None:
    """What decides on compiling again is how the layers are captured; test_attention.py compiles a part of them."""
    compiled_once(tiny_base, checkpointing, 2e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_compiled_for_a_cpu_once_for_rows_of_any_number_of_posts(tiny_base: BaseModel, checkpointing: str) -> None:
    compiled_once(tiny_base, checkpointing, 1e-5)


def compiled_once(tiny_base: BaseModel, checkpointing: str, tolerance: float) -> None:
    """Compare the gradients of compiled layers with those of plain ones, for rows of one to three posts."""
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
        assert relative_difference(*(gradients(each) for each in (model, plain))) < tolerance


@pytest.mark.parametrize(("device", "taken"), [("cpu", False), ("cuda", True)])
def test_each_device_has_a_switch(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, device: str, taken: bool
) -> None:
    compiled: list[PeftModel] = []
    monkeypatch.setattr("mentallam.classifier.model.compile_layers", compiled.append)
    monkeypatch.setattr(torch.Tensor, "is_cuda", device == "cuda")
    make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", "model.compile_on_gpu=true"))
    assert len(compiled) == taken


def test_without_a_working_compiler_a_warning_and_no_compiled_layers(
    classifier: tuple[PeftModel, Prompter], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("backend='inductor' raised:\nFailed to find C compiler.\nPlease specify via CC")

    monkeypatch.setattr(compiling.torch, "compile", broken)
    model, _ = classifier
    assert not compile_layers(model)
    assert not model.base_model.model.compiled
    assert "model.compile_on_cpu: PyTorch's compiler does not work here (Failed to find C compiler.)" in caplog.text


def test_an_error_of_the_compiler_is_one_sentence_that_says_what_to_do() -> None:
    def branching(x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x

    sentence = r"can't be compiled here \(.+\): set model.compile_on_gpu=false and model.compile_on_cpu=false$"
    with pytest.raises(MentallamError, match=sentence), compiler_errors():
        torch.compile(branching, backend="eager", fullgraph=True)(torch.ones(3))


def test_adapters_with_dropout_are_not_compiled(tiny_base: BaseModel) -> None:
    model, _ = make_classifier(tiny_base, compose_config(PROJECT / "hydra_configs", "tiny", "adapter.dropout=0.1"))
    assert not compile_layers(model)


@pytest.mark.usefixtures("no_cpp")
def test_uncompiling_restores_the_scores_to_the_last_bit(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample]
) -> None:
    model, _ = classifier
    before = score_pairs(model, examples, 512).tolist()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FastLoraLinear):
                module.lora_B["default"].weight.add_(0)  # The version changes, so the norms are recomputed.
    assert compile_layers(model)
    assert score_pairs(model, examples, 512).tolist() != before  # Otherwise this test would show nothing.
    uncompile_layers(model)
    assert not model.base_model.model.compiled
    assert score_pairs(model, examples, 512).tolist() == before
    uncompile_layers(model)  # A second call does nothing.


@pytest.fixture
def fold() -> dict[str, Any]:
    """Return eight posts for `fit_fold`; a post that says "tired" matches the last criterion."""
    ids = [f"p{number}" for number in range(8)]
    texts = [f"On day {number} I was " + ("tired." if number % 2 else "at the lake.") for number in range(8)]
    grid = [(post_id, name) for post_id in ids for name in CRITERIA]
    pairs = pd.DataFrame(grid, columns=["post_id", "criterion_id"])
    tired = pairs["post_id"].isin(ids[1::2]) & (pairs["criterion_id"] == "A.6")
    return {
        "split": {"fold": 0, "seed": 42, "train": ids[:4], "dev": ids[4:6], "held_out": ids[4:6]},
        "tables": CorpusTables(
            posts=pd.DataFrame({"post_id": ids, "text": texts, "author": None}),
            criteria=pd.DataFrame({"criterion_id": list(CRITERIA), "criterion": list(CRITERIA.values())}),
            pairs=pairs.assign(label=tired.astype("int8"), explicit_negative=False),
            groups=pd.DataFrame({"post_id": ids, "group": ids, "cluster": ids}),
        ),
    }


def fit_compiled(base: BaseModel, fold: dict[str, Any]) -> tuple[TrainedFold, pd.DataFrame]:
    overrides = "model.compile_on_cpu=true training.max_epochs=1"
    config = compose_config(PROJECT / "hydra_configs", "tiny", overrides)
    given = {**fold, "frozen_states": {}, "origin": ORIGIN, "log_metrics": lambda *_: None}
    with TemporaryDirectory() as states:
        trained, _, dev = fit_fold(config, base, **given, states_folder=Path(states))
    return trained, dev


@pytest.mark.usefixtures("no_cpp")
def test_a_fold_trained_compiled_decides_on_the_scores_that_its_checkpoint_gives(
    tiny_base: BaseModel, fold: dict[str, Any], tmp_path: Path
) -> None:
    """Use the dev posts as the held-out posts as well, so that both paths score the same posts."""
    trained, dev = fit_compiled(tiny_base, fold)
    save_checkpoint(trained, tmp_path / "fold_0")
    loaded = load_checkpoint(tmp_path / "fold_0", Path(tiny_base.folder).parent)
    held_out = score_fold(loaded, **fold)
    pd.testing.assert_frame_equal(held_out.drop(columns="author_seen"), dev, check_exact=True)


@pytest.mark.usefixtures("no_cpp")
def test_a_fold_trained_compiled_is_freed_without_the_garbage_collector(
    tiny_base: BaseModel, fold: dict[str, Any]
) -> None:
    gc.collect()
    gc.disable()
    try:
        trained, _ = fit_compiled(tiny_base, fold)
        model = trained.model
        adapters = [module for module in model.modules() if isinstance(module, FastLoraLinear)]
        kept = [weakref.ref(part) for part in [model, *adapters, *(adapter.lora_A for adapter in adapters)]]
        del trained, model, adapters
        assert [reference() for reference in kept if reference() is not None] == []
    finally:
        gc.enable()
