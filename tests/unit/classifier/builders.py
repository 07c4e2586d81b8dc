"""Builders of tiny classifiers and examples, and comparisons of them."""

from collections.abc import Iterable

import torch
from peft import PeftModel
from transformers import set_seed

from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from tests.samples import CRITERIA, POSTS


def make_classifier(base: BaseModel, config: Config, seed: int = 0) -> tuple[PeftModel, Prompter]:
    """Return a classifier with a non-zero adapter: PEFT starts B at zero, which would hide a wrong adapter."""
    set_seed(seed)
    model, tokenizer = build_classifier(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
        if "lora_magnitude" in name:
            parameter.data *= torch.empty_like(parameter).uniform_(0.8, 1.2)
    prompter = Prompter(tokenizer, config.model.prompt, CRITERIA, config.model.max_length)
    return model.eval(), prompter


def make_examples(prompter: Prompter) -> list[PostExample]:
    """Return posts of different lengths, one of them with only two criteria."""
    return [
        prompter.example("s_1_1", POSTS["s_1_1"], labels=[0, 1, 0]),
        prompter.example("s_1_2", POSTS["s_1_2"], ["A.6", "A.1"], labels=[0, 0]),
        prompter.example("s_2_1", POSTS["s_2_1"], labels=[1, 0, 1]),
    ]


def pairwise_logits(model: PeftModel, examples: Iterable[PostExample]) -> torch.Tensor:
    """Return (N, 2) logits by transformers alone: one sequence per pair, the head on its last token."""
    inner = model.base_model.model
    rows = []
    for example in examples:
        for suffix in example.suffixes:
            hidden = inner.model(torch.tensor([example.prefix + suffix], device=inner.device)).last_hidden_state
            rows.append(inner.score(hidden[0, -1].float()))
    return torch.stack(rows)


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    assert left
    return max(float((left[name] - right[name]).norm() / right[name].norm()) for name in left)
