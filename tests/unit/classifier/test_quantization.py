"""4-bit base and 8-bit optimizer on a CPU, which bitsandbytes supports; tests/gpu tests them on a GPU."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mentallam.classifier import model as model_module
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.memory import NF4_BYTES, empty_classifier, longest_posts, step_memory
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import train
from mentallam.classifier.weights import BaseModel, load_architecture
from mentallam.config import Config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA
from tests.unit.classifier.builders import make_classifier, make_examples
from tests.unit.trained_folds import DECISION, ORIGIN, make_trained

needs_the_extra = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="the extra `quantization` is not installed"
)


@pytest.fixture
def small(tiny_config: Config) -> Config:
    return replace(
        tiny_config,
        model=replace(tiny_config.model, quantization="nf4"),
        training=replace(tiny_config.training, optimizer="adamw_8bit", max_epochs=3),
    )


@needs_the_extra
def test_a_4_bit_base_is_trained_with_an_8_bit_optimizer_saved_and_read_again(
    tiny_base: BaseModel, small: Config, tmp_path: Path
) -> None:
    import bitsandbytes as bnb

    model, prompter = make_classifier(tiny_base, small)
    quantised = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert len(quantised) == 7 * 2
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if parameter.requires_grad}
    examples = make_examples(prompter)
    outcome = train(model, examples, examples, small.training, 0, lambda *_: None, tmp_path)
    assert outcome.steps > 0
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert not torch.equal(parameter, before[name]), name
    save_checkpoint(TrainedFold(model, prompter, small, tiny_base, DECISION, ORIGIN), tmp_path / "fold")
    read = load_checkpoint(tmp_path / "fold", Path(tiny_base.folder).parent)
    assert abs(score_pairs(read.model, examples, 2) - score_pairs(model, examples, 2)).max() < 5e-3


@needs_the_extra
def test_scoring_does_not_reorder_4_bit_weights(tiny_base: BaseModel, small: Config) -> None:
    """PEFT reads them for DoRA's norms, in the order in which they were quantised."""
    import bitsandbytes as bnb

    model, prompter = make_classifier(tiny_base, replace(small, model=replace(small.model, dtype="bfloat16")))
    layers = [module for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    before = [layer.weight.data.clone() for layer in layers]
    score_pairs(model, make_examples(prompter), 400)
    assert all(torch.equal(layer.weight.data, weights) for layer, weights in zip(layers, before, strict=True))


@needs_the_extra
def test_merging_into_a_4_bit_base_keeps_what_its_bits_stand_for(
    tiny_base: BaseModel, tiny_config: Config, small: Config, tmp_path: Path
) -> None:
    """With LoRA: on a CPU bitsandbytes reorders the bits before it scores, and then PEFT's norms for DoRA are wrong."""
    import bitsandbytes as bnb

    scores, cache = {}, Path(tiny_base.folder).parent
    lora = replace(small.adapter, use_dora=False)
    trained = make_trained(tiny_base, replace(small, adapter=lora))
    examples = make_examples(trained.prompter)
    for name, config in {"4 bits": small, "full": tiny_config}.items():
        save_checkpoint(replace(trained, config=replace(config, adapter=lora)), tmp_path / name)
        for merge in (False, True):
            loaded = load_checkpoint(tmp_path / name, cache, merge=merge).model
            scores[name, merge] = score_pairs(loaded, examples, 2)
            in_4_bits = [module for module in loaded.modules() if isinstance(module, bnb.nn.Linear4bit)]
            assert len(in_4_bits) == (7 * 2 if (name, merge) == ("4 bits", False) else 0)
    rounding = abs(scores["4 bits", True] - scores["4 bits", False]).max()
    assert rounding < 0.1 * abs(scores["full", True] - scores["4 bits", False]).max()


@needs_the_extra
def test_a_4_bit_base_gives_nearly_the_same_packed_logits_and_all_gradients(
    tiny_base: BaseModel, tiny_config: Config, small: Config
) -> None:
    plain, prompter = make_classifier(tiny_base, tiny_config)
    quantised, _ = make_classifier(tiny_base, small)
    batch = pack(make_examples(prompter))
    logits = [model(**batch).logits for model in (plain, quantised)]
    assert not torch.equal(*logits)
    assert torch.nn.functional.cosine_similarity(*(each.flatten() for each in logits), dim=0) > 0.95
    logits[1].sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in quantised.parameters() if p.requires_grad)


@pytest.mark.parametrize("option", ["model.quantization=nf4", "training.optimizer=adamw_8bit"])
def test_a_missing_extra_is_one_sentence(
    option: str,
    tiny_base: BaseModel,
    tiny_config: Config,
    small: Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    examples = make_examples(prompter)
    monkeypatch.setattr(model_module, "find_spec", lambda name: None)
    uses: dict[str, Callable[[], object]] = {
        "model.quantization=nf4": lambda: build_classifier(tiny_base, small),
        "training.optimizer=adamw_8bit": lambda: train(
            model, examples, examples, small.training, 0, lambda *_: None, tmp_path
        ),
    }
    with pytest.raises(MentallamError, match=rf"{option} needs the library bitsandbytes: .*\[quantization\]"):
        uses[option]()


def test_the_plan_counts_four_bits_and_one_byte(tiny_config: Config, small: Config, tmp_path: Path) -> None:
    examples, _ = longest_posts(tiny_config, tmp_path, CRITERIA)
    architecture, _ = load_architecture(tiny_config.model, tmp_path)
    full = step_memory(empty_classifier(architecture, tiny_config), examples, True)
    less = step_memory(empty_classifier(architecture, small), examples, True, "adamw_8bit")
    shapes = tiny_config.model.architecture
    hidden, inner = shapes["hidden_size"], shapes["intermediate_size"]
    projections = 2 * (2 * hidden * hidden + 2 * hidden * hidden // 2 + 3 * hidden * inner)
    assert full.weights - less.weights == pytest.approx(projections * (4 - NF4_BYTES), abs=1)
    assert less.optimizer <= full.optimizer


@needs_the_extra
def test_the_planned_optimizer_state_equals_that_of_bitsandbytes() -> None:
    import bitsandbytes as bnb

    from mentallam.classifier.memory import _adam_8bit

    for size in (4000, 4096, 90_112):
        parameter = torch.nn.Parameter(torch.randn(size))
        parameter.grad = torch.randn(size)
        optimizer = bnb.optim.AdamW8bit([parameter])
        optimizer.step()
        state = optimizer.state[parameter]
        kept = [state[name] for name in ("state1", "state2", "absmax1", "absmax2") if name in state]
        assert sum(tensor.nbytes for tensor in kept) == _adam_8bit(parameter)
