"""Code that several benchmarks share: folders, posts, FLOPs needed and possible, the usual recipe, saved results."""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "hydra_configs"
BASE_MODELS = PROJECT / "data/06_models/base"
TWIN = PROJECT / "data/01_raw/twin"
CRITERIA = PROJECT / "data/01_raw/dsm5_criteria.csv"
RESULTS = PROJECT / "benchmarks/results"
SEED, POSTS_PER_STEP = 42, 4


def sample_posts(folder: Path, steps: int, per_step: int = POSTS_PER_STEP) -> list[list[dict[str, str]]]:
    """Draw posts of the twin in `folder`; a step has one of each of `per_step` equally large classes of length."""
    posts = pd.read_csv(folder / "redsm5_posts.csv", dtype=str, keep_default_na=False)
    length_class = pd.qcut(posts["text"].str.split().str.len().rank(method="first"), per_step, labels=False)
    drawn = posts.groupby(length_class).sample(steps, random_state=SEED)
    step = drawn.groupby(length_class).cumcount()
    return [chosen[["post_id", "text"]].to_dict("records") for _, chosen in drawn.groupby(step)]


def needed_flops(model: Any, examples: list[Any]) -> float:
    """Count the FLOPs that a training step on these posts needs: base products and attention, forward and backward.

    A frozen weight has no gradient, so a token costs 4 instead of 6 FLOPs per weight. A prefix counts once, and a token
    attends only to what it may see.
    """
    weights = sum(
        module.get_base_layer().weight.numel() for module in model.modules() if hasattr(module, "get_base_layer")
    )
    config = model.config
    tokens = scores = 0
    for example in examples:
        prefix, suffixes = len(example.prefix), [len(suffix) for suffix in example.suffixes]
        tokens += prefix + sum(suffixes)
        scores += prefix * (prefix + 1) / 2 + sum(length * (prefix + (length + 1) / 2) for length in suffixes)
    attention = 4 * scores * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    return float(4 * tokens * weights + 3 * attention)


def matmul_flops(dtype: torch.dtype) -> float:
    """Measure the FLOP/s of a large matrix product: the peak of this machine."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / statistics.median(times[1:])


def use_usual_recipe(model: Any) -> None:
    """Give a classifier PEFT's forward of adapters, and a head in the model's dtype as transformers keeps it."""
    from peft.tuners.lora.layer import Linear  # takes seconds, and not every process needs it

    for module in model.modules():
        if isinstance(module, Linear):
            module.__class__ = Linear
    model.base_model.model.score.to(next(model.parameters()).dtype)


def save_result(name: str, content: Any) -> None:
    """Write benchmarks/results/`name`.json."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
