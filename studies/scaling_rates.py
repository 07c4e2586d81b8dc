"""Rates beside the GPU, on one thread: posts tokenised, memory of an example, points that SQLite takes.

make twin && python studies/scaling_rates.py

scaling_model.py takes these figures. Seconds are the processor's, except for SQLite's, which waits for the disk.
"""

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path

import pandas as pd
from study_files import BASE_MODELS, TWIN, compose, read_wordings

from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import load_tokenizer

MAX_LENGTH = 512  # of MentaLLaMA
STEP_METRICS = ("loss", "grad_norm", "learning_rate", "epoch", "pairs_per_second")
STEPS = 300


def tokens() -> None:
    """Print how fast posts become examples, how long these are, and the memory that one takes."""
    config = compose(f"model.max_length={MAX_LENGTH}")
    tokenizer = load_tokenizer(config.model, BASE_MODELS)
    prompter = Prompter(tokenizer, config.model.prompt, read_wordings(), MAX_LENGTH)
    posts = pd.read_csv(TWIN / "redsm5_posts.csv", dtype=str, keep_default_na=False)

    def made() -> list[PostExample]:
        pairs = zip(posts["post_id"], posts["text"], strict=True)
        return [prompter.example(post_id, text, labels=[0] * 9) for post_id, text in pairs]

    began = time.process_time()
    examples = made()
    rate = len(examples) / (time.process_time() - began)
    prefix = sum(len(example.prefix) for example in examples) / len(examples)
    suffixes = [len(suffix) for suffix in examples[0].suffixes]
    del examples
    tracemalloc.start()
    examples = made()
    size = tracemalloc.get_traced_memory()[0] / len(examples)
    tracemalloc.stop()
    print(f"{rate:,.0f} posts/s tokenised; a prefix has {prefix:.0f} tokens, the suffixes {suffixes}")
    print(f"{size:,.0f} bytes of memory per example")


def points() -> None:
    """Print how fast a new SQLite database takes the metrics of steps, and its bytes per point."""
    import mlflow
    from mlflow.entities import Metric

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mlflow.db"
        client = mlflow.MlflowClient(f"sqlite:///{file}")
        experiment = client.create_experiment("rates", artifact_location=folder)
        run_id = client.create_run(experiment).info.run_id
        empty, began = file.stat().st_size, time.perf_counter()
        for step in range(STEPS):
            now = time.time_ns() // 1_000_000
            client.log_batch(run_id, metrics=[Metric(name, 1 / (step + 1), now, step) for name in STEP_METRICS])
        seconds = time.perf_counter() - began
        size = (file.stat().st_size - empty) / STEPS / len(STEP_METRICS)
    print(f"{1e3 * seconds / STEPS:.0f} ms for the {len(STEP_METRICS)} metrics of a step, {size:.0f} bytes per point")


def main() -> None:
    """Print the rates."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    tokens()
    points()


if __name__ == "__main__":
    main()
