from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedTokenizerBase

from mentallam.classifier import merged as merged_module
from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.merged import load_merged, save_merged
from mentallam.classifier.scoring import score_pairs
from mentallam.errors import MentallamError
from tests.unit.classifier.builders import make_examples

END = 1  # the tiny tokenizer's token for the end of a text


@pytest.fixture
def merged(trained: TrainedFold, tmp_path: Path) -> PeftModel:
    save_checkpoint(trained, tmp_path / "fold")
    model = load_checkpoint(tmp_path / "fold", Path(trained.base.folder).parent, merge=True).model
    assert isinstance(model, PeftModel)
    return model


def test_large_weights_are_written_in_several_files(
    merged: PeftModel, trained: TrainedFold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merged_module, "_LARGEST_FILE", "200KB")
    examples = make_examples(trained.prompter)
    scores = score_pairs(merged, examples, 400)
    save_merged(merged, trained.prompter.tokenizer, [], tmp_path / "parts")
    assert len(list((tmp_path / "parts").glob("model-*.safetensors"))) > 1
    assert (score_pairs(load_merged(tmp_path / "parts", torch.float32, "")[0], examples, 400) == scores).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_head_is_float32_in_the_file_and_in_memory(trained: TrainedFold, tmp_path: Path, dtype: str) -> None:
    save_checkpoint(trained, tmp_path / "fold")
    merged = load_checkpoint(tmp_path / "fold", Path(trained.base.folder).parent, dtype, merge=True).model
    assert isinstance(merged, PeftModel)
    head = merged.base_model.model.score.weight.detach().clone()
    assert not torch.equal(head, head.bfloat16().float())
    save_merged(merged, trained.prompter.tokenizer, [], tmp_path / "merged")
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as weights:
        dtypes = {name: weights.get_tensor(name).dtype for name in weights.keys()}  # noqa: SIM118
    assert dtypes.pop("score.weight") == torch.float32
    assert set(dtypes.values()) == {getattr(torch, dtype)}
    for read_as in ("float32", "bfloat16"):
        model, _ = load_merged(tmp_path / "merged", getattr(torch, read_as), "")
        assert torch.equal(model.score.weight, head)
        assert {weight.dtype for weight in model.model.parameters()} == {getattr(torch, read_as)}


def padding(merged: PeftModel, tokenizer: PreTrainedTokenizerBase, last: list[int], folder: Path) -> int | None:
    save_merged(merged, tokenizer, last, folder)
    number: int | None = PreTrainedConfig.get_config_dict(folder)[0].get("pad_token_id")
    return number


def test_pairs_in_a_padded_batch_have_the_logits_that_they_have_alone(
    merged: PeftModel, trained: TrainedFold, tmp_path: Path
) -> None:
    assert padding(merged, trained.prompter.tokenizer, [], tmp_path / "merged") == END
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    pairs = [example.prefix + suffix for example in make_examples(trained.prompter) for suffix in example.suffixes]
    longest = max(map(len, pairs))
    with torch.no_grad():
        together = model(torch.tensor([pair + [END] * (longest - len(pair)) for pair in pairs])).logits
        alone = torch.cat([model(torch.tensor([pair])).logits for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_no_pair_ends_with_the_token_for_padding(merged: PeftModel, trained: TrainedFold, tmp_path: Path) -> None:
    """transformers would take such a token for padding and read the logits before it."""
    assert padding(merged, trained.prompter.tokenizer, [END], tmp_path / "merged") is None


@pytest.mark.parametrize("token", [-1, 512])
def test_a_token_for_padding_beyond_the_vocabulary_is_not_taken(
    merged: PeftModel, trained: TrainedFold, tmp_path: Path, token: int
) -> None:
    merged.base_model.model.config.pad_token_id = token
    assert padding(merged, trained.prompter.tokenizer, [], tmp_path / "merged") == END


def test_a_folder_without_its_configuration_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="holds no config.json.*; export it again"):
        load_merged(tmp_path, torch.float32, "export it again")
