"""Speed of training, one optimizer step at a time: the usual recipe, padded and with dynamic padding, and ours.

Every recipe trains SmolLM2 with DoRA (r=8, seven projections) on the same posts of the synthetic twin, whose lengths
are ReDSM5's, with the same criteria, effective batch (4 posts x 9 criteria) and dtype. A round takes four posts, one of
each quartile of length, and runs each recipe on them in a separate process, one after the other. Ours shares a process
with its variants. They differ little, so they take turns, and the matrix-product peak is measured before each turn:
other work on a shared machine then slows all of them alike. The figures are medians of rounds.

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
from workload import (
    BASE_MODELS,
    CONFIGS,
    CRITERIA,
    POSTS_PER_STEP,
    SEED,
    matmul_flops,
    needed_flops,
    sample_posts,
    save_result,
    use_usual_recipe,
)

from mentallam.device import on_gpu

MAX_LENGTH = 512
# With so many rows, a pass of the pairwise recipes has about as many tokens as one of ours.
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


def prepare(recipe: str, posts: list[dict[str, str]], n_criteria: int) -> tuple[Any, Any, Any, list[Any]]:
    """Return the configuration, the classifier, its tokenizer, and the posts with arbitrary labels."""
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
    config = compose_config(CONFIGS, "smollm2", " ".join(overrides))
    base = prepare_base_model(config.model, BASE_MODELS)
    set_seed(SEED)
    model, tokenizer = build_classifier(base, config)
    wordings = pd.read_csv(CRITERIA)["criterion"].tolist()
    criteria = {f"c{k}": wordings[k % len(wordings)] for k in range(n_criteria)}
    prompter = Prompter(tokenizer, config.model.prompt, criteria, MAX_LENGTH)
    labels = [k % 2 for k in range(n_criteria)]
    examples = [prompter.example(post["post_id"], post["text"], labels=labels) for post in posts]
    return config, model, tokenizer, examples


def run_ours(config: Any, model: Any, examples: list[Any]) -> list[float]:
    """Return the seconds of each optimizer step of one epoch of the project's training."""
    from mentallam.classifier.training import train

    seconds = []
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def as_after_a_step(module: Any, _: Any) -> None:
        """Discard DoRA's norms, which untimed scoring has computed, so that the first step computes them too."""
        if module.training:
            torch._foreach_add_(trained, 0.0)
            hook.remove()

    hook = model.register_forward_pre_hook(as_after_a_step)

    def log(metrics: dict[str, float], step: int) -> None:
        if "pairs_per_second" in metrics:
            seconds.append(config.training.effective_batch_pairs / metrics["pairs_per_second"])

    with tempfile.TemporaryDirectory() as states:
        train(model, examples, examples[:1], config.training, SEED, log, Path(states))
    return seconds


def run_pairwise(config: Any, model: Any, tokenizer: Any, examples: list[Any], padded: bool) -> list[float]:
    """Return the seconds of each optimizer step of transformers' Trainer on one pair per row."""
    from transformers import DataCollatorWithPadding, Trainer, TrainerCallback, TrainingArguments

    use_usual_recipe(model)
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
    """Measure recipes in this process, which take turns of one epoch: seconds per step, FLOPs and memory.

    The memory peak is taken before a second recipe is loaded, so it is the first recipe's.
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
    """Run `work` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder, "task.json"), Path(folder, "result.json")
        content = {"recipes": list(recipes), "posts": posts, "criteria": criteria, "turns": turns}
        task.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, __file__, "--task", str(task), "--result", str(result)]
        variables = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        if done.returncode:
            sys.exit(f"{', '.join(recipes)} failed:\n{done.stderr[-3000:]}")
        return dict(json.loads(result.read_text(encoding="utf-8")))


def typical(run: Mapping[str, Any], recipe: str) -> float:
    """Return the median seconds of a recipe's steps, without the first, which compiles, if there are others."""
    seconds: list[float] = run["seconds"][recipe]
    return statistics.median(seconds[1:] or seconds)


def side_by_side(posts: list[dict[str, str]]) -> list[dict[str, Any]]:
    """Measure ours as folds train fastest on a CPU: a process per core, all at once (docs/contracts/cli.md)."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        one_thread = {"OMP_NUM_THREADS": "1"}
        return list(pool.map(lambda _: measure(["ours"], posts, turns=TURNS, environment=one_thread), range(cores)))


def speed(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the pairs per second of ours in simultaneous processes."""
    return float(sum(run["pairs_per_step"] / typical(run, "ours") for run in runs))


