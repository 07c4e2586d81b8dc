import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from tests.samples import CRITERIA

LONG = " ".join(f"word{number}" for number in range(6990))


@pytest.fixture(scope="module")
def tokenizer(tiny_base: BaseModel) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tiny_base.folder)


@pytest.fixture(scope="module")
def prompter(tokenizer: PreTrainedTokenizerBase, tiny_config: Config) -> Prompter:
    return Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)


@pytest.fixture(scope="module")
def bos_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """As Llama 2's: it begins every sequence with <s>; this one ends it with </s>, too."""
    changed = copy.deepcopy(tokenizer)
    changed.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    )
    assert changed("x")["input_ids"][0] == tokenizer.bos_token_id  # else it would test nothing
    return changed


def rendered(config: Config, text: str, criterion_id: str) -> str:
    prompt = config.model.prompt
    return prompt.prefix.replace("{post}", text) + prompt.suffix.replace("{criterion}", CRITERIA[criterion_id])


@pytest.mark.parametrize("criterion_id", CRITERIA)
def test_a_short_pair_reads_as_the_template_says(prompter: Prompter, tiny_config: Config, criterion_id: str) -> None:
    example = prompter.example("p", "I sleep, and sleep.", [criterion_id])
    text = prompter.tokenizer.decode(example.prefix + example.suffixes[0])
    assert text == rendered(tiny_config, "I sleep, and sleep.", criterion_id)
    assert not example.truncated


def test_a_special_token_in_a_post_is_plain_text(bos_tokenizer: PreTrainedTokenizerBase, tiny_config: Config) -> None:
    prompter = Prompter(bos_tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)
    prefix = prompter.example("p", "I typed </s> and <s> here").prefix
    assert bos_tokenizer.eos_token_id not in prefix
    assert prefix.count(bos_tokenizer.bos_token_id) == 1  # the one of the sequence
    assert "</s> and <s>" in bos_tokenizer.decode(prefix)


def test_a_post_of_6990_words_keeps_its_criterion_and_question(prompter: Prompter, tiny_config: Config) -> None:
    example = prompter.example("p", LONG)
    assert example.truncated
    assert example.criterion_ids == list(CRITERIA)
    for criterion_id, suffix in zip(example.criterion_ids, example.suffixes, strict=True):
        pair = example.prefix + suffix
        assert len(pair) <= tiny_config.model.max_length
        text = prompter.tokenizer.decode(pair)
        assert text.endswith(rendered(tiny_config, "", criterion_id).removeprefix("post: "))
        assert text.startswith("post: word0 word1 word2 ")
        assert CRITERIA[criterion_id] in text
    longest = max(map(len, example.suffixes))
    assert len(example.prefix) + longest == tiny_config.model.max_length  # no token is given away


@given(st.text(max_size=3000))
@settings(max_examples=60, deadline=None)
def test_every_pair_fits_and_only_the_post_is_cut(prompter: Prompter, tiny_config: Config, text: str) -> None:
    example, empty = prompter.example("p", text), prompter.example("p", "")
    assert example.suffixes == empty.suffixes
    assert len(example.prefix) + max(map(len, example.suffixes)) <= tiny_config.model.max_length
    head, _, tail = tiny_config.model.prompt.prefix.partition("{post}")
    whole = [token for part in (head + text, tail) for token in prompter.tokenizer(part)["input_ids"]]
    assert example.truncated == (len(whole) > len(example.prefix))
    if not example.truncated:
        assert example.prefix == whole


def test_a_post_that_just_fits_is_not_cut(prompter: Prompter) -> None:
    head = len(prompter.tokenizer("post: ")["input_ids"])
    text = "~" * (prompter.post_tokens - head)  # a token each: the tokenizer has seen none in its training
    fits, longer = prompter.example("p", text), prompter.example("p", text + "~")
    assert not fits.truncated
    assert longer.truncated
    assert longer.prefix == fits.prefix


