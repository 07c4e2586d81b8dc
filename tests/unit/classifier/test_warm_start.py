import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from peft.utils import get_peft_model_state_dict
from transformers import set_seed

from mentallam.checksums import write_checksums
from mentallam.classifier.checkpoint import TrainedFold, read_facts, save_checkpoint
from mentallam.classifier.model import build_classifier
from mentallam.classifier.warm_start import check_start, learnt_posts, start_adapters
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.errors import MentallamError
from mentallam.resumption import fingerprint
from tests.samples import CRITERIA

LEARNT = pd.DataFrame({"post_id": ["a1", "a2"], "text": ["I was tired.", "I was at the lake."]})
OTHER = pd.DataFrame({"post_id": ["b1", "b2"], "text": ["I sleep badly.", "The train was late."]})


@pytest.fixture
def folder(trained: TrainedFold, tmp_path: Path) -> Path:
    """Return the checkpoint of a fold that has learnt from `LEARNT`."""
    hashes = learnt_posts(trained.config, LEARNT, ["a1", "a2"])
    save_checkpoint(replace(trained, learnt=hashes), tmp_path / "fold_1")
    return tmp_path / "fold_1"


@pytest.fixture
def starting(tiny_config: Config, folder: Path) -> Config:
    return starting_from(tiny_config, folder)


def starting_from(config: Config, folder: Path) -> Config:
    return replace(config, training=replace(config.training, start_from=str(folder)))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return found


@pytest.mark.parametrize("same_criteria", [True, False])
def test_adapters_start_from_the_checkpoint_and_the_head_if_the_criteria_are_the_same(
    same_criteria: bool, trained: TrainedFold, starting: Config, tiny_base: BaseModel
) -> None:
    set_seed(5)
    fresh = weights(build_classifier(tiny_base, starting)[0])
    set_seed(5)
    model, _ = build_classifier(tiny_base, starting)
    start_adapters(model, starting, CRITERIA if same_criteria else {**CRITERIA, "A.1": "Another wording."})
    found, expected = weights(model), weights(trained.model)
    assert found.keys() == expected.keys()
    for name in found:
        is_head = "score" in name
        torch.testing.assert_close(
            found[name], (fresh if is_head and not same_criteria else expected)[name], rtol=0, atol=0
        )
    assert any(not torch.equal(found[name], fresh[name]) for name in found)
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if "lora_A" in name)


def test_without_a_start_nothing_changes(tiny_config: Config, tiny_base: BaseModel) -> None:
    model, _ = build_classifier(tiny_base, tiny_config)
    before = {name: weight.clone() for name, weight in weights(model).items()}
    check_start(tiny_config, tiny_base, LEARNT)
    start_adapters(model, tiny_config, CRITERIA)
    assert all(torch.equal(before[name], weight) for name, weight in weights(model).items())


def test_posts_that_the_start_has_learnt_from_are_refused_by_their_text(starting: Config, tiny_base: BaseModel) -> None:
    check_start(starting, tiny_base, OTHER)
    known = pd.concat([OTHER, LEARNT.assign(post_id=["new_1", "new_2"])])
    with pytest.raises(MentallamError, match=r"learnt from 2 posts of this corpus \(new_1, new_2\)") as refused:
        check_start(starting, tiny_base, known)
    assert "tired" not in refused.value.message


def test_a_chain_of_starts_remembers_all_posts(starting: Config) -> None:
    both = learnt_posts(starting, OTHER, ["b1"])
    assert len(both) == 3
    assert set(both) > set(
        learnt_posts(replace(starting, training=replace(starting.training, start_from=None)), LEARNT, ["a1", "a2"])
    )


def test_the_record_holds_no_text(folder: Path) -> None:
    for file in folder.iterdir():
        assert b"tired" not in file.read_bytes()
    assert len(read_facts(folder)["learnt_posts"]) == 2


def test_another_base_or_other_adapters_are_refused(starting: Config, tiny_base: BaseModel) -> None:
    with pytest.raises(MentallamError, match="was trained on the base tiny .* choose the same base"):
        check_start(starting, replace(tiny_base, fingerprint="0" * 64), OTHER)
    saved = starting.adapter.r
    other = replace(starting, adapter=replace(starting.adapter, r=saved + 1))
    with pytest.raises(MentallamError, match=f"has adapter.r={saved}, this training {saved + 1}"):
        check_start(other, tiny_base, OTHER)


def test_a_folder_that_is_no_checkpoint_or_knows_not_its_posts_is_refused(
    tiny_config: Config, tiny_base: BaseModel, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(MentallamError, match=r"there is no folder .*data/06_models/fold_0"):
        check_start(starting_from(tiny_config, tmp_path / "nowhere"), tiny_base, OTHER)
    facts = json.loads((folder / "mentallam.json").read_text(encoding="utf-8"))
    del facts["learnt_posts"]
    (folder / "mentallam.json").write_text(json.dumps(facts), encoding="utf-8")
    write_checksums(folder)
    with pytest.raises(MentallamError, match="does not record which posts it has learnt from"):
        check_start(starting_from(tiny_config, folder), tiny_base, OTHER)


def test_another_start_is_another_training(starting: Config, folder: Path, trained: TrainedFold) -> None:
    manifest = {"data_hash": "", "frames": {}, "options": {}, "corpus": "", "synthetic": True}
    before = fingerprint(starting, {}, manifest)
    save_checkpoint(replace(trained, learnt=("0" * 16,)), folder)
    after = fingerprint(starting, {}, manifest)
    assert before["start"] != after["start"]
    assert {**before, "start": ""} == {**after, "start": ""}
