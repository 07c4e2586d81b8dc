"""How fast is training? The usual recipe padded and with dynamic padding, and ours; one optimizer step at a time.

Every recipe trains SmolLM2 with DoRA (r=8, seven projections) on the same posts of the synthetic twin, whose lengths
are ReDSM5's, with the same criteria, effective batch (4 posts x 9 criteria) and dtype. A round takes four posts, one of
each quartile of length, and runs each recipe on them in a process of its own, one recipe after the other; figures are
medians over rounds.

make bench-training [OPTIONS="--quick"]      python benchmarks/training.py [--quick | --growth | --profile]
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import torch

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "benchmarks/results"
SEED, POSTS_PER_STEP, MAX_LENGTH = 42, 4, 512
# Rows of a pass of the pairwise recipes: about as many tokens as ours has in one pass.
ROWS_PER_PASS = 4
RECIPES = {
    "padded": "Trainer + PEFT DoRA, a pair per row, padded to 512",
    "dynamic": "the same, dynamic padding, grouped by length",
    "ours": "shared prefix, fast DoRA, compiled",
    "ours_lora": "shared prefix, fast LoRA, compiled",
    "ours_uncompiled": "shared prefix, fast DoRA",
}


def sample_posts(folder: Path, steps: int) -> list[list[dict[str, str]]]:
    """Posts of the twin for some steps, drawn so that each step has one of each quartile of length."""
    posts = pd.read_csv(folder / "redsm5_posts.csv", dtype=str, keep_default_na=False)
    quartile = pd.qcut(posts["text"].str.split().str.len().rank(method="first"), POSTS_PER_STEP, labels=False)
    drawn = posts.groupby(quartile).sample(steps, random_state=SEED)
    step = drawn.groupby(quartile).cumcount()
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


def prepare(task: dict[str, Any]) -> tuple[Any, Any, Any, list[Any]]:
    """The configuration, the classifier, its tokenizer and the posts with labels that matter to nothing here."""
    from transformers import set_seed

    from mentallam.classifier.model import build_classifier
    from mentallam.classifier.prompts import Prompter
    from mentallam.classifier.weights import prepare_base_model
    from mentallam.config import compose_config

    recipe = task["recipe"]
    compiled = recipe in ("ours", "ours_lora")
    overrides = [f"adapter={'lora' if recipe.endswith('lora') else 'dora'}", f"model.max_length={MAX_LENGTH}"]
    overrides += [f"model.compile_on_{device}={compiled}" for device in ("cpu", "gpu")]
    overrides += [f"training.max_epochs={task['epochs']}", "training.patience=100"]
    pairs = POSTS_PER_STEP * task["criteria"]
    overrides += [f"training.effective_batch_pairs={pairs}", "training.tokens_per_pass=4096"]
    config = compose_config(PROJECT / "hydra_configs", "smollm2", " ".join(overrides))
    base = prepare_base_model(config.model, PROJECT / "data/06_models/base")
    set_seed(SEED)
    model, tokenizer = build_classifier(base, config)
    table = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv")
    wording = table["criterion"].tolist()
    criteria = {f"c{k}": wording[k % len(wording)] for k in range(task["criteria"])}
    prompter = Prompter(tokenizer, config.model.prompt, criteria, MAX_LENGTH)
    labels = [k % 2 for k in range(task["criteria"])]
    examples = [prompter.example(post["post_id"], post["text"], labels=labels) for post in task["posts"]]
    return config, model, tokenizer, examples


def run_ours(config: Any, model: Any, examples: list[Any]) -> list[float]:
    """Seconds of each optimizer step of the project's own training."""
    from mentallam.classifier.training import train

    seconds = []

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
            gradient_accumulation_steps=config.training.effective_batch_pairs // ROWS_PER_PASS,
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
    """One recipe in this process: seconds per step, and what its posts needed."""
    config, model, tokenizer, examples = prepare(task)
    dtype = next(model.parameters()).dtype
    resting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks = [matmul_flops(dtype)]
    if task["recipe"].startswith("ours"):
        seconds = run_ours(config, model, examples)
    else:
        seconds = run_pairwise(config, model, tokenizer, examples, padded=task["recipe"] == "padded")
    peaks.append(matmul_flops(dtype))
    return {
        "seconds": seconds,
        "pairs_per_step": config.training.effective_batch_pairs,
        "needed_flops": needed_flops(model, examples),
        "matmul_flops": max(peaks),
        "loaded_rss_bytes": resting * 1024,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }


