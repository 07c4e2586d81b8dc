"""Which prompt? Three variants on a labelled slice of a pairs corpus: quality on held-out posts, and cost.

Every variant gets the same posts, seed, optimisation and effective batch; epoch and threshold come from the dev posts.

python studies/prompt_variants.py --corpus FOLDER [--train 300 --dev 60 --test 300] [--variants NAME ...]
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from transformers import PreTrainedTokenizerBase, set_seed

from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.training import train
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import Config, compose_config
from mentallam.evaluation.thresholds import best_threshold

PROJECT = Path(__file__).resolve().parents[1]
QUESTION = "Does the post match the criterion description? Output yes or no"
SEED = 42
OVERRIDES = "training.max_epochs=1 training.effective_batch_pairs=24 training.tokens_per_pass=4096 model.max_length=320"

# Makes the examples of one post: id, text, labels by criterion id.
Examples = Callable[[str, str, dict[str, int]], list[PostExample]]


def post_first(prompter: Prompter) -> Examples:
    """The project's own prompt: the post once, all criteria behind it."""
    return lambda post_id, text, labels: [prompter.example(post_id, text, list(labels), list(labels.values()))]


def criterion_first(tokenizer: PreTrainedTokenizerBase, criteria: dict[str, str], max_length: int) -> Examples:
    """The criterion before the post: nothing can be shared, so each pair is a row of its own."""

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])

    question = ids(f" {QUESTION}")

    def examples(post_id: str, text: str, labels: dict[str, int]) -> list[PostExample]:
        made = []
        for criterion, label in labels.items():
            before, post = ids(f"criterion: {criteria[criterion]}, post:"), ids(f" {text}")
            room = max_length - len(before) - len(question)
            made.append(PostExample(post_id, before + post[:room], len(post) > room, [criterion], [question], [label]))
        return made

    return examples


def variant(name: str, tokenizer: PreTrainedTokenizerBase, criteria: dict[str, str], config: Config) -> Examples:
    """The named variant's way to make examples."""
    prompt, length = config.model.prompt, config.model.max_length
    if name == "criterion first, full text":
        return criterion_first(tokenizer, criteria, length)
    if name == "post first, short name":
        return post_first(Prompter(tokenizer, prompt, {criterion: criterion for criterion in criteria}, length))
    return post_first(Prompter(tokenizer, prompt, criteria, length))


VARIANTS = (
    "post first, full text",
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
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.int64], float]:
    """Trains one variant; returns its figures, and the logits, labels and threshold on the test posts."""
    set_seed(SEED)
    base = prepare_base_model(config.model, PROJECT / "data/06_models/base")
    model, tokenizer = build_classifier(base, config)
    make = variant(name, tokenizer, criteria, config)
    examples = {
        part: [example for post_id in ids for example in make(post_id, posts[post_id], labels[post_id])]
        for part, ids in parts.items()
    }
    start = time.perf_counter()
    train(model, examples["train"], examples["dev"], config.training, SEED, lambda *_: None, title=name)
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
    logits: Sequence[NDArray[np.float64]],
    thresholds: Sequence[float],
    truth: NDArray[np.int64],
    post_of_pair: NDArray[np.int64],
) -> tuple[float, float]:
    """95 % interval of F1(second) - F1(first), by a paired bootstrap over posts (2,000 draws)."""
    random = np.random.default_rng(SEED)
    hits = [sigmoid(one) >= threshold for one, threshold in zip(logits, thresholds, strict=True)]
    n_posts = int(post_of_pair.max()) + 1
    differences = []
    for _ in range(2000):
        weight = np.bincount(random.integers(0, n_posts, n_posts), minlength=n_posts)[post_of_pair]
        first, second = (f1_score(truth, hit, sample_weight=weight) for hit in hits)
        differences.append(second - first)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Runs the variants and writes a table and studies/results/prompt_variants.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder with posts.csv, criteria.csv, groundtruth.csv"
    )
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--dev", type=int, default=60)
    parser.add_argument("--test", type=int, default=300)
    parser.add_argument("--variants", nargs="*", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--overrides", default=OVERRIDES)
    arguments = parser.parse_args()

    config = compose_config(PROJECT / "hydra_configs", "smollm2", arguments.overrides)
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

    results: dict[str, dict[str, object]] = {}
    first: tuple[NDArray[np.float64], float] | None = None
    for name in arguments.variants:
        figures, logits, labels_of_pairs, threshold = run(name, config, text, labels, criteria, parts)
        results[name] = dict(figures)
        if first is None:
            first = (logits, threshold)
        else:
            post_of_pair = np.repeat(np.arange(len(parts["test"])), len(criteria))
            results[name]["f1_minus_first_95"] = f1_difference(
                (first[0], logits), (first[1], threshold), labels_of_pairs, post_of_pair
            )
        print(name, json.dumps(results[name]), flush=True)
        out = PROJECT / "studies/results/prompt_variants.json"
        out.parent.mkdir(exist_ok=True)
        content = {"posts": dict(zip(("train", "dev", "test"), sizes, strict=True)), "overrides": arguments.overrides}
        out.write_text(json.dumps({**content, "variants": results}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
