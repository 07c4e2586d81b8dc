"""Time, memory and cost of MentaLLaMA-7B on 1 to 8 GPUs, calculated from the measured points of docs/performance.md.

Prints the tables of docs/scaling.md. Only the column `measured` of the check was measured; all else is calculated.

python studies/scaling_model.py [--price H100=2.5] [--memory]
"""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from step_flops import LLAMA_7B, SMOLLM2, Post, prediction_flops, training_flops
from study_files import PROJECT, read_wordings

FOLDS, CRITERIA, POSTS_PER_STEP = 5, 9, 4  # 32 pairs a step are 4 posts (hydra_configs/training/plan.yaml)
TRAIN, DEV, HELD_OUT = 0.64, 0.16, 0.20  # shares of the posts in a fold
TOKENS_PER_PASS = 8192  # hydra_configs/inference/mentallam.yaml
# To start, and the first step, which compiles: docs/performance.md, Several folds on one GPU (7B alone: 101 s).
START_SECONDS = 45 + 102


class Gpu(NamedTuple):
    """A GPU: dense bfloat16 peak and memory of its data sheet, dollars an hour on demand.

    docs/scaling.md, The model, has the source and date of each.
    """

    name: str
    peak: float
    gigabytes: int
    dollars: float


GPUS = [
    Gpu("A100 80 GB", 312e12, 80, 3.43),
    Gpu("H100 80 GB", 989e12, 80, 6.88),
    Gpu("H200 141 GB", 989e12, 141, 7.91),
]
H100 = GPUS[1]
MEASURED_PEAK = 773e12  # of one H100: docs/performance.md, Speed


class GpuStep(NamedTuple):
    """A measured step of the 7B shape, compiled, one H100: docs/performance.md, Speed."""

    prefixes: tuple[int, ...]
    tokens: int
    seconds: float
    share: float

    @property
    def posts(self) -> list[Post]:
        return spread(self.prefixes, self.tokens)


FOUR = (120, 250, 380, 480)  # benchmarks/gpu_step.py
TEN = (*FOUR, 400, 350, 500, 300, 200, 480)
DORA = [GpuStep(FOUR, 2093, 0.221, 0.32), GpuStep(TEN, 5647, 0.424, 0.45)]
LORA = [GpuStep(FOUR, 2093, 0.178, 0.40), GpuStep(TEN, 5647, 0.351, 0.55)]
# A forward without the compiler, on the same GPU: the processor starts kernels for half of an uncompiled step, and the
# GPU works for half of its 254 ms at 2,093 tokens (docs/performance-notes.md, On a GPU).
LAUNCH_SECONDS, GPU_SECONDS_PER_TOKEN = 0.909 / 2, 0.254 / 2 / 2093

# The twin with SmolLM2's tokenizer, posts cut to 512 tokens a pair: means. Llama 2's is not in the project.
SUFFIXES = (25, 20, 24, 25, 25, 21, 23, 21, 23)
MEAN_POST = Post(237, SUFFIXES)
TOKENS_PER_WORD = 1.18
# The prefixes of the first four steps of benchmarks/training.py, one post of each quartile of length.
TWIN_STEPS = [(51, 160, 252, 487), (79, 136, 249, 487), (44, 170, 386, 487), (53, 95, 288, 487)]

# Measured by scaling_rates.py and benchmarks/streaming.py on one busy thread (docs/scaling.md, Beside the GPU).
TOKENISED_PER_SECOND, BYTES_PER_EXAMPLE = 704, 9_057
JSONL_BYTES, PARQUET_BYTES = 208, 16  # a pair
METRICS_PER_STEP, METRIC_BYTES = 5, 259
# docs/performance.md, Data processing at scale: seconds of a processor and MiB, by number of twins.
PROCESSING = {1: (18.9, 865), 10: (40.0, 1016), 100: (229.7, 2119)}
TWIN_POSTS = 1484


class Line(NamedTuple):
    """A straight line through two measured points: a fixed part, and FLOPs at a share of the peak."""

    fixed: float
    share: float

    def seconds(self, flops: float, peak: float = MEASURED_PEAK) -> float:
        return self.fixed + flops / (self.share * peak)


def fit(first: tuple[float, float], second: tuple[float, float], peak: float = MEASURED_PEAK) -> Line:
    """Return the line through two points, each FLOPs and seconds."""
    per_flop = (second[1] - first[1]) / (second[0] - first[0])
    return Line(first[1] - first[0] * per_flop, 1 / (per_flop * peak))