def measure(
    recipe: str, posts: list[dict[str, str]], criteria: int = 9, epochs: int = 1, environment: Mapping[str, str] = {}
) -> dict[str, Any]:
    """`work` in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        task, result = Path(folder, "task.json"), Path(folder, "result.json")
        content = {"recipe": recipe, "posts": posts, "criteria": criteria, "epochs": epochs}
        task.write_text(json.dumps(content), encoding="utf-8")
        command = [sys.executable, __file__, "--task", str(task), "--result", str(result)]
        surroundings = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
        done = subprocess.run(command, capture_output=True, text=True, env=surroundings)
        if done.returncode:
            sys.exit(f"{recipe} failed:\n{done.stderr[-3000:]}")
        return dict(json.loads(result.read_text(encoding="utf-8")))


def side_by_side(posts: list[dict[str, str]]) -> dict[str, float]:
    """Ours as folds are trained fastest on a CPU: a process per core, all at once (docs/contracts/cli.md)."""
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool:
        alone = {"OMP_NUM_THREADS": "1"}
        runs = list(pool.map(lambda _: measure("ours", posts, epochs=4, environment=alone), range(cores)))
    seconds = [statistics.median(run["seconds"][1:]) for run in runs]
    flops = sum(run["needed_flops"] / own for run, own in zip(runs, seconds, strict=True))
    return {
        "side_by_side_pairs_per_second": sum(
            run["pairs_per_step"] / own for run, own in zip(runs, seconds, strict=True)
        ),
        "side_by_side_mfu": flops / sum(run["matmul_flops"] for run in runs),
    }


def compare(steps: list[list[dict[str, str]]], cores: bool) -> dict[str, Any]:
    """All recipes, round after round, a round per step's posts; with `cores` also a process per core at once."""
    rounds = []
    for posts in steps:
        runs, seconds = {}, {}
        for recipe in RECIPES:
            # A step of the slow recipes takes a minute, in which a first step's extra is lost; ours takes seconds, so
            # that its first one, with the compilation, is a warm-up and five others count.
            quick = recipe.startswith("ours")
            runs[recipe] = measure(recipe, posts, epochs=6 if quick else 1)
            seconds[recipe] = statistics.median(runs[recipe]["seconds"][1 if quick else 0 :])
            print(recipe, [round(one, 2) for one in runs[recipe]["seconds"]], flush=True)
        ours = runs["ours"]
        peak = statistics.median(run["matmul_flops"] for run in runs.values())
        rounds.append(
            {
                "ratio_vs_padded": seconds["padded"] / seconds["ours"],
                "ratio_vs_dynamic": seconds["dynamic"] / seconds["ours"],
                "pairs_per_second": ours["pairs_per_step"] / seconds["ours"],
                "mfu": ours["needed_flops"] / seconds["ours"] / peak,
                "dora_over_lora": seconds["ours"] / seconds["ours_lora"],
                "compiled_over_uncompiled": seconds["ours"] / seconds["ours_uncompiled"],
                "first_step_seconds": ours["seconds"][0],
                **(side_by_side(posts) if cores else {}),
                "seconds_per_step": seconds,
                "matmul_flops": peak,
                "runs": runs,
            }
        )
    keys = [key for key, value in rounds[0].items() if isinstance(value, float)]
    return {
        **{key: statistics.median(one[key] for one in rounds) for key in keys},
        "peak_rss_bytes": {r: max(one["runs"][r]["peak_rss_bytes"] for one in rounds) for r in RECIPES},
        "seconds_per_step": {r: statistics.median(one["seconds_per_step"][r] for one in rounds) for r in RECIPES},
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
            row[name] = sum(measure(recipe, posts, criteria)["seconds"])
        rows.append(row)
        print(row, flush=True)
    return rows


def profile(posts: list[dict[str, str]]) -> dict[str, Any]:
    """Where a pass of ours, uncompiled, spends its time, by operation, and the bound that its products set."""
    from torch.profiler import profile as profiler

    from mentallam.classifier.packing import pack
    from mentallam.classifier.training import pair_loss

    _, model, _, examples = prepare({"recipe": "ours_uncompiled", "posts": posts, "criteria": 9, "epochs": 1})
    batch: dict[str, Any] = dict(pack(examples))
    labels = batch.pop("labels")
    model.train()
    peaks, seconds = [], []
    for _ in range(4):  # the first is a warm-up
        peaks.append(matmul_flops(next(model.parameters()).dtype))
        start = time.perf_counter()
        pair_loss(model(**batch), labels).backward()
        seconds.append(time.perf_counter() - start)
    with profiler() as profiled:
        pair_loss(model(**batch), labels).backward()
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in profiled.key_averages()}
    whole = sum(spent.values())
    products = {name: spent.pop(name) for name in ("aten::mm", "aten::addmm_", "aten::bmm") if name in spent}
    largest = dict(sorted(spent.items(), key=lambda item: -item[1])[:12])
    mfu = needed_flops(model, examples) / statistics.median(seconds[1:]) / statistics.median(peaks)
    return {
        "tokens": batch["input_ids"].shape[1],
        "seconds": statistics.median(seconds[1:]),
        "mfu": mfu,
        "mfu_if_only_products": mfu * whole / sum(products.values()),
        "products_share": {name: share / whole for name, share in products.items()},
        "others_share": {name: share / whole for name, share in largest.items()},
        "rest_share": (sum(spent.values()) - sum(largest.values())) / whole,
        "threads": torch.get_num_threads(),
    }


