"""Cost of saving training states: megabytes, seconds, and the share of a training's time.

python benchmarks/training_states.py            the default profile (SmolLM2) on posts of the sample
python benchmarks/training_states.py --shape-7b random tensors of a DoRA adapter on Llama 2 7B, and its optimizer's
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from workload import BASE_MODELS, CONFIGS, SEED

from mentallam.classifier import training
from mentallam.classifier.training_states import newest_state, save_state
from mentallam.config import compose_config

HIDDEN, INNER, LAYERS, RANK = 4096, 11008, 32, 8  # Llama 2 7B; seven projections a layer
PROJECTIONS = [(HIDDEN, HIDDEN)] * 4 + [(HIDDEN, INNER)] * 2 + [(INNER, HIDDEN)]


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def shape_7b(folder: Path) -> None:
    weights = {"score": torch.randn(2, HIDDEN)}
    for layer in range(LAYERS):
        for number, (inputs, outputs) in enumerate(PROJECTIONS):
            shapes = {"lora_A": (RANK, inputs), "lora_B": (outputs, RANK), "magnitude": (outputs,)}
            weights |= {f"{layer}.{number}.{name}": torch.randn(shape) for name, shape in shapes.items()}
    names = ("exp_avg", "exp_avg_sq")
    moments = {f"{number}/{name}": w.clone() for number, w in enumerate(weights.values()) for name in names}
    tensors = {"weights": weights, "best": weights, "optimizer": moments, "rng": {"cpu": torch.get_rng_state()}}
    parameters = sum(weight.numel() for weight in weights.values())
    writing, reading = [], []
    for step in range(1, 6):
        began = time.perf_counter()
        save_state(folder, step, {}, "{}", tensors)
        saved = time.perf_counter()
        newest_state(folder, "7B")
        writing.append(saved - began)
        reading.append(time.perf_counter() - saved)
    print(f"{parameters / 1e6:.1f} million trained parameters, {megabytes(folder):.0f} MB a state")
    for name, seconds in (("write", writing), ("find and verify", reading)):
        print(f"{name}: median {statistics.median(seconds):.2f} s, longest {max(seconds):.2f} s of {len(seconds)}")


def default_profile(folder: Path, n_posts: int, epochs: int) -> None:
    import pandas as pd
    from transformers import set_seed

    from mentallam.classifier.model import build_classifier
    from mentallam.classifier.prompts import Prompter
    from mentallam.classifier.weights import prepare_base_model

    config = compose_config(CONFIGS, "smollm2", f"training.max_epochs={epochs}")
    set_seed(SEED)
    model, tokenizer = build_classifier(prepare_base_model(config.model, BASE_MODELS), config)
    raw = CONFIGS.parent / "data" / "01_raw"
    criteria = pd.read_csv(raw / "dsm5_criteria.csv").iloc[:, 1].tolist()
    prompter = Prompter(tokenizer, config.model.prompt, {f"c{k}": text for k, text in enumerate(criteria)}, 512)
    texts = pd.read_csv(raw / "sample" / "redsm5_posts.csv")["text"].tolist()
    labels = [k % 2 for k in range(len(criteria))]
    examples = [prompter.example(f"p{n}", text, labels=labels) for n, text in enumerate(texts[: n_posts + 4])]
    saving: list[float] = []

    def timed(*args: Any) -> None:
        began = time.perf_counter()
        save_state(*args)
        saving.append(time.perf_counter() - began)

    training.save_state = timed
    outcome = training.train(model, examples[4:], examples[:4], config.training, SEED, lambda *_: None, folder)
    share = sum(saving) / outcome.seconds
    print(f"{megabytes(folder):.1f} MB a state; {len(saving)} states in {outcome.seconds:.1f} s of training")
    print(f"saving: median {statistics.median(saving):.3f} s, {100 * share:.2f} % of the time")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape-7b", action="store_true")
    parser.add_argument("--posts", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    BASE_MODELS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BASE_MODELS) as temporary:  # the project's disk: /tmp may be in memory
        if options.shape_7b:
            shape_7b(Path(temporary))
        else:
            default_profile(Path(temporary), options.posts, options.epochs)
