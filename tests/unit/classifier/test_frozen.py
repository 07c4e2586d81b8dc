"""Training from kept hidden states: the same results as without them, and no work below the trained layers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from peft import PeftModel

from mentallam.classifier import frozen
from mentallam.classifier.compiling import compile_layers
from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.frozen import frozen_states, with_states
from mentallam.classifier.packed_model import some_layers
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA, POSTS
from tests.unit.classifier.builders import gradients, make_classifier, relative_difference


@pytest.fixture(scope="module")
def config(tiny_config: Config) -> Config:
    return replace(tiny_config, adapter=replace(tiny_config.adapter, top_layers=1))


@pytest.fixture(scope="module")
def frames() -> dict[str, pd.DataFrame]:
    texts = [*POSTS.items(), *((f"p{number}", f"Day {number}. I can't sleep.") for number in range(9))]
    posts = pd.DataFrame(texts, columns=["post_id", "text"])
    pairs = [
        (post_id, criterion_id, (number + place) % 2)
        for number, post_id in enumerate(posts["post_id"])
        for place, criterion_id in enumerate(CRITERIA)
        if (post_id, place) != ("p0", 0)  # One post lacks a label.
    ]
    return {
        "posts": posts,
        "criteria": pd.DataFrame(CRITERIA.items(), columns=["criterion_id", "criterion"]),
        "pairs": pd.DataFrame(pairs, columns=["post_id", "criterion_id", "label"]),
    }


@pytest.fixture(scope="module")
def states(config: Config, tiny_base: BaseModel, frames: dict[str, pd.DataFrame]) -> dict[str, torch.Tensor]:
    return frozen_states(config, tiny_base, **frames)


@pytest.fixture
def classifier(tiny_base: BaseModel, config: Config) -> tuple[PeftModel, Prompter]:
    return make_classifier(tiny_base, config)


def examples_of(prompter: Prompter, frames: dict[str, pd.DataFrame]) -> list[PostExample]:
    return labelled_examples(prompter, frames["posts"]["post_id"].tolist(), frames["posts"], frames["pairs"])


@pytest.fixture
def examples(classifier: tuple[PeftModel, Prompter], frames: dict[str, pd.DataFrame]) -> list[PostExample]:
    return examples_of(classifier[1], frames)


@pytest.fixture
def ready(
    classifier: tuple[PeftModel, Prompter], examples: list[PostExample], states: dict[str, torch.Tensor]
) -> list[PostExample]:
    return with_states(examples, states, classifier[0])


@pytest.fixture
def runs_below(classifier: tuple[PeftModel, Prompter]) -> Iterator[list[int]]:
    """Return a list that gets an entry per run of the layer that is not trained."""
    seen: list[int] = []
    layers = cast(Any, classifier[0]).base_model.model.model.layers
    with layers[0].register_forward_hook(lambda *_: seen.append(1)):
        yield seen


@pytest.mark.parametrize("checkpointing", [False, True])
def test_logits_and_gradients_are_those_of_the_whole_model(
    checkpointing: bool,
    classifier: tuple[PeftModel, Prompter],
    examples: list[PostExample],
    ready: list[PostExample],
    runs_below: list[int],
) -> None:
    model, found = classifier[0].train(), []
    for posts in (examples, ready):
        if checkpointing and posts is ready:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        batch = cast(dict[str, Any], pack(posts))
        labels = batch.pop("labels")
        model.zero_grad()
        logits = model(**batch).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        found.append((logits.detach(), gradients(model)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    assert relative_difference(found[1][1], found[0][1]) < 1e-4
    assert len(runs_below) == 1  # for the whole model only


def test_a_training_comes_to_the_same_scores(
    tiny_base: BaseModel,
    config: Config,
    frames: dict[str, pd.DataFrame],
    states: dict[str, torch.Tensor],
    tmp_path: Path,
) -> None:
    scores = []
    for kept in (False, True):
        model, prompter = make_classifier(tiny_base, config)
        plain = examples_of(prompter, frames)
        posts = with_states(plain, states, model) if kept else plain
        options = replace(config.training, max_epochs=2, tokens_per_pass=200)
        train(model, posts[:8], posts[8:], options, 7, lambda *_: None, tmp_path / f"kept_{kept}")
        scores.append(score_pairs(model, plain, 1000))  # Both score with the whole model.
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)
    assert not np.allclose(scores[0], scores[0].mean(), atol=1e-2)


def test_the_layers_below_are_never_run_in_training(
    classifier: tuple[PeftModel, Prompter],
    config: Config,
    ready: list[PostExample],
    runs_below: list[int],
    tmp_path: Path,
) -> None:
    options = replace(config.training, max_epochs=1)
    outcome = train(classifier[0], ready[:8], ready[8:], options, 7, lambda *_: None, tmp_path)
    assert outcome.steps > 0
    assert runs_below == []


def test_compiled_layers_take_kept_states_too(
    classifier: tuple[PeftModel, Prompter],
    examples: list[PostExample],
    ready: list[PostExample],
    runs_below: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, real = classifier[0], torch.compile
    plain = score_pairs(model, examples, 512)
    runs_below.clear()
    monkeypatch.setattr(torch, "compile", lambda *args, **options: real(*args, **{**options, "backend": "eager"}))
    assert compile_layers(model)
    assert score_pairs(model, ready, 512) == pytest.approx(plain, abs=1e-4)
    assert runs_below == []


def test_states_equal_those_of_each_post_alone(
    states: dict[str, torch.Tensor], examples: list[PostExample], classifier: tuple[PeftModel, Prompter]
) -> None:
    decoder = cast(Any, classifier[0]).base_model.model.model
    inputs: list[torch.Tensor] = []
    # With gradients, since without them the last layer's parts run one by one.
    with decoder.layers[1].register_forward_pre_hook(lambda _, args: inputs.append(args[0][0].detach())):
        for example in examples:
            classifier[0](**cast(dict[str, Any], pack([example])))
    assert len(states) == len(examples)
    for example, expected in zip(examples, inputs, strict=True):
        torch.testing.assert_close(states[f"1/{example.post_id}"], expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_computed_where_every_layer_is_trained(
    tiny_config: Config, tiny_base: BaseModel, frames: dict[str, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(frozen, "load_base")  # No model is loaded either.
    assert frozen_states(tiny_config, tiny_base, **frames) == {}


def test_all_layers_named_by_number_are_all_layers(
    tiny_config: Config, tiny_base: BaseModel, frames: dict[str, pd.DataFrame]
) -> None:
    config = replace(tiny_config, adapter=replace(tiny_config.adapter, top_layers=2))
    assert frozen_states(config, tiny_base, **frames) == {}
    model, prompter = make_classifier(tiny_base, config)
    assert all(example.states is None for example in with_states(examples_of(prompter, frames), {}, model))


@pytest.mark.parametrize("fault", ["absent", "other layers", "other tokens"])
def test_states_of_another_configuration_are_refused(
    fault: str,
    classifier: tuple[PeftModel, Prompter],
    examples: list[PostExample],
    states: dict[str, torch.Tensor],
) -> None:
    spoilt = {
        "absent": {},
        "other layers": {f"2/{name.removeprefix('1/')}": state for name, state in states.items()},
        "other tokens": {name: state[1:] for name, state in states.items()},
    }[fault]
    with pytest.raises(MentallamError, match=r"no state of post \S+ as this configuration reads it.*cv_training"):
        with_states(examples, spoilt, classifier[0])


def test_more_layers_than_the_model_has_are_one_sentence(
    tiny_config: Config, tiny_base: BaseModel, frames: dict[str, pd.DataFrame]
) -> None:
    config = replace(tiny_config, adapter=replace(tiny_config.adapter, top_layers=3))
    with pytest.raises(MentallamError, match=r"adapter\.top_layers is 3; the model has layers 1 to 2"):
        frozen_states(config, tiny_base, **frames)


def test_a_part_of_the_decoder_leaves_the_whole_unchanged(classifier: tuple[PeftModel, Prompter]) -> None:
    decoder = cast(Any, classifier[0]).base_model.model.model
    layers, norm = list(decoder.layers), decoder.norm
    below, above = some_layers(decoder, 0, 1), some_layers(decoder, 1, None)
    assert [*below.layers, *above.layers] == layers == list(decoder.layers)
    assert isinstance(below.norm, torch.nn.Identity)
    assert above.norm is decoder.norm is norm
