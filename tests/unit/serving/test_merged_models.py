import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import Config
from mentallam.model_folders import FACTS
from mentallam.serving import export
from mentallam.serving.merged_models import count_unmerged, is_mergeable, load_merged_fold
from mentallam.serving.posts import Post
from mentallam.serving.predictor import Predictor
from tests.unit.trained_folds import with_threshold


@pytest.fixture
def base_models(trained: TrainedFold, tmp_path: Path) -> Path:
    """Return a folder of base models without the merged ones of other tests."""
    base = Path(trained.base.folder)
    shutil.copytree(base, tmp_path / "models" / base.name)
    return tmp_path / "models"


@pytest.fixture
def saved(trained: TrainedFold, tmp_path: Path) -> Path:
    save_checkpoint(trained, tmp_path / "fold_1")
    return tmp_path / "fold_1"


def merged_folder(checkpoint: Path, base_models: Path, dtype: str) -> Path:
    """Load a checkpoint from its merged weights, and return their folder."""
    folder = load_merged_fold(checkpoint, base_models, dtype).folder
    assert folder is not None
    return folder


def answer(predictor: Predictor) -> np.ndarray[Any, Any]:
    return np.array(predictor.predict([Post("a", "I am tired."), Post("b", "We swam.")])["probability"])


def test_merged_weights_are_written_once_and_give_the_same_answers(
    trained: TrainedFold, saved: Path, base_models: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_config.inference, merge_adapter=True, keep_merged=True)
    assert count_unmerged([saved], base_models, config.dtype) == 1
    first = Predictor.load([saved], base_models, config)
    assert count_unmerged([saved], base_models, config.dtype) == 0
    monkeypatch.setattr(export, "export_model", lambda *_: pytest.fail("merged again"))
    second = Predictor.load([saved], base_models, config)
    assert answer(first).tolist() == answer(second).tolist()
    in_memory = Predictor.load([saved], base_models, replace(config, keep_merged=False))
    apart = Predictor.load([saved], base_models, replace(config, merge_adapter=False))
    np.testing.assert_allclose(answer(first), answer(in_memory), atol=1e-6)
    np.testing.assert_allclose(answer(first), answer(apart), atol=1e-5)
    assert second.folds[0].origin == trained.origin and second.folds[0].decision == trained.decision
    assert not hasattr(second.folds[0].model, "peft_config")


def test_another_checkpoint_or_dtype_has_weights_of_its_own(
    trained: TrainedFold, saved: Path, base_models: Path, tmp_path: Path
) -> None:
    save_checkpoint(with_threshold(trained, 0.9), tmp_path / "fold_2")
    folders = [
        merged_folder(saved, base_models, "float32"),
        merged_folder(saved, base_models, "bfloat16"),
        merged_folder(tmp_path / "fold_2", base_models, "float32"),
    ]
    assert len({*folders}) == 3
    assert merged_folder(saved, base_models, "float32") == folders[0]


def test_an_interrupted_merge_is_made_again(saved: Path, base_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_checksums", stop)
        with pytest.raises(KeyboardInterrupt):
            merged_folder(saved, base_models, "float32")
    assert (merged_folder(saved, base_models, "float32") / "model.safetensors").is_file()


def test_what_can_not_be_merged_is_taken_as_it_is(saved: Path, base_models: Path, tmp_path: Path) -> None:
    merged = merged_folder(saved, base_models, "float32")
    assert not is_mergeable(merged) and merged_folder(merged, base_models, "float32") == merged
    assert count_unmerged([merged], base_models, "float32") == 0
    facts = (saved / FACTS).read_text()
    (saved / FACTS).write_text(facts.replace('"quantization": "none"', '"quantization": "nf4"'))
    assert not is_mergeable(saved) and count_unmerged([saved], base_models, "float32") == 0
    assert not is_mergeable(tmp_path)


def test_damaged_weights_are_made_again(
    saved: Path, base_models: Path, tiny_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    config = replace(tiny_config.inference, merge_adapter=True, keep_merged=True)
    expected = answer(Predictor.load([saved], base_models, config))
    weights = merged_folder(saved, base_models, config.dtype) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert answer(Predictor.load([saved], base_models, config)).tolist() == expected.tolist()
    assert "model.safetensors has changed" in caplog.text