def spread(prefixes: Sequence[int], tokens: int) -> list[Post]:
    """Return posts with nine suffixes each, as equal as they can be, that have so many tokens together."""
    pairs = len(prefixes) * CRITERIA
    length, longer = divmod(tokens - sum(prefixes), pairs)
    lengths = [length + (number < longer) for number in range(pairs)]
    return [
        Post(prefix, tuple(lengths[number * CRITERIA : (number + 1) * CRITERIA]))
        for number, prefix in enumerate(prefixes)
    ]


def needed(step: GpuStep) -> float:
    return training_flops(LLAMA_7B, step.posts).needed


def line_of(steps: Sequence[GpuStep]) -> Line:
    first, second = steps
    return fit((needed(first), first.seconds), (needed(second), second.seconds))


def peak_of(gpu: Gpu) -> float:
    """Return the peak of a matrix product, if each GPU reaches the measured H100's share of its data sheet."""
    return gpu.peak * MEASURED_PEAK / H100.peak


def step_seconds(gpu: Gpu, posts: Sequence[Post], checkpointing: bool) -> float:
    """Return the seconds of a compiled DoRA step; checkpointing runs one more forward, the fixed part's, too."""
    line = line_of(DORA)
    flops = training_flops(LLAMA_7B, posts, checkpointing=checkpointing)
    seconds = line.seconds(flops.needed + flops.recomputed, peak_of(gpu))
    return seconds + (line.fixed / 3 if checkpointing else 0)


def posts_per_second(gpu: Gpu, compiled: bool = False) -> float:
    """Return the posts that a merged model answers with nine criteria in passes of `TOKENS_PER_PASS`."""
    posts = TOKENS_PER_PASS / MEAN_POST.tokens
    if compiled:
        line = line_of(DORA)
        flops = prediction_flops(LLAMA_7B, [MEAN_POST]).needed * posts
        return posts / Line(line.fixed / 3, line.share).seconds(flops, peak_of(gpu))
    work = GPU_SECONDS_PER_TOKEN * TOKENS_PER_PASS * H100.peak / gpu.peak
    return posts / max(LAUNCH_SECONDS, work)


def fold_hours(gpu: Gpu, pairs: float, epochs: int, checkpointing: bool = True) -> float:
    """Return the hours of one fold: its start, its steps, the dev posts after each epoch, the held-out posts."""
    posts = pairs / CRITERIA
    steps = TRAIN * posts / POSTS_PER_STEP * epochs
    scored = (DEV * epochs + HELD_OUT) * posts
    training = steps * step_seconds(gpu, [MEAN_POST] * POSTS_PER_STEP, checkpointing)
    return (START_SECONDS + training + scored / posts_per_second(gpu)) / 3600


class Check(NamedTuple):
    """A measurement, what the model says of it, and from which other measurements it says so."""

    what: str
    anchored: str
    predicted: float
    measured: float
    unit: str


def checks() -> Iterator[Check]:
    """Yield every measurement of docs/performance*.md that the model can be compared with and was not fitted to."""
    yield from gpu_checks()
    yield from cpu_checks()
    state = 4 * 4 * LLAMA_7B.trained / 1e6  # weights, best weights, two moments, float32
    yield Check("7B: a training state", "four float32 per trained parameter", state, 342, "MB")
    (one, low), (ten, high), (hundred, most) = PROCESSING.values()
    yield Check("data processing, 100 twins", "1 and 10 twins", one + 99 * (ten - one) / 9, hundred, "s")
    yield Check("its peak memory", "1 and 10 twins", low + 99 * (high - low) / 9, most, "MiB")


def gpu_checks() -> Iterator[Check]:
    for name, steps in (("DoRA", DORA), ("LoRA", LORA)):
        for step in steps:
            share = needed(step) / step.seconds / MEASURED_PEAK
            what = f"7B, H100, {name}, {step.tokens:,} tokens: share of the peak"
            yield Check(what, "its seconds and the FLOPs", share, step.share, "")
    four, ten = DORA
    as_lora = line_of(LORA).seconds(needed(ten)) * four.seconds / LORA[0].seconds
    yield Check("7B, H100, DoRA, 5,647 tokens", "LoRA's line, DoRA's 2,093 tokens", 1e3 * as_lora, 424, "ms")
    constant = four.seconds * needed(ten) / needed(four)
    yield Check("the same", "the share of the peak at 2,093 tokens", 1e3 * constant, 424, "ms")
    # 950 posts in 8 epochs at 125 to 131 pairs/s, and 237 dev posts, of which a score takes half as long as a step
    # (docs/performance.md, Several folds on one GPU).
    minutes = (START_SECONDS + 8 * CRITERIA * (950 + 237 / 2) / 128) / 60
    yield Check("SmolLM2, H100, a fold of five at once", "its own rate in training", minutes, 11.85, "min")
    line, batch = line_of(DORA), [Post(329, SUFFIXES)] * POSTS_PER_STEP
    together = FOLDS * line.seconds(training_flops(SMOLLM2, batch).needed)
    yield Check("its step", "7B's line, five processes that take turns", 1e3 * together, 1e3 * 36 / 128, "ms")


