"""How fast is training? The usual recipe padded and with dynamic padding, and ours; one optimizer step at a time.

Every recipe trains SmolLM2 with DoRA (r=8, seven projections) on the same posts of the synthetic twin, whose lengths
are ReDSM5's, with the same criteria, effective batch (4 posts x 9 criteria) and dtype. A round takes four posts, one of
each quartile of length, and runs each recipe on them in a process of its own, one after the other. Ours is in a process
with its variants: they differ by little, so they take their steps in turns, with the matrix-product peak measured
before each, so that what else a shared machine does slows them all alike. Figures are medians over rounds.

make bench-training [OPTIONS="--quick"]      python benchmarks/training.py [--quick | --growth | --profile]
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from mentallam.device import on_gpu

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks/results"
SEED, POSTS_PER_STEP, MAX_LENGTH = 42, 4, 512
# Rows of a pass of the pairwise recipes: about as many tokens as ours has in one pass.
ROWS_PER_PASS = 4
USUAL = {
    "padded": "Trainer + PEFT DoRA, a pair per row, padded to 512",
    "dynamic": "the same, dynamic padding, grouped by length",
}
VARIANTS = {
    "ours": "shared prefix, fast DoRA, compiled",
    "ours_lora": "shared prefix, fast LoRA, compiled",
    "ours_uncompiled": "shared prefix, fast DoRA",
}
TURNS, QUICK_TURNS = 9, 5
QUICK_VARIANTS = ["ours", "ours_lora"]


def sample_posts(folder: Path, steps: int, per_step: int = POSTS_PER_STEP) -> list[list[dict[str, str]]]:
    """Posts of the twin for some steps, drawn so that a step has one of each of `per_step` classes of length."""
    posts = pd.read_csv(folder / "redsm5_posts.csv", dtype=str, keep_default_na=False)
    part = pd.qcut(posts["text"].str.split().str.len().rank(method="first"), per_step, labels=False)
    drawn = posts.groupby(part).sample(steps, random_state=SEED)
    step = drawn.groupby(part).cumcount()
    return [own[["post_id", "text"]].to_dict("records") for _, own in drawn.groupby(step)]


def matmul_flops(dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product: the peak that training is measured against."""
    a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    times = []
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2 * 2048**3 / statistics.median(times[1:])


def needed_flops(model: Any, examples: list[Any]) -> float:
    """Of a training step on these posts: base products and attention, forward and gradients by the activations.

    A frozen weight has no gradient, so a token costs 4 and not 6 FLOPs per weight; a prefix counts once, and a token
    attends to what it may see and to nothing else.
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


def prepare(recipe: str, posts: list[dict[str, str]], n_criteria: int) -> tuple[Any, Any, Any, list[Any]]:
    """The configuration, the classifier, its tokenizer and the posts with labels that matter to nothing here."""
    from transformers import set_seed

    from mentallam.classifier.model import build_classifier
    from mentallam.classifier.prompts import Prompter
    from mentallam.classifier.weights import prepare_base_model
    from mentallam.config import compose_config

    compiled = recipe in ("ours", "ours_lora")
    overrides = [f"adapter={'lora' if recipe.endswith('lora') else 'dora'}", f"model.max_length={MAX_LENGTH}"]
    overrides += [f"model.compile_on_{device}={compiled}" for device in ("cpu", "gpu")]
    overrides += ["training.max_epochs=1"]
    pairs = min(len(posts), POSTS_PER_STEP) * n_criteria
    overrides += [f"training.effective_batch_pairs={pairs}", "training.tokens_per_pass=4096"]
    config = compose_config(PROJECT / "hydra_configs", "smollm2", " ".join(overrides))
    base = prepare_base_model(config.model, PROJECT / "data/06_models/base")
    set_seed(SEED)
    model, tokenizer = build_classifier(base, config)
    table = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv")
    wording = table["criterion"].tolist()
    criteria = {f"c{k}": wording[k % len(wording)] for k in range(n_criteria)}
    prompter = Prompter(tokenizer, config.model.prompt, criteria, MAX_LENGTH)
    labels = [k % 2 for k in range(n_criteria)]
    examples = [prompter.example(post["post_id"], post["text"], labels=labels) for post in posts]
    return config, model, tokenizer, examples


def run_ours(config: Any, model: Any, examples: list[Any]) -> list[float]:
    """Seconds of each optimizer step of an epoch of the project's own training."""
    from mentallam.classifier.training import train

    seconds = []
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def as_after_a_step(module: Any, _: Any) -> None:
        """Has the first step, too, make DoRA's norms: the scoring before it has made them off the clock."""
        if module.training:
            torch._foreach_add_(trained, 0.0)
            hook.remove()

    hook = model.register_forward_pre_hook(as_after_a_step)

    def log(metrics: dict[str, float], step: int) -> None:
        if "pairs_per_second" in metrics:
            seconds.append(config.training.effective_batch_pairs / metrics["pairs_per_second"])

    train(model, examples, examples[:1], config.training, SEED, log)
    return seconds


