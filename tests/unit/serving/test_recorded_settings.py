import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.config import InferenceConfig
from mentallam.model_folders import ENSEMBLE_FILE, FACTS
from mentallam.serving.recorded_settings import recorded_settings
from mentallam.variables import BASE_MODELS


@pytest.fixture
def checkpoint(trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(BASE_MODELS, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inference = InferenceConfig(tokens_per_pass=77, threshold=0.25)
    folder = tmp_path / "study" / "data" / "test" / "06_models" / "fold_1"
    save_checkpoint(replace(trained, config=replace(trained.config, inference=inference)), folder)
    return folder


def test_the_model_answers_as_its_training_said(checkpoint: Path) -> None:
    for parts in ([checkpoint], [checkpoint.parent / ENSEMBLE_FILE, checkpoint]):
        settings = recorded_settings(parts)
        assert settings.inference == InferenceConfig(tokens_per_pass=77, threshold=0.25)
        assert settings.notice == "international"


def test_base_weights_are_found_from_the_nearest_to_the_farthest(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found() -> Path:
        return recorded_settings([Path(os.path.relpath(checkpoint))]).base_models

    assert found() == tmp_path / "cache" / "mentallam" / "base_models"
    (checkpoint.parent / "base").mkdir()
    assert found() == checkpoint.parent / "base"
    project = tmp_path / "study"
    (project / "data" / "06_models" / "base").mkdir(parents=True)
    assert found() == checkpoint.parent / "base"  # no project until it has a configuration
    for folder in ("conf/base", "hydra_configs"):
        (project / folder).mkdir(parents=True)
    assert found() == project / "data" / "06_models" / "base"
    monkeypatch.setenv(BASE_MODELS, str(tmp_path / "shared"))
    assert found() == tmp_path / "shared"


def test_the_cache_is_in_the_home_folder_unless_a_variable_says_otherwise(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert recorded_settings([checkpoint]).base_models == tmp_path / "home" / ".cache" / "mentallam" / "base_models"


def test_merged_weights_are_not_kept_where_nothing_can_be_written(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert recorded_settings([checkpoint]).inference.keep_merged
    (checkpoint.parent / "base").mkdir()
    assert recorded_settings([checkpoint]).inference.keep_merged
    monkeypatch.setattr("mentallam.serving.recorded_settings.os.access", lambda *_: False)
    assert not recorded_settings([checkpoint]).inference.keep_merged


@pytest.mark.parametrize("facts", ["", "[]", "{}", json.dumps({"config": {"model": 3}})])
def test_a_damaged_checkpoint_is_left_to_whoever_loads_it(checkpoint: Path, facts: str) -> None:
    (checkpoint / FACTS).write_text(facts)
    assert recorded_settings([checkpoint]).inference == InferenceConfig(tokens_per_pass=1)
    shutil.rmtree(checkpoint)
    assert recorded_settings([checkpoint]).inference == InferenceConfig(tokens_per_pass=1)