@pytest.mark.parametrize("text", ["I am tired.", LONG])
def test_a_pair_is_the_same_alone_and_among_others(prompter: Prompter, text: str) -> None:
    together = prompter.example("p", text)
    for criterion_id, suffix in zip(together.criterion_ids, together.suffixes, strict=True):
        alone = prompter.example("p", text, [criterion_id])
        assert (alone.prefix, alone.suffixes) == (together.prefix, [suffix])
    some = prompter.example("p", text, ["A.6", "A.1"])
    assert some.prefix == together.prefix
    assert some.criterion_ids == ["A.6", "A.1"]
    assert some.suffixes == [together.suffixes[2], together.suffixes[0]]


def test_labels_stay_beside_their_criteria(prompter: Prompter) -> None:
    assert prompter.example("p", "x", ["A.6", "A.1"], [1, 0]).labels == [1, 0]
    assert prompter.example("p", "x").labels == []


def test_an_unknown_criterion_is_named(prompter: Prompter) -> None:
    with pytest.raises(MentallamError, match=r"unknown criterion A\.99; this model knows A\.1, A\.4, A\.6"):
        prompter.example("p", "SECRET", ["A.1", "A.99"])


def test_a_text_in_place_of_a_criterion_is_not_shown(prompter: Prompter) -> None:
    with pytest.raises(MentallamError, match=r"unknown criterion \(a value of 19 characters\); this model knows"):
        prompter.example("p", "x", ["Marzipan lighthouse"])


def test_no_room_for_the_post_is_an_error(prompter: Prompter, tiny_config: Config) -> None:
    head = len(prompter.tokenizer("post: ")["input_ids"])
    needed = tiny_config.model.max_length - prompter.post_tokens + head  # all but the post
    with pytest.raises(MentallamError, match=f"max_length={needed} leaves no room for the post"):
        Prompter(prompter.tokenizer, tiny_config.model.prompt, CRITERIA, needed)
    least = Prompter(prompter.tokenizer, tiny_config.model.prompt, CRITERIA, needed + 1)
    assert least.example("p", LONG).prefix != least.example("p", "").prefix


@pytest.mark.parametrize("text", ["I am tired.", LONG, ""])
def test_a_tokenizer_with_begin_of_sequence_gives_exactly_one(
    bos_tokenizer: PreTrainedTokenizerBase, prompter: Prompter, tiny_config: Config, text: str
) -> None:
    with_bos = Prompter(bos_tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)
    example, plain = with_bos.example("p", text), prompter.example("p", text)
    assert example.prefix[0] == bos_tokenizer.bos_token_id
    assert example.suffixes == plain.suffixes
    for suffix in example.suffixes:
        special = [token for token in example.prefix + suffix if token in bos_tokenizer.all_special_ids]
        assert special == [bos_tokenizer.bos_token_id]
        assert len(example.prefix + suffix) <= tiny_config.model.max_length


def test_a_tokenizer_without_begin_of_sequence_gets_none(prompter: Prompter) -> None:
    assert prompter.tokenizer.bos_token_id is not None  # it has the token, but does not put it
    example = prompter.example("p", "I am tired.")
    assert not set(example.prefix + example.suffixes[0]) & set(prompter.tokenizer.all_special_ids)


def test_counted_tokens_say_which_posts_are_cut(prompter: Prompter) -> None:
    texts = ["short", "", "I typed </s> and <s> here", *(" ".join(["word"] * n) for n in range(80, 200, 3)), LONG]
    counted = prompter.count_tokens(texts)
    examples = [prompter.example("p", text) for text in texts]
    assert [n > prompter.room(512) for n in counted] == [example.truncated for example in examples]
    assert {example.truncated for example in examples} == {True, False}


def test_room_is_zero_where_nothing_of_a_post_fits(tokenizer: PreTrainedTokenizerBase, tiny_config: Config) -> None:
    prompter = Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, 512)
    least = next(length for length in range(512) if prompter.room(length))
    assert Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, least).post_tokens == prompter.room(least)
    with pytest.raises(MentallamError, match="no room for the post"):
        Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, least - 1)
    assert prompter.room(1024) == prompter.room(512) + 512
