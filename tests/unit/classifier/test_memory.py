from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as functional
from transformers import LlamaConfig

from mentallam.classifier import memory
from mentallam.classifier.attention import block_mask
from mentallam.classifier.memory import empty_classifier, longest_posts, plan_memory, step_memory
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.weights import BaseModel, load_architecture
from mentallam.config import Config, compose_config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA, PROJECT

HYDRA = PROJECT / "hydra_configs"


@pytest.fixture(scope="module")
def plan(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return plan_memory(tiny_config, tmp_path_factory.mktemp("base"), CRITERIA)


def saved_bytes(model: torch.nn.Module, batch: Any) -> int:
    """Return the bytes of the batch and of what autograd saves in a forward pass, parameters excluded."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    for tensor in memory._tensors([*batch.values()]):
        keep(tensor)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = functional.cross_entropy(model(**batch).logits, batch["labels"])
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


def test_counted_activations_equal_what_autograd_saves(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path
) -> None:
    examples, _ = longest_posts(tiny_config, tmp_path, CRITERIA)
    model, _ = build_classifier(tiny_base, tiny_config)
    kept = saved_bytes(model.train(), pack(examples))
    empty = empty_classifier(load_architecture(tiny_config.model, tmp_path)[0], tiny_config)
    assert step_memory(empty, examples, gradient_checkpointing=False).activations == pytest.approx(kept, rel=0.02)


def test_weights_gradients_and_optimizer_are_those_of_the_real_model(
    tiny_base: BaseModel, tiny_config: Config, plan: dict[str, Any]
) -> None:
    model, _ = build_classifier(tiny_base, tiny_config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    n_trained = sum(parameter.numel() for parameter in trained)
    assert plan["parameters"] == {"total": sum(p.numel() for p in model.parameters()), "trainable": n_trained}
    for step in plan["steps"][:2]:
        assert step["gradients"] == 4 * n_trained
        assert step["optimizer"] == 2 * 4 * n_trained  # Adam's two moments
        tensors = [*model.parameters(), *model.buffers()]
        assert step["weights"] == sum({t.data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
        parts = ("weights", "gradients", "optimizer", "kept", "activations", "workspace")
        assert step["total"] == sum(step[part] for part in parts)


def test_checkpointing_keeps_less_and_computes_with_more(plan: dict[str, Any]) -> None:
    plain, checkpointed, *_ = plan["steps"]
    assert (plain["gradient_checkpointing"], plain["configured"]) == (False, True)
    assert checkpointed["activations"] < 0.5 * plain["activations"]
    assert checkpointed["workspace"] > plain["workspace"]
    assert checkpointed["total"] < plain["total"]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_further_layers_add_what_two_and_three_differ_by(
    tiny_config: Config, tmp_path: Path, checkpointing: bool
) -> None:
    examples, _ = longest_posts(tiny_config, tmp_path, CRITERIA)
    architecture = load_architecture(tiny_config.model, tmp_path)[0]
    architecture.num_hidden_layers = 7
    whole = step_memory(empty_classifier(architecture, tiny_config), examples, checkpointing)
    assert memory._all_layers(architecture, tiny_config, examples, checkpointing) == whole


def test_untrained_layers_add_their_weights_and_no_workspace(tiny_config: Config, tmp_path: Path) -> None:
    examples, _ = longest_posts(tiny_config, tmp_path, CRITERIA)
    config = replace(tiny_config, adapter=replace(tiny_config.adapter, top_layers=1))
    architecture = load_architecture(tiny_config.model, tmp_path)[0]
    steps = {}
    for layers in (1, 4):
        architecture.num_hidden_layers = layers
        steps[layers] = step_memory(empty_classifier(architecture, config), examples, gradient_checkpointing=False)
    assert steps[4].weights > steps[1].weights
    hidden = examples[0].n_tokens * len(examples) * architecture.hidden_size * 4
    # The batch holds the layer's input to the end, while a model of one layer frees its embeddings.
    assert steps[4].activations - steps[1].activations == pytest.approx(hidden, rel=0.02)
    assert steps[4].workspace == pytest.approx(steps[1].workspace, rel=0.02)


def test_activations_grow_with_the_posts_of_a_pass(tiny_config: Config, tmp_path: Path) -> None:
    def activations(posts: int) -> int:
        config = replace(
            tiny_config, training=replace(tiny_config.training, effective_batch_pairs=3 * posts, tokens_per_pass=10**6)
        )
        examples, _ = longest_posts(config, tmp_path, CRITERIA)
        assert len(examples) == posts
        empty = empty_classifier(load_architecture(config.model, tmp_path)[0], config)
        return step_memory(empty, examples, gradient_checkpointing=False).activations

    assert activations(4) == pytest.approx(2 * activations(2), rel=0.05)


def test_a_pass_holds_what_its_budget_allows(tiny_config: Config, tmp_path: Path) -> None:
    def posts(budget: int, ranks: int = 1) -> int:
        training = replace(tiny_config.training, effective_batch_pairs=12, tokens_per_pass=budget, ranks=ranks)
        return len(longest_posts(replace(tiny_config, training=training), tmp_path, CRITERIA)[0])

    [post, *_], _ = longest_posts(tiny_config, tmp_path, CRITERIA)
    tokens = len(post.prefix) + sum(map(len, post.suffixes))
    assert [posts(budget) for budget in (1, tokens, 2 * tokens, 99 * tokens)] == [1, 1, 2, 4]
    assert [posts(99 * tokens, ranks) for ranks in (2, 3, 4, 5)] == [2, 2, 1, 1]


def test_the_mask_of_fused_attention_is_counted_and_small(tiny_config: Config, tmp_path: Path) -> None:
    length = 8_192
    example = PostExample("long", [1] * (length - 200), False, ["a", "b"], [[1] * 100] * 2, [0, 1])
    live = memory._LiveStorages()
    with live:
        mask = block_mask(pack([example])["packing"], torch.device("meta"))
        assert mask.seq_lengths == (length, length)
    assert live.peak < 1_300_000 < length**2 / 50

    config = replace(tiny_config, model=replace(tiny_config.model, compile_on_gpu=True))
    architecture = load_architecture(config.model, tmp_path)[0]
    counted = [memory._all_layers(architecture, each, [example], False) for each in (tiny_config, config)]
    assert counted[1].activations - counted[0].activations == live.bytes


def test_every_pair_is_as_long_as_allowed(tiny_config: Config, tmp_path: Path) -> None:
    [post, *_], counted_by = longest_posts(tiny_config, tmp_path, CRITERIA)
    assert counted_by == "tokenizer"
    assert len(post.prefix) + max(map(len, post.suffixes)) == tiny_config.model.max_length
    assert len(post.labels) == len(post.suffixes) == len(CRITERIA)


def test_the_study_is_planned_before_its_weights_are_here(tmp_path: Path) -> None:
    plan = plan_memory(compose_config(HYDRA, "mentallam"), tmp_path, CRITERIA)
    assert (plan["architecture_from"], plan["pass"]["counted_by"]) == ("configuration", "characters")
    assert plan["parameters"]["total"] == 6_628_708_352  # Llama 2 7B without its output rows, with adapters and head
    assert plan["steps"][1]["weights"] == pytest.approx(13.3e9, rel=0.01)
    assert [sentence.split(":")[0] for sentence in plan["sentences"]] == ["50 GB", "24 GB"]
    assert plan["sentences"][0].startswith("50 GB: fits checkpointing (")
    assert "fits" in plan["sentences"][1].split("nf4, adamw_8bit, checkpointing")[0]
    assert not list(tmp_path.iterdir())


def test_a_config_json_wins_over_the_configured_architecture(tiny_base: BaseModel, tmp_path: Path) -> None:
    config = compose_config(HYDRA, "mentallam", f"'model.path={tiny_base.folder}'")
    architecture, origin = load_architecture(config.model, tmp_path)
    assert isinstance(architecture, LlamaConfig)
    assert (architecture.hidden_size, origin) == (64, "config.json")


def test_an_unknown_architecture_is_one_sentence(tmp_path: Path) -> None:
    config = compose_config(HYDRA, "mentallam", "model.path=nobody/nothing")
    with pytest.raises(MentallamError, match="nobody/nothing .* is not on this machine yet"):
        load_architecture(replace(config.model, architecture={}), tmp_path)
