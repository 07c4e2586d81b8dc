"""Several ranks on one CPU, each a process, give what one process gives."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mentallam.classifier import ranks
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.ranks import Ranks, deal, open_ranks
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import class_weights, train
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from tests.unit.classifier.builders import gradients, make_classifier, relative_difference
from tests.unit.classifier.test_training import labels_of, settings, toy

BUDGET = 210  # tokens of a pass: a post takes 75 to 195


def with_ranks(config: Config, size: int, **changes: Any) -> Config:
    return replace(config, training=settings(ranks=size, **changes))


def example(number: int, tokens: int) -> PostExample:
    return PostExample(f"p{number}", [0] * (tokens - 1), False, ["A.1"], [[0]], [0])


@given(st.lists(st.integers(1, 500), max_size=12), st.integers(1, 5))
def test_every_post_is_dealt_to_one_rank_and_no_rank_is_a_post_behind(lengths: list[int], size: int) -> None:
    examples = [example(number, tokens) for number, tokens in enumerate(lengths)]
    dealt = deal(examples, size)
    assert len(dealt) == size
    assert sorted(position for share in dealt for position in share) == list(range(len(lengths)))
    assert all(share == sorted(share) for share in dealt)
    tokens = [sum(lengths[position] for position in share) for share in dealt]
    assert tokens[0] > 0 or not lengths
    assert max(tokens) - min(tokens) <= max(lengths, default=0)


def test_one_rank_gets_the_posts_in_their_order() -> None:
    assert deal([example(0, 3), example(1, 9), example(2, 5)], 1) == [[0, 1, 2]]


@pytest.fixture(scope="module")
def pair(tiny_base: BaseModel, tiny_config: Config) -> Iterator[Ranks]:
    """Return two ranks of the tiny model."""
    with open_ranks(tiny_base, with_ranks(tiny_config, 2)) as found:
        yield found


@pytest.mark.parametrize("balanced", [False, True])
def test_two_ranks_give_the_loss_and_the_gradients_of_one_process(
    pair: Ranks, tiny_base: BaseModel, tiny_config: Config, balanced: bool
) -> None:
    """Posts have 3, 2 or 1 pairs, so ranks have different numbers of pairs and of passes."""
    model, prompter = make_classifier(tiny_base, tiny_config)
    examples = toy(prompter, range(7))
    shares = [[examples[position] for position in share] for share in deal(examples, 2)]
    assert len({len(labels_of(share)) for share in shares}) == 2
    weights = class_weights("balanced" if balanced else "none", labels_of(examples))
    alone, budget = Ranks().add_gradients(model, examples, BUDGET, weights, (1, 0))
    expected = gradients(model)
    model.zero_grad()
    together, smallest = pair.add_gradients(model, examples, BUDGET, weights, (1, 0))
    assert budget == smallest == BUDGET
    assert float(together) == pytest.approx(float(alone), rel=1e-6)
    assert relative_difference(gradients(model), expected) < 1e-5


def test_the_gradients_are_those_of_the_weights_that_rank_0_has_now(
    pair: Ranks, tiny_base: BaseModel, tiny_config: Config
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config, seed=5)
    examples = toy(prompter, range(4))
    for _ in range(2):
        model.zero_grad()
        pair.add_gradients(model, examples, BUDGET, None, (1, 0))
        found = gradients(model)
        model.zero_grad()
        Ranks().add_gradients(model, examples, BUDGET, None, (1, 0))
        assert relative_difference(found, gradients(model)) < 1e-5
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter *= 0.7


def test_more_ranks_than_posts_and_no_posts(pair: Ranks, tiny_base: BaseModel, tiny_config: Config) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    examples = toy(prompter, range(1))
    alone, _ = Ranks().add_gradients(model, examples, BUDGET, None, (1, 0))
    expected = gradients(model)
    model.zero_grad()
    together, _ = pair.add_gradients(model, examples, BUDGET, None, (1, 0))
    assert float(together) == pytest.approx(float(alone), rel=1e-6)
    assert relative_difference(gradients(model), expected) < 1e-6
    assert pair.score(model, [], BUDGET).shape == (0,)


def test_scores_are_those_of_one_process_in_the_order_of_the_posts(
    pair: Ranks, tiny_base: BaseModel, tiny_config: Config
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    examples = toy(prompter, range(9))
    np.testing.assert_allclose(
        pair.score(model, examples, BUDGET), score_pairs(model, examples, BUDGET), rtol=0, atol=1e-5
    )


def test_a_lack_of_memory_in_one_rank_lowers_the_budget_of_all(
    pair: Ranks, tiny_base: BaseModel, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    (rank,) = pair._others
    answer = rank.answer
    monkeypatch.setattr(rank, "answer", lambda: answer() // 2)
    assert pair.add_gradients(model, toy(prompter, range(4)), BUDGET, None, (1, 0))[1] == BUDGET // 2


def test_ranks_without_a_post_are_named(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model, prompter = make_classifier(tiny_base, tiny_config)
    config = settings(max_epochs=1, effective_batch_pairs=1)
    learn = toy(prompter, range(2))

    class Two(Ranks):
        size = 2

        def add_gradients(self, *given: Any) -> Any:
            return Ranks().add_gradients(*given)

        def score(self, *given: Any) -> Any:
            return Ranks().score(*given)

    train(model, learn, learn, config, 1, lambda *_: None, tmp_path, ranks=Two())
    assert "a step has 1 posts, so some of the 2 ranks have nothing to do" in caplog.text


def test_a_warning_of_a_rank_is_in_the_log_of_rank_0(pair: Ranks, caplog: pytest.LogCaptureFixture) -> None:
    (rank,) = pair._others
    here, there = ranks.get_context("spawn").Pipe()
    seen = replace(rank, connection=here)
    record = logging.LogRecord("mentallam.x", logging.WARNING, "", 0, "out of memory with %d posts", (3,), None)
    ranks._ToRankZero(there).handle(record)
    there.send(ranks._Done(5))
    assert seen.answer() == 5
    assert [each.getMessage() for each in caplog.records] == ["rank 1: out of memory with 3 posts"]


def test_hidden_states_reach_another_rank_unchanged() -> None:
    states = torch.randn(6, 4).to(torch.bfloat16)
    sent = replace(example(0, 6), states=states)
    received = ranks._received_example(*ranks._sendable(sent))
    assert received.states is not None
    assert torch.equal(received.states, states)
    assert replace(received, states=None) == replace(sent, states=None)


def test_what_another_rank_draws_depends_on_seed_step_and_rank_alone(
    tiny_base: BaseModel, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config, adapter=replace(tiny_config.adapter, dropout=0.3))
    model, prompter = make_classifier(tiny_base, config)
    examples = [(each, None) for each in toy(prompter, range(2))]
    monkeypatch.setattr(ranks, "_sum_gradients", lambda model, loss: None)
    _, there = ranks.get_context("spawn").Pipe()

    def computed(seed: int, step: int, rank: int) -> dict[str, torch.Tensor]:
        ranks._do(ranks._Work(examples, BUDGET, ranks._Step(6, None, seed, step)), rank, model, there)
        return gradients(model)

    first = computed(1, 7, 1)
    assert relative_difference(computed(1, 7, 1), first) == 0
    for other in ((2, 7, 1), (1, 8, 1), (1, 7, 2)):
        assert relative_difference(computed(*other), first) > 1e-3
