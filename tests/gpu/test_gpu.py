"""Tests that need a GPU: `make test-gpu`. The rest of the suite leaves a GPU alone."""

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from accelerate.utils import send_to_device
from peft import PeftModel

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.packed_model import compute_dtype
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.ranks import Ranks, open_ranks
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, compose_config
from mentallam.device import visible_gpus
from tests.samples import PROJECT
from tests.unit.classifier.builders import (
    gradients,
    make_classifier,
    make_examples,
    pairwise_logits,
    relative_difference,
)
from tests.unit.classifier.test_dora import with_pefts_forward
from tests.unit.trained_folds import DECISION, ORIGIN

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU was found")
    torch.manual_seed(0)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def tiny(overrides: str = "") -> Config:
    return compose_config(PROJECT / "hydra_configs", "tiny", overrides)


def loss_and_logits(model: PeftModel, examples: list[PostExample]) -> tuple[torch.Tensor, torch.Tensor]:
    batch: dict[str, Any] = send_to_device(pack(examples), "cuda")
    labels = batch.pop("labels")
    outputs = model(**batch)
    return pair_loss(outputs, labels), outputs.logits


def trained(base: BaseModel, config: Config, posts: int = 12, log: Any = lambda *_: None) -> tuple[PeftModel, Any]:
    model, prompter = make_classifier(base, config)
    examples = [example for _ in range(posts // 3) for example in make_examples(prompter)]
    with TemporaryDirectory() as states:
        train(model, examples, examples[:3], config.training, 0, log, Path(states))
    return model, prompter


def weights_of(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_the_model_is_on_the_gpu_in_bfloat16(tiny_base: BaseModel) -> None:
    assert compute_dtype("auto") == torch.bfloat16
    model, _ = make_classifier(tiny_base, tiny("model.dtype=auto"))
    assert {p.device.type for p in model.parameters()} == {"cuda"}
    assert next(model.parameters()).dtype == torch.bfloat16


def test_packed_equals_pairwise(tiny_base: BaseModel) -> None:
    model, prompter = make_classifier(tiny_base, tiny())
    examples = make_examples(prompter)
    loss, logits = loss_and_logits(model, examples)
    loss.backward()
    ours = gradients(model)
    model.zero_grad()
    expected = pairwise_logits(model, examples)
    labels = torch.tensor([label for example in examples for label in example.labels], device="cuda")
    torch.nn.functional.cross_entropy(expected, labels).backward()
    assert (logits - expected).abs().max() < 1e-4
    assert relative_difference(ours, gradients(model)) < 1e-4


def test_the_adapter_equals_pefts_after_ten_steps(tiny_base: BaseModel) -> None:
    ours, prompter = make_classifier(tiny_base, tiny())
    examples = make_examples(prompter)
    pefts = with_pefts_forward(ours)
    optimizers = [torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), 1e-2) for m in (ours, pefts)]
    start = loss_and_logits(ours, examples)[1].detach()
    for step in range(10):
        for model in (ours, pefts):
            loss_and_logits(model, examples)[0].backward()
        if step == 0:
            assert relative_difference(gradients(ours), gradients(pefts)) < 1e-4
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    after = [loss_and_logits(model, examples)[1] for model in (ours, pefts)]
    assert (after[0] - after[1]).abs().max() < 2e-3
    assert (after[0] - start).abs().max() > 0.1


def test_scores_are_those_of_a_cpu(tiny_base: BaseModel) -> None:
    model, prompter = make_classifier(tiny_base, tiny())
    examples = make_examples(prompter)
    on_gpu = score_pairs(model, examples, 512)
    assert on_gpu == pytest.approx(score_pairs(model.cpu(), examples, 512), abs=1e-4)


def test_gradient_checkpointing_changes_no_gradient(tiny_base: BaseModel) -> None:
    found = []
    for checkpointing in ("false", "true"):
        model, prompter = make_classifier(tiny_base, tiny(f"model.gradient_checkpointing={checkpointing}"))
        loss_and_logits(model.train(), make_examples(prompter))[0].backward()
        found.append(gradients(model))
    assert relative_difference(*found) < 1e-5


@pytest.mark.parametrize("adapter", ["dora", "lora"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_compiled_training_equals_uncompiled_training(tiny_base: BaseModel, adapter: str, checkpointing: str) -> None:
    overrides = f"adapter={adapter} model.gradient_checkpointing={checkpointing} training.max_epochs=2"
    found = []
    for compiled in ("false", "true"):
        model, prompter = trained(tiny_base, tiny(f"{overrides} model.compile_on_gpu={compiled}"))
        assert model.base_model.model.compiled == (compiled == "true")
        found.append((weights_of(model), score_pairs(model, make_examples(prompter), 512)))
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-3)
    assert relative_difference(found[0][0], found[1][0]) < 1e-2


def test_rows_of_many_lengths_are_compiled_once(tiny_base: BaseModel) -> None:
    model, prompter = make_classifier(tiny_base, tiny("model.compile_on_gpu=true"))
    for words in (3, 200, 40, 17, 90, 150):
        example = prompter.example("p", "so it is " * words, labels=[0, 1, 0])
        with torch.compiler.set_stance("fail_on_recompile" if words != 3 else "default"):
            loss_and_logits(model, [example, *make_examples(prompter)])[0].backward()


@pytest.mark.parametrize(
    "overrides",
    ["", "model.dtype=bfloat16", "model.dtype=bfloat16 adapter=lora", "model.dtype=bfloat16 model.compile_on_gpu=true"],
)
def test_the_same_seed_gives_the_same_weights_with_deterministic_algorithms(
    tiny_base: BaseModel, overrides: str
) -> None:
    found = []
    for _ in range(2):
        with deterministic_algorithms(True):
            found.append(weights_of(trained(tiny_base, tiny(overrides))[0]))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_lack_of_memory_changes_no_weight(tiny_base: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    config = tiny("training.effective_batch_pairs=720 training.tokens_per_pass=100000 training.max_epochs=1")
    calm, _ = trained(tiny_base, config, posts=270)
    peak = torch.cuda.max_memory_allocated()
    expected = weights_of(calm)
    del calm
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(0.6 * peak / total)
    with caplog.at_level(logging.WARNING):
        short, _ = trained(tiny_base, config, posts=270)
    assert "out of memory with" in caplog.text
    assert torch.cuda.max_memory_allocated() < 0.6 * peak
    assert relative_difference(weights_of(short), expected) < 1e-4


def test_gpu_memory_is_logged(tiny_base: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    logged: dict[str, float] = {}
    with caplog.at_level(logging.INFO):
        trained(tiny_base, tiny(), log=lambda metrics, _: logged.update(metrics))
    assert 0 < logged["peak_gpu_bytes"] <= torch.cuda.max_memory_reserved()
    assert "gpu=" in caplog.text


def test_4_bits_and_an_8_bit_optimizer_learn_and_are_read_again(tiny_base: BaseModel, tmp_path: Path) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    config = tiny("model.dtype=bfloat16 model.quantization=nf4 training.optimizer=adamw_8bit training.max_epochs=6")
    losses: list[float] = []
    model, prompter = trained(tiny_base, config, log=lambda metrics, _: losses.append(metrics.get("loss", -1)))
    assert sum(isinstance(module, bnb.nn.Linear4bit) for module in model.modules()) == 7 * 2
    steps = [loss for loss in losses if loss >= 0]
    assert steps[-1] < steps[0]
    save_checkpoint(TrainedFold(model, prompter, config, tiny_base, DECISION, ORIGIN), tmp_path / "fold")
    read = load_checkpoint(tmp_path / "fold", Path(tiny_base.folder).parent)
    examples = make_examples(prompter)
    assert score_pairs(read.model, examples, 512) == pytest.approx(score_pairs(model, examples, 512), abs=0.05)


def test_two_gpus_give_the_loss_and_the_gradients_of_one(tiny_base: BaseModel) -> None:
    if len(visible_gpus()) < 2:
        pytest.skip("a second GPU was not found")
    with open_ranks(tiny_base, tiny("training.ranks=2")) as ranks:
        model, prompter = make_classifier(tiny_base, tiny())
        examples = make_examples(prompter)
        alone, _ = Ranks().add_gradients(model, examples, 512, None, (0, 0))
        expected = gradients(model)
        model.zero_grad()
        together, _ = ranks.add_gradients(model, examples, 512, None, (0, 0))
        assert float(together) == pytest.approx(float(alone), rel=1e-5)
        assert relative_difference(gradients(model), expected) < 1e-4
