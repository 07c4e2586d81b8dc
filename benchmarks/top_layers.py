"""What training the upper layers only costs: with the hidden states below them kept, without, and all layers.

SmolLM2 with DoRA on posts of the synthetic twin (`make twin`), four per step, one of each quartile of length; the three
forms take turns on the same posts, in one process. Medians over steps, in seconds, after a first step of each.

python benchmarks/top_layers.py [--layers 14] [--steps 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from peft import PeftModel
from training import PROJECT, sample_posts
from transformers import set_seed

from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.frozen import frozen_states, with_states
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.training import pair_loss
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from mentallam.corpus.schemas import wording_by_id


def step(model: PeftModel, examples: list[PostExample]) -> None:
    """Forward and backward of all pairs in one pass."""
    batch = dict(pack(examples))
    labels = batch.pop("labels")
    pair_loss(model(**batch), labels).backward()
    model.zero_grad()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=14, help="the upper layers that are trained")
    parser.add_argument("--steps", type=int, default=7, help="steps of each form that are measured")
    arguments = parser.parse_args()

    steps = sample_posts(PROJECT / "data/01_raw/twin", arguments.steps + 1)
    posts = pd.DataFrame([post for own in steps for post in own])
    criteria = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv")
    pairs = posts[["post_id"]].merge(criteria[["criterion_id"]], how="cross").assign(label=0)
    every = compose_config(
        PROJECT / "hydra_configs", "smollm2_corpus", "adapter.top_layers=null model.compile_on_cpu=false"
    )
    upper = replace(every, adapter=replace(every.adapter, top_layers=arguments.layers))
    base = prepare_base_model(every.model, PROJECT / "data/06_models/base")
    began = time.perf_counter()
    states = frozen_states(upper, base, posts, criteria, pairs)
    per_post = (time.perf_counter() - began) / len(posts)
    print(f"states: {per_post:.2f} s and {sum(s.nbytes for s in states.values()) / len(posts) / 1e6:.2f} MB per post\n")

    set_seed(0)
    whole, tokenizer = build_classifier(base, every)
    part, _ = build_classifier(base, upper)
    wording = wording_by_id(criteria)
    prompter = Prompter(tokenizer, every.model.prompt, wording, every.model.max_length)
    forms: dict[str, tuple[PeftModel, Callable[[list[PostExample]], list[PostExample]]]] = {
        "all layers": (whole.train(), lambda plain: plain),
        f"upper {arguments.layers}": (part.train(), lambda plain: plain),
        f"upper {arguments.layers}, states kept": (part, lambda plain: with_states(plain, states, part)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for own in steps:
        examples = labelled_examples(prompter, [post["post_id"] for post in own], posts, pairs)
        for name, (model, ready) in forms.items():
            batch = ready(examples)
            began = time.perf_counter()
            step(model, batch)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(own[1:]) for name, own in seconds.items()}
    print(f"{torch.get_num_threads()} threads\n\n| trained | seconds per step | of all layers' |\n| --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['all layers']:.2f} |")


if __name__ == "__main__":
    main()
