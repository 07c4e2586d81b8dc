"""Loading by itself; test_families.py loads incomplete weights of each kind of family."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.utils import logging as hf_logging

from mentallam.classifier.loading import load_whole, quiet_loading
from mentallam.classifier.model import load_base
from mentallam.classifier.weights import BaseModel
from mentallam.errors import MentallamError


def test_the_loaders_report_is_checked() -> None:
    def load(folder: str, **options: Any) -> Any:
        safe = {"trust_remote_code": False, "weights_only": True}
        assert options == {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": 1, **safe}
        return "model", {"missing_keys": {"score.weight"}, "mismatched_keys": set(), "unexpected_keys": set()}

    assert load_whole(load, "folder", "do this", ["score.weight"], dtype=1) == "model"
    with pytest.raises(MentallamError, match=r"^the base model in folder lacks the weights score\.weight; do this$"):
        load_whole(load, "folder", "do this", dtype=1)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_damaged_files_are_one_sentence_that_says_what_to_do(
    name: str, damage: str, tiny_base: BaseModel, tmp_path: Path
) -> None:
    base = replace(tiny_base, folder=str(shutil.copytree(tiny_base.folder, tmp_path / "copy")))
    file = tmp_path / "copy" / name
    file.write_bytes(file.read_bytes()[:100]) if damage == "cut" else file.unlink()
    with pytest.raises(MentallamError, match=r"base model in .*copy can't be loaded .*; remove this folder") as error:
        load_base(base, torch.float32)
    assert "\n" not in error.value.message


def test_silence_ends_with_the_loading() -> None:
    verbosity = hf_logging.get_verbosity()
    with pytest.raises(OSError), quiet_loading():
        assert hf_logging.get_verbosity() == hf_logging.ERROR
        assert not hf_logging.is_progress_bar_enabled()
        raise OSError
    assert hf_logging.get_verbosity() == verbosity
    assert hf_logging.is_progress_bar_enabled()
