import json
import logging
import pickle
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import LlamaForSequenceClassification

from mentallam.checksums import CHECKSUMS, write_checksums
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, read_facts, save_checkpoint
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.weights import BaseModel, prepare_base_model
from mentallam.config import compose_config
from mentallam.datasets import CheckpointDataset
from mentallam.errors import MentallamError
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from tests.samples import POSTS, PROJECT
from tests.unit.classifier.builders import make_classifier, make_examples
from tests.unit.classifier.test_weights import files_of
from tests.unit.trained_folds import DECISION, ORIGIN, make_trained

OTHER = Decision(Calibration(2.0, 0.5), Thresholds(0.5, {"A.1": 0.25}))

FILES = {
    "README.md",
    "SHA256SUMS",
    "adapter_config.json",
    "adapter_model.safetensors",
    "mentallam.json",
    "tokenizer.json",
    "tokenizer_config.json",
}
IN_A_NEW_PROCESS = """
import json, sys
from pathlib import Path
from mentallam.checksums import CHECKSUMS, write_checksums
from mentallam.classifier.checkpoint import load_checkpoint
from mentallam.classifier.scoring import score_pairs

folder, cache, posts = sys.argv[1:]
trained = load_checkpoint(Path(folder), Path(cache))
examples = [trained.prompter.example(post_id, text) for post_id, text in json.loads(posts).items()]
logits = score_pairs(trained.model, examples, 2).tolist()
print(json.dumps({"logits": logits, "decision": trained.decision.to_dict(), "origin": trained.origin}))
"""


@pytest.fixture
def cache(tiny_base: BaseModel) -> Path:
    return Path(tiny_base.folder).parent


@pytest.fixture
def folder(trained: TrainedFold, tmp_path: Path) -> Path:
    save_checkpoint(trained, tmp_path / "models" / "fold_1")
    return tmp_path / "models" / "fold_1"


def test_saved_and_loaded_in_a_new_process_gives_identical_logits(
    trained: TrainedFold, folder: Path, tiny_base: BaseModel, tmp_path: Path, python: str
) -> None:
    examples = [trained.prompter.example(post_id, text) for post_id, text in POSTS.items()]
    logits = score_pairs(trained.model, examples, 2).tolist()
    # Elsewhere: the base model lies in another folder there.
    elsewhere = shutil.copytree(Path(tiny_base.folder).parent, tmp_path / "elsewhere")
    arguments = [str(folder), str(elsewhere), json.dumps(POSTS)]
    done = subprocess.run([python, "-c", IN_A_NEW_PROCESS, *arguments], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"logits": logits, "decision": DECISION.to_dict(), "origin": ORIGIN}
    assert len(set(logits)) == len(logits) == 9

    fresh, _ = make_classifier(tiny_base, trained.config, seed=1)
    assert score_pairs(fresh, examples, 2).tolist() != logits