def run_pairwise(config: Any, model: Any, tokenizer: Any, examples: list[Any], padded: bool) -> list[float]:
    """Seconds of each optimizer step of transformers' Trainer on one pair per row."""
    from peft.tuners.lora.layer import Linear
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    for module in model.modules():
        if isinstance(module, Linear):
            module.__class__ = Linear  # back to PEFT's own forward
    model.base_model.model.score.to(next(model.parameters()).dtype)  # as transformers keeps it; ours is in float32
    tokenizer.padding_side, tokenizer.pad_token = "right", tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    rows = [
        {"input_ids": example.prefix + suffix, "labels": label, "length": len(example.prefix) + len(suffix)}
        for example in examples
        for suffix, label in zip(example.suffixes, example.labels, strict=True)
    ]
    collate = DataCollatorWithPadding(
        tokenizer, padding="max_length" if padded else "longest", max_length=MAX_LENGTH if padded else None
    )

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            seconds.append(time.perf_counter() - self.start)

    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            seed=SEED,
            num_train_epochs=1,
            per_device_train_batch_size=ROWS_PER_PASS,
            gradient_accumulation_steps=math.ceil(config.training.effective_batch_pairs / ROWS_PER_PASS),
            train_sampling_strategy="sequential" if padded else "group_by_length",
            length_column_name="length",
            learning_rate=config.training.learning_rate,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(model=model, args=arguments, data_collator=collate, train_dataset=rows, callbacks=[Clock()]).train()
    return seconds


