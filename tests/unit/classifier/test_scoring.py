"""The path from posts to logits, with a model that reads a pair's logits off its last token."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mentallam.classifier import scoring
from mentallam.classifier.prompts import PostExample
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.errors import MentallamError

pytestmark = pytest.mark.usefixtures("only_new_garbage")


class LastToken(torch.nn.Module):
    """A model whose outputs are a pair's last token for "no" and 3 times it for "yes": the logit is twice the token."""

    def __init__(self, most_tokens: int = 1000) -> None:
        super().__init__()
        self.factors = torch.nn.Parameter(torch.tensor([1.0, 3.0]))
        self.most_tokens = most_tokens
        self.seen: list[SimpleNamespace] = []

    def forward(self, input_ids: torch.Tensor, pool_index: torch.Tensor, **batch: Any) -> SimpleNamespace:
        if input_ids.shape[1] > self.most_tokens:
            raise MemoryError
        self.seen.append(
            SimpleNamespace(training=self.training, tokens=input_ids.shape[1], grad=torch.is_grad_enabled())
        )
        return SimpleNamespace(logits=input_ids[0, pool_index, None] * self.factors)


def post(name: str, prefix: int, last: list[int], criteria: list[str] | None = None) -> PostExample:
    """Return a post whose pairs end with these tokens."""
    return PostExample(name, [0] * prefix, False, criteria or [str(k) for k in last], [[0, k] for k in last], [])


@pytest.fixture
def posts() -> list[PostExample]:
    return [post("s_1", 3, [1, 2]), post("s_2", 30, [3]), post("s_3", 10, [4, 5, 6]), post("s_4", 1, [7])]


@pytest.mark.parametrize("tokens_per_pass", [1, 20, 1000])
def test_a_pairs_logit_is_its_yes_minus_its_no_in_the_order_of_the_examples(
    posts: list[PostExample], tokens_per_pass: int
) -> None:
    scores = score_pairs(LastToken(), posts, tokens_per_pass)
    assert scores.tolist() == [2, 4, 6, 8, 10, 12, 14]
    assert scores.dtype == np.float64


def test_the_budget_says_how_many_posts_go_through_at_once(posts: list[PostExample]) -> None:
    sizes = {}
    for tokens_per_pass in (1, 35, 1000):
        score_pairs(model := LastToken(), posts, tokens_per_pass)
        sizes[tokens_per_pass] = [batch.tokens for batch in model.seen]
    assert sizes == {1: [32, 16, 7, 3], 35: [32, 26], 1000: [58]}


def test_no_posts_give_no_scores() -> None:
    scores = score_pairs(LastToken(), [], 10)
    assert scores.shape == (0,) and scores.dtype == np.float64


@pytest.mark.parametrize("training", [True, False])
def test_posts_are_scored_without_dropout_and_gradients_and_the_model_stays_as_it_was(
    posts: list[PostExample], training: bool
) -> None:
    model = LastToken().train(training)
    score_pairs(model, posts, 35)
    assert [(batch.training, batch.grad) for batch in model.seen] == [(False, False)] * 2
    assert model.training == training and torch.is_grad_enabled()


def test_a_pass_goes_where_the_model_is(posts: list[PostExample]) -> None:
    """Use the meta device, which holds no data, in place of a GPU; the logits come back on another device."""

    class Elsewhere(LastToken):
        def forward(self, input_ids: torch.Tensor, pool_index: torch.Tensor, **batch: Any) -> SimpleNamespace:
            assert {input_ids.device.type, pool_index.device.type, batch["position_ids"].device.type} == {"meta"}
            return SimpleNamespace(logits=torch.tensor([[0.0, 2.0]]).expand(len(pool_index), 2))

    assert score_pairs(Elsewhere().to("meta"), posts, 1000).tolist() == [2.0] * 7


def test_smaller_passes_for_lack_of_memory_change_no_score(
    posts: list[PostExample], caplog: pytest.LogCaptureFixture
) -> None:
    model = LastToken(most_tokens=32)
    with caplog.at_level(logging.WARNING):
        assert score_pairs(model, posts, 64).tolist() == [2, 4, 6, 8, 10, 12, 14]
    assert [record.args for record in caplog.records] == [(4, 32)]


def test_a_post_that_does_not_fit_is_an_error_that_says_what_to_do(posts: list[PostExample]) -> None:
    with pytest.raises(MentallamError) as error:
        score_pairs(LastToken(most_tokens=31), posts, 64)
    assert error.value.message == (
        "post s_2 (32 tokens with its 1 criterion) does not fit into memory by itself: ask fewer criteria of it at a "
        "time, set inference.dtype=bfloat16, or take a machine with more memory"
    )


@pytest.mark.parametrize("words", [None, "scoring"])
def test_a_progress_bar_counts_posts(
    posts: list[PostExample], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    updates: list[int] = []

    @contextmanager
    def bar(*what: Any) -> Iterator[SimpleNamespace]:
        asked.append(what)
        yield SimpleNamespace(update=updates.append)

    monkeypatch.setattr(scoring, "progress_bar", bar)
    score_pairs(LastToken(), posts, 35, words)
    assert asked == [(4, words, "posts")]
    assert updates == [1, 3]


def test_the_probability_is_the_logits_sigmoid() -> None:
    assert sigmoid(np.array([0.0, np.log(3), -1000, 1000])).tolist() == pytest.approx([0.5, 0.75, 0, 1])