def test_the_folder_is_complete_and_holds_safetensors_only(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    weights = load_file(folder / "adapter_model.safetensors")
    assert weights["base_model.model.score.weight"].shape == (2, 64)
    kinds = {name.rpartition("_proj.")[2] for name in weights if "_proj" in name}
    assert kinds == {"lora_A.weight", "lora_B.weight", "lora_magnitude_vector"}
    assert len(weights) == 2 * 7 * 3 + 1


def test_no_file_names_this_machine(folder: Path, trained: TrainedFold) -> None:
    here = {trained.base.folder, str(PROJECT), str(Path.home()), str(folder), socket.gethostname()}
    for path in folder.iterdir():
        content = path.read_bytes().decode("latin-1")
        assert not [name for name in here if len(name) > 1 and name in content], path.name
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (8, 16, True)


def test_the_card_warns_and_says_where_it_comes_from(folder: Path, trained: TrainedFold, tmp_path: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "SYNTHETIC DATA" in card
    assert "never a diagnosis" in card
    for fact in ("0.37", "fold-run", "cv-run", ORIGIN["data_hash"], trained.base.fingerprint, "A.6: Fatigue"):
        assert str(fact) in card
    save_checkpoint(replace(trained, origin={**ORIGIN, "synthetic": False}), tmp_path / "real")
    card = (tmp_path / "real" / "README.md").read_text(encoding="utf-8")
    assert "SYNTHETIC" not in card
    assert "never a diagnosis" in card


def test_loading_keeps_everything_but_the_weights_too(trained: TrainedFold, folder: Path, cache: Path) -> None:
    loaded = load_checkpoint(folder, cache)
    assert (loaded.decision, loaded.origin, loaded.config) == (trained.decision, ORIGIN, trained.config)
    assert loaded.prompter.criteria == trained.prompter.criteria
    assert loaded.base == trained.base
    assert loaded.folder == folder
    assert not loaded.model.training
    example = loaded.prompter.example("p", POSTS["s_1_2"])
    assert example == trained.prompter.example("p", POSTS["s_1_2"])


def check_merged_equals_adapter(trained: TrainedFold, folder: Path, cache: Path) -> None:
    save_checkpoint(trained, folder)
    examples = make_examples(trained.prompter)
    adapter = score_pairs(load_checkpoint(folder, cache, "float32").model, examples, 2)
    merged = load_checkpoint(folder, cache, "float32", merge=True)
    assert all(module.merged for module in merged.model.modules() if hasattr(module, "lora_variant"))
    # float32 rounds in proportion to the logits.
    assert abs(score_pairs(merged.model, examples, 2) - adapter).max() < 2e-5 * abs(adapter).max()
    with merged.model.disable_adapter():  # takes the adapter out again, and with it what it had changed
        assert abs(score_pairs(merged.model, examples, 2) - adapter).max() > 1e-2


def test_merged_equals_adapter_on_tiny(trained: TrainedFold, cache: Path, tmp_path: Path) -> None:
    check_merged_equals_adapter(trained, tmp_path / "fold", cache)


@pytest.mark.slow
def test_merged_equals_adapter_on_smollm2(tmp_path: Path) -> None:
    config = compose_config(PROJECT / "hydra_configs", "smollm2", "model.dtype=float32")
    cache = PROJECT / "data" / "06_models" / "base"
    base = prepare_base_model(config.model, cache)
    check_merged_equals_adapter(make_trained(base, config), tmp_path / "fold", cache)


def test_merging_in_bfloat16_leaves_the_head_in_float32(folder: Path, cache: Path) -> None:
    merged = load_checkpoint(folder, cache, "bfloat16", merge=True).model.base_model.model
    base = [parameter for name, parameter in merged.model.named_parameters() if "lora" not in name]
    assert {parameter.dtype for parameter in base} == {torch.bfloat16}
    assert {parameter.dtype for parameter in merged.score.parameters()} == {torch.float32}


def test_the_same_adapter_is_saved_as_the_same_file_by_every_process(folder: Path) -> None:
    """PEFT writes a set, in the order of the process's hash seed."""
    targets = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert targets == sorted(targets)


def test_plain_peft_loads_it(trained: TrainedFold, folder: Path) -> None:
    base = LlamaForSequenceClassification.from_pretrained(trained.base.folder, num_labels=2, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(folder)).eval()
    examples = make_examples(trained.prompter)
    pairs = [example.prefix + suffix for example in examples for suffix in example.suffixes]
    with torch.inference_mode():
        logits = torch.cat([model(torch.tensor([pair])).logits for pair in pairs]).double().numpy()
    assert abs(logits[:, 1] - logits[:, 0] - score_pairs(trained.model, examples, 4)).max() < 1e-5


@pytest.mark.parametrize(
    "lost",
    [
        "base_model.model.score.weight",
        "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
    ],
)
def test_an_adapter_that_lacks_a_weight_is_refused(folder: Path, cache: Path, lost: str) -> None:
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    del weights[lost]
    save_file(weights, file, {"format": "pt"})
    write_checksums(folder)
    with pytest.raises(MentallamError, match=r"fold_1 doesn't fit its model \(.*\); get .* train fold 1 again"):
        load_checkpoint(folder, cache)


DAMAGES = {
    "missing": lambda content: None,
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "bit flipped": lambda content: content[:100] + bytes([content[100] ^ 4]) + content[101:],
    "a pickle": lambda content: pickle.dumps([content]),
}


def damage(file: Path, kind: str) -> None:
    content = DAMAGES[kind](file.read_bytes())
    file.unlink()
    if content is not None:
        file.write_bytes(content)


def test_a_damaged_checkpoint_is_refused_by_file_and_reason(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES:
        content = (folder / name).read_bytes()
        for kind in DAMAGES:
            damage(folder / name, kind)
            # Damage to the checksums may show as a name that they lack.
            blamed = r"[\w.]+" if name == CHECKSUMS else name
            reason = r"(is missing|is empty|is damaged|has changed since it was written|does not belong there)"
            with pytest.raises(MentallamError, match=f"fold_1/{blamed} {reason}.*; .*train fold 1 again .`kedro run"):
                read_facts(folder)
            (folder / name).write_bytes(content)
    assert read_facts(folder)["origin"] == ORIGIN


def test_a_file_that_was_added_is_refused(folder: Path, cache: Path) -> None:
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(MentallamError, match="fold_1/adapter_model.bin does not belong there; remove it, or get an"):
        load_checkpoint(folder, cache)


def make_old(folder: Path) -> None:
    """Make a checkpoint one of a version that wrote no checksums."""
    facts = json.loads((folder / "mentallam.json").read_text())
    del facts["checksums"]
    (folder / "mentallam.json").write_text(json.dumps(facts))
    (folder / CHECKSUMS).unlink()


def test_a_checkpoint_of_an_older_version_is_loaded_with_a_warning(
    folder: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_old(folder)
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(folder, cache).decision == DECISION
    assert "fold_1 has no checksums, since an older version wrote it" in caplog.text


@pytest.mark.parametrize("name", ["mentallam.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("kind", ["missing", "truncated", "empty", "a pickle"])
def test_an_incomplete_checkpoint_of_an_older_version_is_refused(
    folder: Path, cache: Path, name: str, kind: str
) -> None:
    make_old(folder)
    damage(folder / name, kind)
    with pytest.raises(MentallamError, match=r"fold_1 holds no complete checkpoint \(.*\); .*train fold 1 again"):
        load_checkpoint(folder, cache)


@pytest.mark.parametrize("facts", ["[" * 100_000, "[" * 200 + "]" * 200, "[]", '{"origin": 1' + "0" * 5000 + "}"])
def test_facts_that_no_version_wrote_are_refused(folder: Path, facts: str) -> None:
    make_old(folder)
    (folder / "mentallam.json").write_text(facts)
    with pytest.raises(MentallamError, match="fold_1 holds no complete checkpoint"):
        read_facts(folder)


def test_the_adapters_configuration_can_make_peft_import_and_fetch_nothing(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint from elsewhere may have checksums that fit."""
    logits = score_pairs(
        load_checkpoint(folder, cache).model, make_examples(load_checkpoint(folder, cache).prompter), 2
    )
    hostile = {
        "peft_type": "XLORA",
        "base_model_name_or_path": "evil/model",
        "auto_mapping": {"base_model_class": "Popen", "parent_library": "subprocess"},
        "megatron_config": {"a": 1},
        "megatron_core": "antigravity",
        "adapters": {"0": "evil/adapter"},
    }
    (folder / "adapter_config.json").write_text(json.dumps(hostile))
    write_checksums(folder)

    def never(*names: object, **_: object) -> None:
        raise AssertionError(f"fetched: {names}")

    for name in ("peft.config.hf_hub_download", "peft.utils.save_and_load.hf_hub_download"):
        monkeypatch.setattr(name, never)
    for name in ("peft.peft_model.HfFileSystem", "peft.utils.save_and_load.check_file_exists_on_hf_hub"):
        monkeypatch.setattr(name, never, raising=False)
    monkeypatch.delitem(sys.modules, "antigravity", raising=False)
    loaded = load_checkpoint(folder, cache)
    assert (score_pairs(loaded.model, make_examples(loaded.prompter), 2) == logits).all()
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "a\\b", "a\0b", ".hidden", "a" * 300])
def test_a_base_models_name_stays_in_the_folder_of_base_models(folder: Path, cache: Path, name: str) -> None:
    file = folder / "mentallam.json"
    facts = json.loads(file.read_text())
    facts["base_model"]["name"] = name
    file.write_text(json.dumps(facts))
    write_checksums(folder)
    with pytest.raises(MentallamError, match="model.name=.* can't be part of a path"):
        load_checkpoint(folder, cache)


def test_an_adapter_of_another_shape_is_refused(folder: Path, cache: Path) -> None:
    file = folder / "adapter_model.safetensors"
    weights = load_file(file)
    weights["base_model.model.score.weight"] = torch.zeros(3, 64)
    save_file(weights, file, {"format": "pt"})
    write_checksums(folder)
    with pytest.raises(MentallamError, match="doesn't fit its model"):
        load_checkpoint(folder, cache)


def test_other_base_weights_are_refused(
    trained: TrainedFold, tiny_base: BaseModel, folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tiny_base.folder, tmp_path / "copy"))
    config = replace(trained.config, model=replace(trained.config.model, source="hub", path=str(copy)))
    base = prepare_base_model(config.model, tmp_path)
    save_checkpoint(replace(trained, config=config, base=base), folder)
    load_checkpoint(folder, tmp_path)
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] += 1e-3
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(MentallamError, match="base model tiny has other weights"):
        load_checkpoint(folder, tmp_path)


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ((Path, "write_text"), OSError(28, "No space left on device")),
        ((PeftModel, "save_pretrained"), SafetensorError("I/O error: No space left on device (os error 28)")),
    ],
)
def test_a_failing_save_leaves_the_previous_checkpoint_whole(
    trained: TrainedFold,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: tuple[type, str],
    error: Exception,
) -> None:
    before = files_of(folder)

    def full(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(*where, full)
        with pytest.raises(MentallamError, match="fold_1 can't be written .*No space left on device"):
            save_checkpoint(replace(trained, decision=OTHER), folder)
    assert files_of(folder) == before
    assert list(folder.parent.iterdir()) == [folder]

    save_checkpoint(replace(trained, decision=OTHER), folder)
    assert json.loads((folder / "mentallam.json").read_text())["decision"] == OTHER.to_dict()
    assert list(folder.parent.iterdir()) == [folder]


def test_a_new_checkpoint_replaces_the_old_one_whole(trained: TrainedFold, folder: Path) -> None:
    (folder / "left over.bin").touch()
    save_checkpoint(trained, folder)
    assert {path.name for path in folder.iterdir()} == FILES


def test_a_kill_while_the_new_checkpoint_takes_the_old_ones_place_loses_neither(
    trained: TrainedFold, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test_files` tries every step; this one leaves no folder of the checkpoint's name."""
    original = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target == folder:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(replace(trained, decision=OTHER), folder)
    assert not folder.exists()
    dataset = CheckpointDataset(folder=str(folder), base_models=str(cache))
    assert dataset.exists()
    assert dataset.load().decision == load_checkpoint(folder, cache).decision == DECISION
    dataset.save(replace(trained, decision=OTHER))
    assert load_checkpoint(folder, cache).decision == OTHER
    assert list(folder.parent.iterdir()) == [folder]


def test_a_folder_that_cannot_be_made_is_one_sentence(trained: TrainedFold, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MentallamError, match="fold_1 can't be written .*: check space and rights"):
        save_checkpoint(trained, tmp_path / "file" / "fold_1")


def test_neither_saving_nor_loading_asks_the_hub(
    trained: TrainedFold, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_: object, **__: object) -> None:
        raise AssertionError("PEFT asks the hub whether the base's vocabulary has grown")

    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", ask)
    save_checkpoint(trained, folder)
    load_checkpoint(folder, cache)


def test_a_checkpoint_from_before_calibration_keeps_its_threshold(folder: Path, cache: Path) -> None:
    facts = json.loads((folder / "mentallam.json").read_text())
    del facts["decision"], facts["config"]["decision"]
    (folder / "mentallam.json").write_text(json.dumps({**facts, "threshold": 0.61}))
    write_checksums(folder)
    assert load_checkpoint(folder, cache).decision == Decision(Calibration(), Thresholds(0.61))


def test_a_checkpoint_without_any_threshold_is_refused(folder: Path, cache: Path) -> None:
    facts = json.loads((folder / "mentallam.json").read_text())
    del facts["decision"]
    (folder / "mentallam.json").write_text(json.dumps(facts))
    write_checksums(folder)
    with pytest.raises(MentallamError, match="holds no complete checkpoint"):
        load_checkpoint(folder, cache)


def test_the_card_names_every_threshold(trained: TrainedFold, tmp_path: Path) -> None:
    save_checkpoint(replace(trained, decision=OTHER), tmp_path / "fold")
    card = (tmp_path / "fold" / "README.md").read_text()
    assert "sigmoid(2 x logit + 0.5), matched from 0.50 (A.1 0.25) on" in card
