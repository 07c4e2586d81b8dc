"""A training step of a model of Llama 2 7B's shape on a GPU: DoRA and LoRA, compiled and not, and pair by pair.

Weights are random, so none are downloaded. A step has 4 posts of 120 to 480 tokens, or 10 posts, with 9 criteria each.
All steps run in one process; the figures are medians without the first step. They go to
benchmarks/results/gpu_step.json.

python benchmarks/gpu_step.py [--layers 32]
"""

import argparse
import gc
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from accelerate.utils import send_to_device
from peft import PeftModel
from transformers import LlamaConfig
from workload import CONFIGS, needed_flops, save_result, use_usual_recipe

from mentallam.classifier.compiling import compile_layers
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.model import add_adapter, empty_base
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample
from mentallam.config import compose_config
from mentallam.device import compute_device, on_gpu

FOUR = (120, 250, 380, 480)
TEN = (*FOUR, 400, 350, 500, 300, 200, 480)
CRITERIA, SUFFIX, PADDED, ROWS_PER_PASS, STEPS = 9, 24, 512, 4, 8


def now() -> float:
    """Return the time in seconds after the GPU has finished its work."""
    if on_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def matmul_flops(device: torch.device) -> float:
    """Measure the FLOP/s of a large matrix product in bfloat16: the peak for training."""
    size, repeats = (8192, 30) if device.type == "cuda" else (1024, 1)
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    start = now()
    for _ in range(repeats):
        a @ b
    return 2 * size**3 * repeats / (now() - start)


def posts(lengths: tuple[int, ...], vocabulary: int) -> list[PostExample]:
    """Make posts of random tokens."""
    rng = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [rng.randrange(3, vocabulary) for _ in range(count)]

    made = []
    for number, length in enumerate(lengths):
        suffixes = [tokens(SUFFIX + rng.randrange(-6, 7)) for _ in range(CRITERIA)]
        criteria = [str(k) for k in range(CRITERIA)]
        made.append(
            PostExample(str(number), tokens(length), False, criteria, suffixes, [k % 2 for k in range(CRITERIA)])
        )
    return made


def build(adapter: str, layers: int | None, checkpointing: bool) -> PeftModel:
    """Build a classifier of MentaLLaMA's shape with random weights; `layers` replaces its number of layers."""
    config = compose_config(CONFIGS, "mentallam", f"adapter={adapter}")
    architecture = LlamaConfig(**config.model.architecture)
    architecture.num_hidden_layers = layers or architecture.num_hidden_layers
    torch.manual_seed(0)
    with compute_device():
        base = empty_base(architecture, torch.bfloat16)
        model = add_adapter(base, config.adapter).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def packed_step(model: PeftModel, examples: list[PostExample]) -> Callable[[], None]:
    """Return our step: all pairs in one pass."""
    batch: dict[str, Any] = send_to_device(pack(examples), compute_device())
    labels = batch.pop("labels")
    return lambda: pair_loss(model(**batch), labels).backward()


def pairwise_step(model: PeftModel, examples: list[PostExample], padded: bool) -> Callable[[], None]:
    """Return a step of the usual recipe: PEFT's DoRA, a pair per row.

    Args:
        model: The classifier.
        examples: Its posts.
        padded: Whether rows are padded to 512 tokens; else they are sorted and padded to the longest of a pass.
    """
    use_usual_recipe(model)
    model.config.pad_token_id = 0
    rows = [
        (example.prefix + suffix, label)
        for example in examples
        for suffix, label in zip(example.suffixes, example.labels, strict=True)
    ]
    if not padded:
        rows.sort(key=lambda row: -len(row[0]))
    passes = []
    for first in range(0, len(rows), ROWS_PER_PASS):
        chosen = rows[first : first + ROWS_PER_PASS]
        width = PADDED if padded else max(len(row) for row, _ in chosen)
        ids = torch.tensor([row[:width] + [0] * (width - len(row)) for row, _ in chosen])
        passes.append(
            send_to_device((ids, (ids != 0).long(), torch.tensor([label for _, label in chosen])), compute_device())
        )

    def step() -> None:
        for ids, mask, labels in passes:
            logits = model(input_ids=ids, attention_mask=mask).logits.float()
            (functional.cross_entropy(logits, labels, reduction="sum") / len(rows)).backward()

    return step


def measure(name: str, model: PeftModel, step: Callable[[], None], examples: list[PostExample], peak: float) -> Any:
    """Measure optimizer steps; `mfu` counts only the tokens that are needed, whatever the recipe computes."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(1 + STEPS):
        start = now()
        step()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(now() - start)
    median = statistics.median(seconds[1:])
    row = {
        "recipe": name,
        "pairs": sum(len(example.suffixes) for example in examples),
        "first_seconds": seconds[0],
        "seconds": median,
        "mfu": needed_flops(model, examples) / median / peak,
        "peak_gpu_bytes": torch.cuda.max_memory_allocated() if on_gpu() else 0,
    }
    print(row, flush=True)
    return row


def main() -> None:
    """Print a row per recipe and write benchmarks/results/gpu_step.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, help="number of layers, fewer than the model's 32 to try the script out")
    layers = parser.parse_args().layers
    peak = matmul_flops(compute_device())
    table = []
    for adapter, checkpointing in (("dora", False), ("lora", False), ("dora", True)):
        model = build(adapter, layers, checkpointing)
        name = f"{adapter}{', checkpointing' if checkpointing else ''}"
        four, ten = (posts(lengths, model.config.vocab_size) for lengths in (FOUR, TEN))
        table.append(measure(f"shared prefix, {name}", model, packed_step(model, four), four, peak))
        if on_gpu() and compile_layers(model):
            for examples in (four, ten):
                table.append(
                    measure(f"shared prefix, {name}, compiled", model, packed_step(model, examples), examples, peak)
                )
        del model
        gc.collect()
        if on_gpu():
            torch.cuda.empty_cache()
    model = build("dora", layers, False)
    for padded in (True, False):
        kind = "padded to 512" if padded else "dynamic padding"
        table.append(measure(f"PEFT, a pair per row, {kind}", model, pairwise_step(model, four, padded), four, peak))
    device = torch.cuda.get_device_name() if on_gpu() else "cpu"
    result = {"device": device, "torch": torch.__version__, "layers": layers, "matmul_flops": peak, "steps": table}
    save_result("gpu_step", result)


if __name__ == "__main__":
    main()