def work(task: dict[str, Any]) -> dict[str, Any]:
    """Some recipes in this process, an epoch of each in turns: seconds per step, and what the posts needed.

    The peak of memory is the first recipe's, before there is another.
    """
    prepared: dict[str, tuple[Any, Any, Any, list[Any]]] = {}
    seconds: dict[str, list[float]] = {recipe: [] for recipe in task["recipes"]}
    peaks, resident = [], []
    for recipe in task["turns"] * task["recipes"]:
        if recipe not in prepared:
            prepared[recipe] = prepare(recipe, task["posts"], task["criteria"])
            resident.append(_peak_rss_bytes())
        config, model, tokenizer, examples = prepared[recipe]
        peaks.append(matmul_flops(next(model.parameters()).dtype))
        if recipe.startswith("ours"):
            seconds[recipe] += run_ours(config, model, examples)
        else:
            seconds[recipe] += run_pairwise(config, model, tokenizer, examples, padded=recipe == "padded")
        resident.append(_peak_rss_bytes())
    config, model, _, examples = prepared[task["recipes"][0]]
    return {
        "seconds": seconds,
        "pairs_per_step": config.training.effective_batch_pairs,
        "needed_flops": needed_flops(model, examples),
        "matmul_flops": max(peaks),
        "loaded_rss_bytes": resident[0],
        "peak_rss_bytes": resident[1],
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def _peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(
    recipes: Sequence[str],
    posts: list[dict[str, str]],
    criteria: int = 9,
    turns: int = 1,
    environment: Mapping[str, str] = {},
) -> dict[str, Any]:
    """`work` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder, "task.json"), Path(folder, "result.json")
        content = {"recipes": list(recipes), "posts": posts, "criteria": criteria, "turns": turns}
        task.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, __file__, "--task", str(task), "--result", str(result)]
        surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
        if done.returncode:
            sys.exit(f"{', '.join(recipes)} failed:\n{done.stderr[-3000:]}")
        return dict(json.loads(result.read_text(encoding="utf-8")))


def typical(run: Mapping[str, Any], recipe: str) -> float:
    """Median seconds of a recipe's steps, without the first, which compiles, where there are others."""
    seconds: list[float] = run["seconds"][recipe]
    return statistics.median(seconds[1:] or seconds)


def side_by_side(posts: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Ours as folds are trained fastest on a CPU: a process per core, all at once (docs/contracts/cli.md)."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        alone = {"OMP_NUM_THREADS": "1"}
        return list(pool.map(lambda _: measure(["ours"], posts, turns=TURNS, environment=alone), range(cores)))


def speed(runs: Sequence[Mapping[str, Any]]) -> float:
    """Pairs per second of ours in some processes at once."""
    return float(sum(run["pairs_per_step"] / typical(run, "ours") for run in runs))


def mfu(runs: Sequence[Mapping[str, Any]]) -> float:
    """Share of the matrix-product peak that ours reaches in some processes at once."""
    needed = sum(run["needed_flops"] / typical(run, "ours") for run in runs)
    return float(needed / sum(run["matmul_flops"] for run in runs))


def compare(steps: list[list[dict[str, str]]], variants: Sequence[str], turns: int, cores: bool) -> dict[str, Any]:
    """The usual recipes and ours, a round per step's posts; with `cores` also a process per core at once."""
    rounds = []
    for posts in steps:
        # A step of the usual recipes takes a minute, in which a first step's extra is lost; ours takes seconds, so that
        # its first one, with the compilation, is a warm-up.
        runs = {recipe: measure([recipe], posts) for recipe in USUAL}
        runs["ours"] = measure(variants, posts, turns=turns)
        seconds = {recipe: typical(runs[recipe], recipe) for recipe in USUAL}
        seconds |= {recipe: typical(runs["ours"], recipe) for recipe in variants}
        alone = side_by_side(posts) if cores else []
        print({recipe: round(value, 2) for recipe, value in seconds.items()}, flush=True)
        found = {
            "ratio_vs_padded": seconds["padded"] / seconds["ours"],
            "ratio_vs_dynamic": seconds["dynamic"] / seconds["ours"],
            "pairs_per_second": speed([runs["ours"]]),
            "mfu": mfu([runs["ours"]]),
            "dora_over_lora": seconds["ours"] / seconds["ours_lora"],
            "first_step_seconds": runs["ours"]["seconds"]["ours"][0],
        }
        if "ours_uncompiled" in seconds:
            found["compiled_over_uncompiled"] = seconds["ours"] / seconds["ours_uncompiled"]
        if alone:
            found |= {"side_by_side_pairs_per_second": speed(alone), "side_by_side_mfu": mfu(alone)}
        rounds.append({**found, "seconds_per_step": seconds, "runs": {**runs, "side_by_side": alone}})
    keys = [key for key, value in rounds[0].items() if isinstance(value, float)]
    recipes = rounds[0]["seconds_per_step"]
    return {
        **{key: statistics.median(one[key] for one in rounds) for key in keys},
        "peak_rss_bytes": {r: max(one["runs"][r]["peak_rss_bytes"] for one in rounds) for r in (*USUAL, "ours")},
        "seconds_per_step": {r: statistics.median(one["seconds_per_step"][r] for one in rounds) for r in recipes},
        "dtype": rounds[0]["runs"]["ours"]["dtype"],
        "threads": rounds[0]["runs"]["ours"]["threads"],
        "rounds": rounds,
    }


def grow(steps: list[list[dict[str, str]]]) -> list[dict[str, Any]]:
    """Seconds of an epoch of few posts against the number of posts and of criteria, ours and pair by pair."""
    rows = []
    for times, criteria in ((1, 9), (2, 9), (4, 9), (1, 18), (1, 38)):
        posts = [post for step in steps[:times] for post in step]
        row: dict[str, Any] = {"posts": len(posts), "criteria": criteria}
        for name, recipe in (("ours", "ours_uncompiled"), ("dynamic", "dynamic")):  # one epoch pays for no compilation
            row[name] = sum(measure([recipe], posts, criteria)["seconds"][recipe])
        rows.append(row)
        print(row, flush=True)
    return rows


def profile(recipe: str, posts: list[dict[str, str]]) -> dict[str, Any]:
    """Where a pass of ours spends its time, by kind of work, and the bound that its products set."""
    from torch._inductor import config as compiler
    from torch.profiler import profile as profiler

    from mentallam.classifier.packing import pack
    from mentallam.classifier.training import pair_loss

    compiler.cpp.enable_kernel_profile = True  # else all that is compiled has one name
    _, model, _, examples = prepare(recipe, posts, 9)
    batch: dict[str, Any] = dict(pack(examples))
    labels = batch.pop("labels")
    model.train()
    peaks, seconds = [], []
    for _ in range(8):  # the first is a warm-up
        peaks.append(matmul_flops(next(model.parameters()).dtype))
        start = time.perf_counter()
        pair_loss(model(**batch), labels).backward()
        seconds.append(time.perf_counter() - start)
    spent: dict[str, float] = {}
    with profiler(record_shapes=True) as profiled:
        pair_loss(model(**batch), labels).backward()
    for event in profiled.key_averages(group_by_input_shape=True):
        kind = _kind(event.key, event.input_shapes)
        spent[kind] = spent.get(kind, 0.0) + event.self_cpu_time_total / 1e6
    whole = sum(spent.values())
    mfu = needed_flops(model, examples) / statistics.median(seconds[1:]) / max(peaks)
    needed = spent["products with weights"] + spent["attention's products"]
    largest = dict(sorted(spent.items(), key=lambda item: -item[1])[:12])
    return {
        "tokens": batch["input_ids"].shape[1],
        "seconds": statistics.median(seconds[1:]),
        "seconds_profiled": whole,
        "mfu": mfu,
        "mfu_if_only_needed_products": mfu * whole / needed,
        "share": {name: share / whole for name, share in largest.items()},
        "rest_share": (whole - sum(largest.values())) / whole,
        "threads": torch.get_num_threads(),
    }


def _kind(operation: str, shapes: list[list[int]]) -> str:
    """What an operation is for; a product with an adapter's A or B has a side of its rank, 8."""
    if operation == "aten::bmm":
        return "attention's products"
    if operation in ("aten::mm", "aten::addmm", "aten::addmm_"):
        rank = min(side for shape in shapes if len(shape) == 2 for side in shape)
        return "products with adapters" if rank <= 8 else "products with weights"
    if "cpp_fused" in operation:
        return "compiled kernels"
    return "calls of what is compiled" if "Compiled" in operation or "TorchDynamo" in operation else operation


def table(result: dict[str, Any]) -> str:
    """The comparison in Markdown."""
    pairs = result["rounds"][0]["runs"]["ours"]["pairs_per_step"]
    lines = ["| recipe | seconds per step | pairs/s | peak MiB |", "| --- | --- | --- | --- |"]
    for recipe, seconds in result["seconds_per_step"].items():
        peak = result["peak_rss_bytes"].get(recipe)
        memory = f"{peak / 2**20:.0f}" if peak else ""
        lines.append(f"| {(USUAL | VARIANTS)[recipe]} | {seconds:.2f} | {pairs / seconds:.2f} | {memory} |")
    keys = [key for key, value in result.items() if isinstance(value, float)]
    return "\n".join([*lines, "", ", ".join(f"{key} {result[key]:.2f}" for key in keys)])


def main() -> None:
    """Measures and writes benchmarks/results/training.json (or training_quick, training_growth, training_profile).

    On a processor with AMX, whose products are several times as fast, the name ends in _amx.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of half as many posts, 3 minutes")
    parser.add_argument("--growth", action="store_true", help="time against posts and criteria instead")
    parser.add_argument("--profile", action="store_true", help="where the time of one of our passes goes instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        result = work(json.loads(arguments.task.read_text(encoding="utf-8")))
        arguments.result.write_text(json.dumps(result), encoding="utf-8")
        return

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mentallam.corpus.synthetic", "--out", folder, "--corpus", "twin"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        rounds = 1 if arguments.quick else 4 if arguments.growth else arguments.rounds
        steps = sample_posts(Path(folder), rounds, 2 if arguments.quick else POSTS_PER_STEP)
    RESULTS.mkdir(exist_ok=True)
    if arguments.growth:
        content: Any = {"growth": grow(steps)}
        name = "training_growth"
    elif arguments.profile:
        content = {recipe: profile(recipe, steps[0]) for recipe in VARIANTS}
        name = "training_profile"
        print(json.dumps(content, indent=2))
    else:
        variants, turns = (QUICK_VARIANTS, QUICK_TURNS) if arguments.quick else (list(VARIANTS), TURNS)
        content = compare(steps, variants, turns, cores=not (arguments.quick or on_gpu()))
        name = "training_quick" if arguments.quick else "training"
        print(table(content))
    name += "_amx" if torch.cpu._is_amx_tile_supported() else ""
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
