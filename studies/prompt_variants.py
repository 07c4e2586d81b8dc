"""Variants of the prompt on a labelled part of a pairs corpus: quality on held-out posts, and cost.

All variants have the same posts, optimisation and effective batch; epoch and threshold come from the dev posts. A seed
decides the start of head and adapters and the order of the posts.

python studies/prompt_variants.py --corpus FOLDER [--train 300 --dev 60 --test 300] [--variants NAME ...] [--seeds 42]
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from study_files import BASE_MODELS, PROJECT, compose
from transformers import PreTrainedTokenizerBase, set_seed

from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training import train
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import Config, PromptConfig
from mentallam.evaluation.thresholds import best_threshold

SEED = 42
OVERRIDES = "training.max_epochs=1 training.effective_batch_pairs=24 training.tokens_per_pass=4096 model.max_length=320"

# A function from a post's id, text and labels by criterion id to its examples.
Examples = Callable[[str, str, dict[str, int]], list[PostExample]]


def post_first(prompter: Prompter) -> Examples:
    """Make examples with the project's prompt: the post once, followed by all criteria."""
    return lambda post_id, text, labels: [prompter.example(post_id, text, list(labels), list(labels.values()))]


def criterion_first(tokenizer: PreTrainedTokenizerBase, criteria: dict[str, str], config: Config) -> Examples:
    """Make examples with the criterion before the post: pairs share nothing, so each is a separate row."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])

    question = ids(config.model.prompt.suffix.partition("{criterion}")[2])

    def examples(post_id: str, text: str, labels: dict[str, int]) -> list[PostExample]:
        made = []
        for criterion, label in labels.items():
            before, post = ids(f"criterion: {criteria[criterion]}, post:"), ids(f" {text}")
            room = config.model.max_length - len(before) - len(question)
            made.append(PostExample(post_id, before + post[:room], len(post) > room, [criterion], [question], [label]))
        return made

    return examples


def variant(name: str, tokenizer: PreTrainedTokenizerBase, criteria: dict[str, str], config: Config) -> Examples:
    """Return the function that makes the examples of a variant."""
    prompt, length = config.model.prompt, config.model.max_length
    if name == "criterion first, full text":
        return criterion_first(tokenizer, criteria, config)
    if name == "question in the prefix":
        return post_first(Prompter(tokenizer, QUESTION_FIRST, criteria, length))
    if name == "post first, short name":
        return post_first(Prompter(tokenizer, prompt, {criterion: criterion for criterion in criteria}, length))
    return post_first(Prompter(tokenizer, prompt, criteria, length))


# The question once per post in place of once per criterion: the same words, in another order.
QUESTION_FIRST = PromptConfig(
    prefix="post: {post} Does the post match the following criterion? Output yes or no. criterion:",
    suffix=" {criterion}",
)

VARIANTS = (
    "post first, full text",
    "question in the prefix",
    "post first, short name",
    "criterion first, full text",
)


def run(
    name: str,
    config: Config,
    posts: dict[str, str],
    labels: dict[str, dict[str, int]],
    criteria: dict[str, str],
    parts: dict[str, list[str]],
    seed: int,
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.int64], float]:
    """Train one variant; return its figures, and the logits, labels and threshold on the test posts."""
    set_seed(seed)
    base = prepare_base_model(config.model, BASE_MODELS)
    model, tokenizer = build_classifier(base, config)
    make = variant(name, tokenizer, criteria, config)
    examples = {
        part: [example for post_id in ids for example in make(post_id, posts[post_id], labels[post_id])]
        for part, ids in parts.items()
    }
    start = time.perf_counter()
    with TemporaryDirectory() as states:
        train(model, examples["train"], examples["dev"], config.training, seed, lambda *_: None, Path(states), name)
    trained = time.perf_counter() - start
    start = time.perf_counter()
    logits = score_pairs(model, examples["test"], config.inference.tokens_per_pass, progress="test")
    scored = time.perf_counter() - start
    truth = np.array([label for example in examples["test"] for label in example.labels])
    chosen = np.array([label for example in examples["dev"] for label in example.labels])
    dev_logits = score_pairs(model, examples["dev"], config.inference.tokens_per_pass)
    threshold = best_threshold(chosen, sigmoid(dev_logits)).threshold
    predicted = sigmoid(logits) >= threshold
    tokens = sum(len(e.prefix) + sum(map(len, e.suffixes)) for e in examples["train"])
    figures = {
        "tokens_per_post": tokens / len(parts["train"]),
        "train_and_dev_seconds": trained,
        "test_seconds": scored,
        "micro_f1": float(f1_score(truth, predicted)),
        "roc_auc": float(roc_auc_score(truth, logits)),
        "average_precision": float(average_precision_score(truth, logits)),
    }
    return figures, logits, truth, threshold


def f1_difference(
    first: Sequence[NDArray[np.bool_]],
    second: Sequence[NDArray[np.bool_]],
    truth: NDArray[np.int64],
    post_of_pair: NDArray[np.int64],
) -> tuple[float, float]:
    """Return the 95 % interval of the mean difference in F1, second minus first, over seeds and posts.

    Each of 2,000 draws takes seeds, and posts, with replacement, the same for both (a paired bootstrap of two levels).

    Args:
        first: Predictions of the first variant, per seed.
        second: Those of the second, of the same seeds.
        truth: The labels.
        post_of_pair: The number of each pair's post.
    """
    random = np.random.default_rng(SEED)
    n_posts, n_seeds = int(post_of_pair.max()) + 1, len(first)
    differences = []
    for _ in range(2000):
        weight = np.bincount(random.integers(0, n_posts, n_posts), minlength=n_posts)[post_of_pair]
        drawn = random.integers(0, n_seeds, n_seeds)
        f1 = [
            np.mean([f1_score(truth, hits[seed], sample_weight=weight) for seed in drawn]) for hits in (first, second)
        ]
        differences.append(f1[1] - f1[0])
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Run the variants, print their figures and write studies/results/prompt_variants.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder with posts.csv, criteria.csv, groundtruth.csv"
    )
    for part, n_posts in (("train", 300), ("dev", 60), ("test", 300)):
        parser.add_argument(f"--{part}", type=int, default=n_posts, help=f"number of {part} posts (default {n_posts})")
    parser.add_argument("--variants", nargs="*", default=VARIANTS, choices=VARIANTS, help="default: all")
    parser.add_argument("--seeds", nargs="*", type=int, default=[SEED], help=f"seeds of the trainings (default {SEED})")
    parser.add_argument("--out", type=Path, default=PROJECT / "studies/results/prompt_variants.json")
    parser.add_argument("--overrides", default=OVERRIDES, help="Hydra overrides (default: %(default)s)")
    arguments = parser.parse_args()

    config = compose(arguments.overrides)
    posts = pd.read_csv(arguments.corpus / "posts.csv", dtype=str, keep_default_na=False)
    criteria = (
        pd.read_csv(arguments.corpus / "criteria.csv", dtype=str).set_index("criterion_id")["criterion"].to_dict()
    )
    truth = pd.read_csv(arguments.corpus / "groundtruth.csv", dtype={"post_id": str, "criterion_id": str})
    table = truth.pivot(index="post_id", columns="criterion_id", values="label")[list(criteria)]
    sizes = [arguments.train, arguments.dev, arguments.test]
    chosen = posts["post_id"].sample(sum(sizes), random_state=SEED).tolist()
    cuts = np.cumsum(sizes)
    parts = {"train": chosen[: cuts[0]], "dev": chosen[cuts[0] : cuts[1]], "test": chosen[cuts[1] :]}
    labels = {post_id: dict(zip(criteria, table.loc[post_id].astype(int), strict=True)) for post_id in chosen}
    text = dict(zip(posts["post_id"], posts["post"], strict=True))

    post_of_pair = np.repeat(np.arange(len(parts["test"])), len(criteria))
    results: dict[str, dict[str, Any]] = {}
    hits: dict[str, list[NDArray[np.bool_]]] = {}
    for seed, name in product(arguments.seeds, arguments.variants):  # seeds outside: after each, variants compare
        figures, logits, labels_of_pairs, threshold = run(name, config, text, labels, criteria, parts, seed)
        print(name, seed, json.dumps(figures), flush=True)
        hits.setdefault(name, []).append(sigmoid(logits) >= threshold)
        result = results.setdefault(name, {"by_seed": {}})
        result["by_seed"][str(seed)] = figures
        result |= {key: float(np.mean([each[key] for each in result["by_seed"].values()])) for key in figures}
        first = hits[arguments.variants[0]]
        if name != arguments.variants[0]:
            result["f1_minus_first_95"] = f1_difference(first, hits[name], labels_of_pairs, post_of_pair)
        arguments.out.parent.mkdir(exist_ok=True)
        content = {"posts": dict(zip(("train", "dev", "test"), sizes, strict=True)), "overrides": arguments.overrides}
        content["seeds"] = arguments.seeds
        arguments.out.write_text(json.dumps({**content, "variants": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
