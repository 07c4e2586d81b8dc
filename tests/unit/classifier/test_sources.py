import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from mentallam.classifier import sources
from mentallam.classifier.sources import RANDOM_TOKENIZER, SOURCES, find_source
from mentallam.classifier.weights import load_tokenizer, prepare_base_model
from mentallam.config import Config, compose_config
from mentallam.errors import MentallamError
from tests.samples import PROJECT

RAW = PROJECT / "data" / "01_raw"


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train the tokenizer of random models on the synthetic sample and the criteria.

    The committed one was saved with `train_tokenizer().save_pretrained(RANDOM_TOKENIZER)`.
    """
    posts = pd.read_csv(RAW / "sample" / "redsm5_posts.csv")["text"]
    criteria = pd.read_csv(RAW / "dsm5_criteria.csv")["criterion"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted([*posts, *criteria]), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def test_the_committed_tokenizer_is_trained_on_the_sample_and_the_criteria(tiny_config: Config, tmp_path: Path) -> None:
    trained, committed = train_tokenizer(), load_tokenizer(tiny_config.model, tmp_path)
    assert trained.get_vocab() == committed.get_vocab()
    texts = pd.read_csv(RAW / "sample" / "redsm5_posts.csv")["text"].tolist()
    assert trained(texts)["input_ids"] == committed(texts)["input_ids"]
    assert list(tmp_path.iterdir()) == []  # it is read where it is committed


def test_an_unknown_source_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    model = compose_config(PROJECT / "hydra_configs", "tiny", "model.source=disk").model
    message = "model.source is 'disk'; it must be one of hub, wheel, random"
    for use in (lambda: find_source("disk"), lambda: prepare_base_model(model, tmp_path)):
        with pytest.raises(MentallamError) as error:
            use()
        assert error.value.message == message
    assert list(tmp_path.iterdir()) == []


def test_every_model_of_the_project_has_a_source() -> None:
    for path in sorted((PROJECT / "hydra_configs" / "model").glob("*.yaml")):
        if path.stem != "prompt":
            config = compose_config(PROJECT / "hydra_configs", "tiny", f"model={path.stem}")
            assert config.model.source in SOURCES


def test_a_vocabulary_smaller_than_the_tokenizers_is_refused(tiny_config: Config, tmp_path: Path) -> None:
    small = replace(tiny_config.model, architecture={**tiny_config.model.architecture, "vocab_size": 300})
    with pytest.raises(MentallamError, match=r"vocab_size is 300; it must be 512 or above"):
        prepare_base_model(small, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_tokenizer_is_a_part_of_the_package() -> None:
    package = PROJECT / "src" / "mentallam"
    assert RANDOM_TOKENIZER.is_relative_to(package)
    assert '"**/*.json"' in (PROJECT / "pyproject.toml").read_text(encoding="utf-8")


def test_of_two_that_want_a_folder_at_once_one_makes_it(tmp_path: Path) -> None:
    begun, made_again = threading.Event(), list[Path]()

    def make(folder: Path) -> None:
        begun.set()
        time.sleep(0.2)
        (folder / "weights").write_text("ours")

    with ThreadPoolExecutor() as pool:
        first = pool.submit(sources._once, tmp_path, "m", "f" * 64, make)
        begun.wait()
        second = sources._once(tmp_path, "m", "f" * 64, made_again.append)
    assert first.result() == second
    assert (second / "weights").read_text() == "ours"
    assert made_again == []
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == [second]
