"""Memory and speed of batch inference by the number of posts: `python benchmarks/streaming.py`.

Each number has a process of its own, since a process never gives its peak back. The model is the one of the profile
tiny, untrained; the posts are invented sentences of 5 to 40 words, each asked one criterion.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from workload import CONFIGS, save_result

WORDS = ("I we you sleep work tired lake friend never often today night nothing eat walk think slow again why").split()  # noqa: SIM905


def write_posts(path: Path, n: int) -> None:
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(n):
            text = " ".join(draw.choices(WORDS, k=draw.randint(5, 40)))
            file.write(json.dumps({"post_id": f"p{number}", "text": text, "criterion_id": "A.4"}) + "\n")


def run(n: int, output_format: str) -> None:
    """Answer n posts, and print peak memory and speed as JSON."""
    from mentallam.batch_files import BatchFiles
    from mentallam.classifier.checkpoint import TrainedFold
    from mentallam.classifier.model import build_classifier
    from mentallam.classifier.progress import peak_memory
    from mentallam.classifier.prompts import Prompter
    from mentallam.classifier.weights import prepare_base_model
    from mentallam.config import compose_config
    from mentallam.evaluation.calibration import Calibration
    from mentallam.evaluation.decision import Decision, Thresholds
    from mentallam.serving.batch import OutputOptions, predict_files
    from mentallam.serving.predictor import Predictor
    from mentallam.serving.sources import find_sources

    config = compose_config(CONFIGS, "tiny")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_posts(folder / "posts.jsonl", n)
        base = prepare_base_model(config.model, folder / "base")
        model, tokenizer = build_classifier(base, config)
        prompter = Prompter(tokenizer, config.model.prompt, {"A.4": "Sleep problems."}, config.model.max_length)
        origin = {"run_id": "r", "cv_run_id": "c", "fold": 0, "data_hash": "d", "corpus": "none", "synthetic": True}
        fold = TrainedFold(model.eval(), prompter, config, base, Decision(Calibration(), Thresholds(0.5)), origin)
        before = peak_memory()["peak_rss_bytes"]
        options = OutputOptions(BatchFiles(folder / "out", output_format))  # type: ignore[arg-type]
        done = predict_files(
            Predictor([fold], config.inference.tokens_per_pass), find_sources(str(folder / "posts.jsonl")), options, {}
        )
        after = peak_memory()["peak_rss_bytes"]
        megabytes = sum(path.stat().st_size for path in (folder / "out").iterdir()) / 1e6
    found = {"posts": done.tally.posts, "peak_mib_before": before / 2**20, "peak_mib": after / 2**20}
    print(json.dumps({**found, "posts_per_second": n / done.seconds, "output_megabytes": megabytes}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", default="1000,10000,100000")
    parser.add_argument("--format", default="jsonl", choices=("jsonl", "parquet"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run(given.one, given.format)
        return
    rows = []
    for n in given.posts.split(","):
        command = [sys.executable, __file__, "--one", n, "--format", given.format]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    save_result(f"streaming_{given.format}", rows)


if __name__ == "__main__":
    main()
