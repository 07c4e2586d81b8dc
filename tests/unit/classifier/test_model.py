from pathlib import Path

import pytest
import torch
from peft import PeftModel

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.prompts import PostExample
from tests.unit.classifier.builders import make_examples, pairwise_logits


def plain_logits(model: torch.nn.Module, examples: list[PostExample]) -> torch.Tensor:
    """Return (N, 2) logits by the classifier's forward without a packing."""
    pairs = [example.prefix + suffix for example in examples for suffix in example.suffixes]
    return torch.cat([model(torch.tensor([pair])).logits for pair in pairs])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pair_without_a_packing_goes_through_the_float32_head(
    trained: TrainedFold, tmp_path: Path, dtype: str
) -> None:
    save_checkpoint(trained, tmp_path / "fold")
    model = load_checkpoint(tmp_path / "fold", Path(trained.base.folder).parent, dtype).model
    assert isinstance(model, PeftModel)
    assert model.dtype == getattr(torch, dtype)
    examples = make_examples(trained.prompter)
    with torch.no_grad():
        # The adapted classifier has a copy of the head, which PEFT made.
        for classifier in (model, model.base_model.model):
            logits = plain_logits(classifier, examples)
            assert logits.dtype == torch.float32
            torch.testing.assert_close(logits, pairwise_logits(model, examples), atol=1e-5, rtol=0)
