"""Two small decisions, measured: the threshold's grid against every cut, and tokens made anew against tokens kept.

python studies/small_choices.py --posts FILE.csv
"""

import argparse
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import precision_recall_curve

from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import load_tokenizer
from mentallam.config import compose_config
from mentallam.corpus.schemas import wording_by_id
from mentallam.evaluation.thresholds import best_threshold

PROJECT = Path(__file__).resolve().parents[1]
ROUNDS = 7


def seconds(action: Callable[[], Any]) -> float:
    """Median of several rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        action()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def best_of_every_cut(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """The highest F1 of all possible thresholds."""
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def thresholds() -> None:
    """F1 at the best of 101 thresholds and at the best of all cuts, on invented scores of dev splits of three sizes."""
    print("| pairs | F1, grid of 0.01 | F1, every cut | grid, ms | every cut, ms |")
    print("| --- | --- | --- | --- | --- |")
    for n in (90, 1_000, 13_356):
        random = np.random.default_rng(0)
        labels = (random.random(n) < 0.097).astype(np.int64)
        scores = expit(random.normal(labels * 2.0 - 3.0, 1.0))

        grid = best_threshold(labels, scores).f1
        every = partial(best_of_every_cut, labels, scores)
        times = [1e3 * seconds(partial(best_threshold, labels, scores)), 1e3 * seconds(every)]
        print(f"| {n:,} | {grid:.4f} | {every():.4f} | {times[0]:.1f} | {times[1]:.1f} |")


def tokens(path: Path) -> None:
    """Time to tokenise all posts, and to read them back, with the size on disk."""
    config = compose_config(PROJECT / "hydra_configs", "smollm2")
    criteria = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv")
    posts = pd.read_csv(path, dtype=str, keep_default_na=False)
    text = dict(zip(posts["post_id"], posts.iloc[:, 1], strict=True))
    tokenizer = load_tokenizer(config.model, PROJECT / "data/06_models/base")
    wording = wording_by_id(criteria)
    prompter = Prompter(tokenizer, config.model.prompt, wording, config.model.max_length)

    def make() -> list[list[int]]:
        return [prompter.example(post_id, words).prefix for post_id, words in text.items()]

    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "tokens"
        cache.write_bytes(pickle.dumps(make()))
        made, read = seconds(make), seconds(lambda: pickle.loads(cache.read_bytes()))
        size = cache.stat().st_size / 2**20
    print(f"{len(text):,} posts: {made:.2f} s to tokenise, {read:.3f} s to read back, {size:.1f} MiB on disk")


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts", type=Path, required=True, help="CSV of posts, the text in its second column")
    thresholds()
    tokens(parser.parse_args().posts)


if __name__ == "__main__":
    main()
