"""A process that trains on the sample's posts until it ends or is stopped, for the tests of exact resumption.

python -m tests.slow.train_part EXPERIMENT OVERRIDES STATES [STOP]      STOP: the log call at which to die
"""

import hashlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from transformers import set_seed

from mentallam import interruption
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.training import train
from mentallam.classifier.training_states import trained_weights
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from tests.samples import PROJECT

SEED = 5


def posts(prompter: Prompter, first: int, number: int) -> list[PostExample]:
    """Return posts of the sample of different lengths, with made-up labels."""
    texts = pd.read_csv(PROJECT / "data" / "01_raw" / "sample" / "redsm5_posts.csv")["text"].tolist()
    ids = list(prompter.criteria)
    return [
        prompter.example(f"p{n}", texts[n], ids[: 1 + n % 3], [(n + k) % 2 for k in range(1 + n % 3)])
        for n in range(first, first + number)
    ]


def main(experiment: str, overrides: str, states: str, stop: str = "") -> None:
    """Train; print the sha256 of the weights, the outcome, and the history without speeds and memory."""
    config = compose_config(PROJECT / "hydra_configs", experiment, overrides)
    base = prepare_base_model(config.model, PROJECT / "data" / "06_models" / "base")
    set_seed(SEED)
    model, tokenizer = build_classifier(base, config)
    prompter = Prompter(tokenizer, config.model.prompt, {"A": "sad", "B": "tired", "C": "guilty"}, 256)
    calls = 0

    def log(metrics: dict[str, float], step: int) -> None:
        nonlocal calls
        calls += 1
        if stop and calls == abs(int(stop)):
            os.kill(os.getpid(), signal.SIGKILL if int(stop) > 0 else signal.SIGTERM)

    interruption.watch()
    outcome = train(model, posts(prompter, 0, 10), posts(prompter, 20, 6), config.training, SEED, log, Path(states))
    digest = hashlib.sha256()
    for name, weight in sorted(trained_weights(model).items()):
        digest.update(name.encode() + weight.numpy().tobytes())
    history = [entry for entry in outcome.history if not entry[1].startswith(("pairs_per_second", "peak_"))]
    figures = {**asdict(outcome), "sha256": digest.hexdigest(), "history": history}
    del figures["seconds"]
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