def cpu_checks() -> Iterator[Check]:
    # docs/performance.md, More posts or more criteria: seconds of an epoch by posts and criteria.
    epochs = {(4, 9): 8.0, (8, 9): 13.8, (16, 9): 20.6, (4, 18): 9.4, (4, 38): 16.8}
    flops = {size: epoch_flops(*size) for size in epochs}
    ends = [(flops[size], epochs[size]) for size in ((4, 9), (16, 9))]
    line = fit(ends[0], ends[1])
    for posts, criteria in ((8, 9), (4, 18), (4, 38)):
        what = f"SmolLM2, 2 cores, an epoch of {posts} posts, {criteria} criteria"
        predicted, measured = line.seconds(flops[posts, criteria]), epochs[posts, criteria]
        yield Check(what, "4 and 16 posts, 9 criteria", predicted, measured, "s")
    step = [Post(prefix, SUFFIXES) for prefix in TWIN_STEPS[0]]
    every = training_flops(SMOLLM2, step).needed
    for what, kept, seconds in (("upper 14 layers", False, 3.56), ("upper 14, states kept", True, 2.34)):
        upper = training_flops(SMOLLM2, step, trained_layers=14, states_kept=kept).needed
        yield Check(f"SmolLM2, 2 cores, a step of {what}", "all layers", 5.26 * upper / every, seconds, "s")
    yield Check("SmolLM2, a step on 2 cores with AMX", "share 0.48 of the peak", every / (0.48 * 2.69e12), 2.72, "s")
    rate = prediction_flops(SMOLLM2, [Post(256, SUFFIXES)]).needed / 0.211  # docs/performance.md, Prediction on a CPU
    one = prediction_flops(SMOLLM2, [Post(256, SUFFIXES[:1])]).needed
    yield Check("SmolLM2, 2 cores, one criterion", "nine criteria, 211 ms", 1e3 * one / rate, 173, "ms")
    batch = prediction_flops(SMOLLM2, [Post(round(300 * TOKENS_PER_WORD), SUFFIXES)]).needed
    yield Check("SmolLM2, 2 cores, a batch of 300 words a post", "the same", rate / batch, 3.3, "posts/s")
    short = prediction_flops(LLAMA_7B, [Post(round(30 * TOKENS_PER_WORD), SUFFIXES)]).needed
    yield Check("7B, 2 cores, one post of 30 words", "SmolLM2's rate", short / rate, 22, "s")


