"""One fold of SmolLM2 on short posts of the synthetic twin, trained in minutes; the other studies use it.

make twin && python studies/short_fold.py

A training post comes with its matched criteria and two others, so that a short training sees many posts. Dev and test
posts come with all criteria. The fold is saved as a checkpoint in data/studies/short_fold, with its test posts beside.
"""

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from study_files import BASE_MODELS, PROJECT, TWIN, compose

from mentallam.classifier.checkpoint import TrainedFold, save_checkpoint
from mentallam.classifier.fold import CorpusTables, fit_fold
from mentallam.classifier.frozen import frozen_states
from mentallam.classifier.weights import prepare_base_model
from mentallam.corpus.readers import Corpus, read_redsm5

SHORT_FOLD = PROJECT / "data/studies/short_fold"
TEST_POSTS = SHORT_FOLD.with_name("short_fold_test_posts.json")
SEED = 42
SIZES = {"train": 160, "dev": 24, "test": 80}
# The train posts have more matched pairs than the dev posts, so their loss can't pick the epoch, but their ranking can.
OVERRIDES = (
    "training=corpus adapter.top_layers=14 training.learning_rate=2e-3 training.adam_beta2=0.95 "
    "training.effective_batch_pairs=12 training.select_by=average_precision"
)
WORDS = (20, 80)
OTHER_CRITERIA = 2


def read_twin() -> Corpus:
    """Read the synthetic twin."""
    return read_redsm5(TWIN, PROJECT / "data/01_raw/dsm5_criteria.csv")


def draw_parts(posts: pd.DataFrame, words: tuple[int, int], sizes: Mapping[str, int]) -> dict[str, list[str]]:
    """Draw disjoint parts, each with so many posts, from those with a number of words in a range."""
    length = posts["text"].str.split().str.len()
    drawn = posts["post_id"][length.between(*words)].sample(sum(sizes.values()), random_state=SEED).tolist()
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name], start = drawn[start : start + size], start + size
    return parts


def thinned(pairs: pd.DataFrame, post_ids: Sequence[str], others: int = OTHER_CRITERIA) -> pd.DataFrame:
    """Keep, of the pairs of some posts, the matched ones and a few others of each post."""
    chosen = pairs["post_id"].isin(post_ids)
    unmatched = pairs[chosen & (pairs["label"] == 0)].sample(frac=1, random_state=SEED).groupby("post_id").head(others)
    kept = ~chosen | (pairs["label"] == 1) | pairs.index.isin(unmatched.index)
    return pairs[kept]


def train_fold(
    corpus: Corpus, pairs: pd.DataFrame, parts: Mapping[str, Sequence[str]], overrides: str, criteria: pd.DataFrame
) -> TrainedFold:
    """Train on the given pairs of the train posts, and fit the decision on those of the dev posts."""
    config = compose(overrides)
    base = prepare_base_model(config.model, BASE_MODELS)
    posts = corpus.posts[corpus.posts["post_id"].isin([*parts["train"], *parts["dev"]])]
    pairs = pairs[pairs["post_id"].isin(posts["post_id"])]
    tables = CorpusTables(posts, criteria, pairs, posts[["post_id"]].assign(group=posts["post_id"]))
    states = frozen_states(config, base, posts, criteria, pairs)
    split = {"fold": 0, "seed": SEED, "train": parts["train"], "dev": parts["dev"]}
    origin = {
        "run_id": "study",
        "cv_run_id": "study",
        "fold": 0,
        "seed": SEED,
        "training_seed": SEED,
        "folds_seed": SEED,
        "mask": False,
        "corpus": "short posts of the synthetic twin",
        "synthetic": True,
        "data_hash": "",
    }
    with tempfile.TemporaryDirectory() as folder:
        trained, _, _ = fit_fold(config, base, split, tables, states, origin, lambda *_: None, Path(folder) / "states")
    return trained


def main() -> None:
    """Train the fold and save it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overrides", default=OVERRIDES, help="Hydra overrides (default: %(default)s)")
    overrides = parser.parse_args().overrides
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    corpus = read_twin()
    parts = draw_parts(corpus.posts, WORDS, SIZES)
    started = time.perf_counter(), time.process_time()
    trained = train_fold(corpus, thinned(corpus.pairs, parts["train"]), parts, overrides, corpus.criteria)
    save_checkpoint(trained, SHORT_FOLD)
    TEST_POSTS.write_text(json.dumps(parts["test"]), encoding="utf-8")
    wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    print(f"trained in {wall:.0f} s ({cpu:.0f} s of CPU); saved in {SHORT_FOLD.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