def table(result: dict[str, Any]) -> str:
    """The comparison in Markdown."""
    lines = ["| recipe | seconds per step | pairs/s | peak MiB |", "| --- | --- | --- | --- |"]
    for recipe, seconds in result["seconds_per_step"].items():
        speed = result["rounds"][0]["runs"][recipe]["pairs_per_step"] / seconds
        memory = result["peak_rss_bytes"][recipe] / 2**20
        lines.append(f"| {RECIPES[recipe]} | {seconds:.2f} | {speed:.2f} | {memory:.0f} |")
    keys = [key for key, value in result.items() if isinstance(value, float) and key != "matmul_flops"]
    return "\n".join([*lines, "", ", ".join(f"{key} {result[key]:.2f}" for key in keys)])


def main() -> None:
    """Measures and writes benchmarks/results/training.json (or training_quick, training_growth, training_profile).

    On a processor with AMX, whose products are several times as fast, the name ends in _amx.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, about 5 minutes")
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
        steps = sample_posts(Path(folder), 4 if arguments.growth else arguments.rounds)
    RESULTS.mkdir(exist_ok=True)
    if arguments.growth:
        content: Any = {"growth": grow(steps)}
        name = "training_growth"
    elif arguments.profile:
        content, name = profile(steps[0]), "training_profile"
        print(json.dumps(content, indent=2))
    else:
        content = compare(steps[:1] if arguments.quick else steps, not (arguments.quick or torch.cuda.is_available()))
        name = "training_quick" if arguments.quick else "training"
        print(table(content))
    name += "_amx" if torch.cpu._is_amx_tile_supported() else ""
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