def mfu(runs: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of the matrix-product peak that ours reaches in simultaneous processes."""
    needed = sum(run["needed_flops"] / typical(run, "ours") for run in runs)
    return float(needed / sum(run["matmul_flops"] for run in runs))


def compare(steps: list[list[dict[str, str]]], variants: Sequence[str], turns: int, cores: bool) -> dict[str, Any]:
    """Compare the usual recipes with ours, one round per step's posts; with `cores` also a process per core."""
    rounds = []
    for posts in steps:
        # A step of the usual recipes takes a minute, so the first step's overhead is negligible. Ours takes seconds, so
        # its first step, which compiles, is a warm-up.
        runs = {recipe: measure([recipe], posts) for recipe in USUAL}
        runs["ours"] = measure(variants, posts, turns=turns)
        seconds = {recipe: typical(runs[recipe], recipe) for recipe in USUAL}
        seconds |= {recipe: typical(runs["ours"], recipe) for recipe in variants}
        simultaneous = side_by_side(posts) if cores else []
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
        if simultaneous:
            found |= {"side_by_side_pairs_per_second": speed(simultaneous), "side_by_side_mfu": mfu(simultaneous)}
        rounds.append({**found, "seconds_per_step": seconds, "runs": {**runs, "side_by_side": simultaneous}})
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
    """Measure the seconds of an epoch for several numbers of posts and criteria, ours and pair by pair."""
    rows = []
    for times, criteria in ((1, 9), (2, 9), (4, 9), (1, 18), (1, 38)):
        posts = [post for step in steps[:times] for post in step]
        row: dict[str, Any] = {"posts": len(posts), "criteria": criteria}
        for name, recipe in (
            ("ours", "ours_uncompiled"),
            ("dynamic", "dynamic"),
        ):  # compiling costs more than one epoch saves
            row[name] = sum(measure([recipe], posts, criteria)["seconds"][recipe])
        rows.append(row)
        print(row, flush=True)
    return rows


def profile(recipe: str, posts: list[dict[str, str]]) -> dict[str, Any]:
    """Measure how a pass of ours spends its time, by kind of work, and the bound that its products set."""
    from torch._inductor import config as compiler
    from torch.profiler import profile as profiler

    from mentallam.classifier.gradients import pair_loss
    from mentallam.classifier.packing import pack

    compiler.cpp.enable_kernel_profile = True  # otherwise all compiled kernels have one name
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
    """Return what an operation is for; a product with an adapter's A or B has a side of the rank, 8."""
    if operation == "aten::bmm":
        return "attention's products"
    if operation in ("aten::mm", "aten::addmm", "aten::addmm_"):
        rank = min(side for shape in shapes if len(shape) == 2 for side in shape)
        return "products with adapters" if rank <= 8 else "products with weights"
    if "cpp_fused" in operation:
        return "compiled kernels"
    return "calls of what is compiled" if "Compiled" in operation or "TorchDynamo" in operation else operation


def table(result: dict[str, Any]) -> str:
    """Return the comparison in Markdown."""
    pairs = result["rounds"][0]["runs"]["ours"]["pairs_per_step"]
    lines = ["| recipe | seconds per step | pairs/s | peak MiB |", "| --- | --- | --- | --- |"]
    for recipe, seconds in result["seconds_per_step"].items():
        peak = result["peak_rss_bytes"].get(recipe)
        memory = f"{peak / 2**20:.0f}" if peak else ""
        lines.append(f"| {(USUAL | VARIANTS)[recipe]} | {seconds:.2f} | {pairs / seconds:.2f} | {memory} |")
    keys = [key for key, value in result.items() if isinstance(value, float)]
    return "\n".join([*lines, "", ", ".join(f"{key} {result[key]:.2f}" for key in keys)])


def main() -> None:
    """Measure and write benchmarks/results/training.json (or training_quick, training_growth, training_profile).

    On a processor with AMX, whose products are several times as fast, the name ends in _amx.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round with half as many posts, 3 minutes")
    parser.add_argument("--growth", action="store_true", help="measure time against posts and criteria instead")
    parser.add_argument("--profile", action="store_true", help="measure how one of our passes spends its time instead")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the comparison (default 3)")
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
    save_result(name, content)


if __name__ == "__main__":
    main()
