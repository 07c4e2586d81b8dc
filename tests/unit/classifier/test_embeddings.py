import copy
import logging

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import LlamaModel, PreTrainedTokenizerBase

from mentallam.classifier.embeddings import embed_posts
from mentallam.classifier.model import load_base
from mentallam.classifier.packed_model import PackedForSequenceClassification
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA, POSTS

TEXTS = [*POSTS.values(), "I", "word " * 700]  # the last is more than fits
IDS = [f"p{number}" for number in range(len(TEXTS))]
NO_MEMORY = RuntimeError("DefaultCPUAllocator: can't allocate memory")

Loaded = tuple[PackedForSequenceClassification, PreTrainedTokenizerBase]


@pytest.fixture(scope="module")
def loaded(tiny_base: BaseModel) -> Loaded:
    return load_base(tiny_base, torch.float32)


@pytest.fixture(params=[False, True], ids=["plain", "begin-of-sequence"])
def prompter(loaded: Loaded, tiny_config: Config, request: pytest.FixtureRequest) -> Prompter:
    """Return one with the tiny tokenizer, and one whose tokenizer puts <s> before everything, like Llama 2's."""
    tokenizer = copy.deepcopy(loaded[1])
    if request.param:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    prompter = Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)
    assert prompter.begin_tokens == int(request.param)
    return prompter


def one_by_one(model: LlamaModel, prompter: Prompter) -> np.ndarray:
    """Compute the means by transformers alone, with one sequence per post."""
    rows = []
    begin = [prompter.tokenizer.bos_token_id] * prompter.begin_tokens
    longest = prompter.post_tokens - len(prompter.tokenizer("post: ", add_special_tokens=False)["input_ids"])
    for text in TEXTS:
        post = prompter.tokenizer(text, add_special_tokens=False)["input_ids"][:longest]
        with torch.no_grad():
            rows.append(model(torch.tensor([begin + post])).last_hidden_state[0, len(begin) :].mean(0).numpy())
    return np.stack(rows)


@pytest.mark.parametrize("tokens_per_pass", [1, 300, 10_000])
def test_batched_embeddings_equal_those_of_posts_one_by_one(
    loaded: Loaded, prompter: Prompter, tokens_per_pass: int
) -> None:
    model, _ = loaded
    expected = one_by_one(model.model, prompter)
    found = embed_posts(model, prompter, IDS, TEXTS, tokens_per_pass)
    assert (found.shape, found.dtype) == ((len(TEXTS), model.config.hidden_size), np.float32)
    assert np.abs(found[:, None] - found[None]).max(-1)[~np.eye(len(TEXTS), dtype=bool)].min() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_embeddings_survive_a_lack_of_memory(
    loaded: Loaded, prompter: Prompter, caplog: pytest.LogCaptureFixture
) -> None:
    model, _ = loaded

    def fail(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        if inputs[0].shape[1] > 500:
            raise NO_MEMORY

    with caplog.at_level(logging.WARNING), model.model.layers[1].register_forward_pre_hook(fail):
        found = embed_posts(model, prompter, IDS, TEXTS, 1000)
    np.testing.assert_allclose(found, one_by_one(model.model, prompter), rtol=0, atol=1e-5)
    assert "tokens_per_pass is 500 from here on" in caplog.text


def test_a_post_that_does_not_fit_is_an_error_that_says_what_to_do(loaded: Loaded, prompter: Prompter) -> None:
    def fail(module: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        raise NO_MEMORY

    model, _ = loaded
    with (
        model.model.layers[1].register_forward_pre_hook(fail),
        pytest.raises(MentallamError, match=r"^post p4 \(\d+ tokens\) does not .* take embedding out of base"),
    ):
        embed_posts(model, prompter, IDS, TEXTS, 1)
