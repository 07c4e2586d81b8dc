"""The frozen base: loaded once per process, and changed by nothing that happens to a model."""

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from transformers import AutoModelForSequenceClassification, set_seed

from mentallam.classifier import shared_base
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.fold import CorpusTables, fit_fold, score_fold
from mentallam.classifier.frozen import frozen_states
from mentallam.classifier.learned_baselines import fit_baselines
from mentallam.classifier.model import load_base
from mentallam.classifier.shared_base import release_base
from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import BaselinesConfig, Config, compose_config
from tests.samples import PROJECT
from tests.unit.classifier.test_fold import SPLIT, criteria, groups, pairs, posts  # noqa: F401

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return a list that gets the folder of each base that is loaded."""
    folders: list[str] = []
    real = shared_base._load

    def load(base: BaseModel, *args: Any) -> Any:
        folders.append(base.folder)
        return real(base, *args)

    monkeypatch.setattr(shared_base, "_load", load)
    release_base()
    yield folders
    release_base()


def snapshot(base: BaseModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in shared_base.frozen_base(base, torch.float32, CPU).weights.items()}


def unchanged(base: BaseModel, before: dict[str, torch.Tensor]) -> bool:
    now = shared_base.frozen_base(base, torch.float32, CPU).weights
    return now.keys() == before.keys() and all(torch.equal(now[name], weight) for name, weight in before.items())


@pytest.mark.parametrize("adapter", ["dora", "lora"])
def test_a_cross_validation_loads_the_base_once_and_leaves_it_unchanged(
    adapter: str,
    tiny_base: BaseModel,
    posts: pd.DataFrame,  # noqa: F811
    criteria: pd.DataFrame,  # noqa: F811
    pairs: pd.DataFrame,  # noqa: F811
    groups: pd.DataFrame,  # noqa: F811
    loads: list[str],
    tmp_path: Path,
) -> None:
    overrides = f"adapter={adapter} adapter.top_layers=1 training.max_epochs=2 training.learning_rate=0.01"
    config = compose_config(PROJECT / "hydra_configs", "tiny", overrides)
    config = replace(config, baselines=BaselinesConfig(["embedding"]))
    splits: list[dict[str, Any]] = [{**SPLIT, "fold": 0}, {**SPLIT, "fold": 1}]
    before = snapshot(tiny_base)
    fit_baselines(config, tiny_base, splits[:1], posts, criteria, pairs, groups)
    states = frozen_states(config, tiny_base, posts, criteria, pairs)
    tables = CorpusTables(posts, criteria, pairs, groups)
    for split in splits:
        origin = {"run_id": "", "cv_run_id": "", "fold": split["fold"], "seed": 1, "mask": False}
        origin |= {"data_hash": "", "corpus": "", "synthetic": True}
        own = tmp_path / f"states_{split['fold']}"
        trained, *_ = fit_fold(config, tiny_base, split, tables, states, origin, lambda *_, **__: None, own)
        for name, parameter in trained.model.named_parameters():
            if "lora_B" in name:  # Zero after so few steps, they would make a merge change nothing.
                torch.nn.init.normal_(parameter)
        folder = tmp_path / f"fold_{split['fold']}"
        save_checkpoint(trained, folder)
        for merge in (True, False):
            loaded = load_checkpoint(folder, Path(tiny_base.folder).parent, "float32", merge)
            score_fold(loaded, split, tables)
    assert loads == [tiny_base.folder]
    assert unchanged(tiny_base, before)
    release_base()
    assert unchanged(tiny_base, before)  # The folder has not changed either.
    assert len(loads) == 2


def test_models_share_the_base_and_nothing_else(trained: TrainedFold, tmp_path: Path) -> None:
    save_checkpoint(trained, tmp_path / "fold")
    cache = Path(trained.base.folder).parent
    models = [load_checkpoint(tmp_path / "fold", cache, merge=merge).model for merge in (False, False, True)]
    one, two, merged = (dict(model.named_parameters()) for model in models)
    shared = {name for name in one if "lora_" not in name and ".score." not in name}
    assert {name for name in one if one[name].data_ptr() == two[name].data_ptr()} == shared
    kept = {name for name in shared if ".base_layer." not in name}
    assert {name for name in one if one[name].data_ptr() == merged[name].data_ptr()} == kept
    modules = [set(map(id, model.modules())) for model in models]
    assert not modules[0] & modules[1]
    buffers = [{buffer.data_ptr() for buffer in model.buffers()} for model in models]
    assert not buffers[0] & buffers[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_equals_the_one_that_transformers_loads(tiny_base: BaseModel, dtype: torch.dtype) -> None:
    """Compare weights, buffers and, from the same seed, the fresh head; at the first use and later."""
    set_seed(3)
    theirs = AutoModelForSequenceClassification.from_pretrained(tiny_base.folder, num_labels=2, dtype=dtype)
    theirs.score.float()
    for _ in range(2):
        set_seed(3)
        ours, _ = load_base(tiny_base, dtype)
        assert not ours.training
        for mine, other in ((ours.state_dict(), theirs.state_dict()), (ours.named_buffers(), theirs.named_buffers())):
            mine, other = dict(mine), dict(other)
            assert mine.keys() == other.keys()
            for name, tensor in mine.items():
                assert tensor.dtype == other[name].dtype
                assert torch.equal(tensor, other[name]), name


def test_only_the_head_depends_on_the_seed(tiny_base: BaseModel) -> None:
    states = []
    for _ in range(2):  # The first call loads the base, the second finds it.
        set_seed(5)
        load_base(tiny_base, torch.float32)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_released_base_is_freed_with_its_last_model(tiny_base: BaseModel) -> None:
    model, _ = load_base(tiny_base, torch.float32)
    storage = weakref.ref(model.model.embed_tokens.weight.untyped_storage())
    base = weakref.ref(shared_base.frozen_base(tiny_base, torch.float32, CPU))
    release_base()
    assert base() is None
    assert storage() is not None
    scores = model(torch.tensor([[1, 2, 3]])).logits
    assert torch.isfinite(scores).all()
    del model, scores
    gc.collect()
    assert storage() is None


def test_another_base_or_dtype_replaces_the_loaded_one(
    tiny_base: BaseModel, tiny_config: Config, tmp_path: Path, loads: list[str]
) -> None:
    wider = {**tiny_config.model.architecture, "intermediate_size": 96}
    other = prepare_base_model(replace(tiny_config.model, architecture=wider), tmp_path)
    first, _ = load_base(tiny_base, torch.float32)
    assert load_base(tiny_base, torch.bfloat16)[0].dtype == torch.bfloat16
    second, _ = load_base(other, torch.float32)
    assert not torch.equal(first.model.embed_tokens.weight, second.model.embed_tokens.weight)
    load_base(replace(other, fingerprint="of a folder that has changed"), torch.float32)
    assert loads == [tiny_base.folder, tiny_base.folder, other.folder, other.folder]


def test_a_run_that_ends_frees_the_base(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from kedro.io import DataCatalog
    from kedro.pipeline import Pipeline

    from mentallam.hooks import ProjectHooks

    hooks = ProjectHooks()
    ends: list[Callable[[], None]] = [
        lambda: hooks.after_pipeline_run({}, Pipeline([]), DataCatalog()),
        lambda: hooks.on_pipeline_error(ValueError("no"), {"env": None}, None),  # type: ignore[arg-type]
    ]
    for end in ends:
        load_base(tiny_base, torch.float32)
        assert shared_base._Kept.base is not None
        end()
        assert shared_base._Kept.base is None