def epoch_flops(posts: int, criteria: int) -> float:
    """Return the FLOPs of an epoch of benchmarks/training.py --growth; with more criteria the wordings repeat."""
    suffixes = tuple(SUFFIXES[number % CRITERIA] for number in range(criteria))
    steps = TWIN_STEPS[: posts // POSTS_PER_STEP]
    return sum(training_flops(SMOLLM2, [Post(prefix, suffixes) for prefix in step]).needed for step in steps)


def table(head: str, rows: Iterator[str]) -> None:
    print(f"\n| {head} |\n|{' --- |' * (head.count('|') + 1)}")
    for row in rows:
        print(f"| {row} |")


def figure(value: float) -> str:
    """Write a number with three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def check_rows() -> Iterator[str]:
    for check in checks():
        ratio = check.predicted / check.measured
        numbers = f"{figure(check.predicted)} | {figure(check.measured)} {check.unit}".rstrip()
        yield f"{check.what} | {check.anchored} | {numbers} | {ratio:.2f}"


def step_rows() -> Iterator[str]:
    posts = [MEAN_POST] * POSTS_PER_STEP
    for checkpointing in (True, False):
        flops = training_flops(LLAMA_7B, posts, checkpointing)
        times = " | ".join(f"{1e3 * step_seconds(gpu, posts, checkpointing):.0f}" for gpu in GPUS)
        name = "checkpointing (as configured)" if checkpointing else "all activations"
        yield f"{name} | {flops.needed / 1e12:.1f} | {flops.recomputed / 1e12:.1f} | {times}"


TRAININGS = ((13_356, 25), (1_000_000, 5), (100_000_000, 1))
"""Pairs and epochs, which are assumed; `training.patience` (20) alone takes 20 epochs after the best."""


def training_rows() -> Iterator[str]:
    for pairs, epochs in TRAININGS:
        for gpu in GPUS:
            fold = fold_hours(gpu, pairs, epochs)
            studies = " | ".join(figure(-(-FOLDS // gpus) * fold) for gpus in (1, 2, 3, 5))
            yield f"{pairs:,} | {epochs} | {gpu.name} | {studies} | {figure(FOLDS * fold * gpu.dollars)}"


def prediction_rows() -> Iterator[str]:
    for posts in (10**6, 10**8, 10**9):
        for gpu in GPUS:
            hours = posts / posts_per_second(gpu) / 3600
            spent = " | ".join(figure(hours / gpus) for gpus in (1, 2, 4, 8))
            yield f"{posts:,} | {gpu.name} | {posts_per_second(gpu):.0f} | {spent} | {figure(hours * gpu.dollars)}"


def around_rows() -> Iterator[str]:
    """Yield what else a training of each size takes: the processor, memory, the tracking store."""
    (one, low), (hundred, most) = PROCESSING[1], PROCESSING[100]
    for pairs, epochs in TRAININGS:
        posts = pairs / CRITERIA
        twins = posts / TWIN_POSTS
        seconds, mib = one + (twins - 1) * (hundred - one) / 99, low + (twins - 1) * (most - low) / 99
        rows = TRAIN * posts / POSTS_PER_STEP * epochs * FOLDS * METRICS_PER_STEP
        examples = (TRAIN + DEV) * posts * BYTES_PER_EXAMPLE / 1e9
        yield (
            f"{pairs:,} | {figure(seconds / 3600)} | {figure(mib * 2**20 / 1e9)} | "
            f"{figure(posts / TOKENISED_PER_SECOND / 3600)} | {figure(examples)} | "
            f"{rows:,.0f} | {figure(rows * METRIC_BYTES / 1e9)}"
        )


def output_rows() -> Iterator[str]:
    for posts in (10**6, 10**8, 10**9):
        pairs = posts * CRITERIA
        hours = posts / TOKENISED_PER_SECOND / 3600
        sizes = " | ".join(figure(pairs * size / 1e9) for size in (JSONL_BYTES, PARQUET_BYTES))
        yield f"{posts:,} | {sizes} | {figure(hours)}"


def memory_rows() -> Iterator[str]:
    """Yield what memory_plan counts for a step, and how many folds of that size fit on each GPU."""
    from mentallam.classifier.memory import ALLOWANCE, GB, plan_memory, step_name
    from mentallam.config import compose_config

    config = compose_config(PROJECT / "hydra_configs", "mentallam", "")
    warnings.simplefilter("ignore")
    plan = plan_memory(config, Path("no-weights"), read_wordings())
    for step in plan["steps"]:
        size = step["total"] * (1 + ALLOWANCE) / GB
        folds = " | ".join(str(int(gpu.gigabytes // size)) for gpu in GPUS)
        yield f"{step_name(step)} | {step['total'] / GB:.1f} | {size:.1f} | {folds}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--price", action="append", default=[], metavar="GPU=DOLLARS", help="another price an hour")
    parser.add_argument("--memory", action="store_true", help="also count a step's memory, which takes half a minute")
    arguments = parser.parse_args()
    for price in arguments.price:
        name, _, dollars = price.partition("=")
        GPUS[:] = [gpu._replace(dollars=float(dollars)) if gpu.name.startswith(name) else gpu for gpu in GPUS]
    names = " | ".join(gpu.name for gpu in GPUS)
    inputs = (f"{gpu.name} | {gpu.peak / 1e12:.0f} | {gpu.gigabytes} | {gpu.dollars:.2f}" for gpu in GPUS)
    table("GPU | dense bfloat16, TFLOP/s | GB | dollars an hour", inputs)
    print()
    for title, steps in (("DoRA", DORA), ("LoRA", LORA)):
        line = line_of(steps)
        print(
            f"{title}, compiled, one H100: {1e3 * line.fixed:.0f} ms a step, and FLOPs at {line.share:.2f} of the peak"
        )
    table("measurement | predicted from | predicted | measured | ratio", check_rows())
    table(f"a step of 4 posts | needed TFLOP | recomputed | {names}", step_rows())
    table("pairs | epochs | GPU | hours on 1 GPU | 2 | 3 or 4 | 5 to 8 | dollars", training_rows())
    table("posts | GPU | posts/s | hours on 1 GPU | 2 | 4 | 8 | dollars", prediction_rows())
    compiled = ", ".join(f"{gpu.name} {posts_per_second(gpu, compiled=True):.0f}" for gpu in GPUS)
    print(f"\nIf predictions ran compiled, posts/s: {compiled}")
    table("pairs | data processing, hours | GB | tokens, hours | examples, GB a fold | metric rows | GB", around_rows())
    table("posts | JSONL, GB | Parquet, GB | tokens, hours of one core", output_rows())
    if arguments.memory:
        table(f"a step | counted GB | with 20 % | folds at once: {names}", memory_rows())


if __name__ == "__main__":
    main()
