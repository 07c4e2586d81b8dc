"""Cost of training all layers, only the upper layers, and these with the hidden states below them kept.

SmolLM2 with DoRA on posts of the synthetic twin, four per step, one of each quartile of length. The three forms take
turns on the same posts in one process. The figures are medians of steps, in seconds, without the first step of each.

make twin && python benchmarks/top_layers.py [--layers 14] [--steps 7]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import torch
from peft import PeftModel
from transformers import set_seed
from workload import BASE_MODELS, CONFIGS, CRITERIA, TWIN, sample_posts

from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.frozen import frozen_states, with_states
from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from mentallam.corpus.schemas import wording_by_id


def step(model: PeftModel, examples: list[PostExample]) -> None:
    """Run forward and backward of all pairs in one pass."""
    batch = dict(pack(examples))
    labels = batch.pop("labels")
    pair_loss(model(**batch), labels).backward()
    model.zero_grad()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=14, help="number of upper layers to train (default 14)")
    parser.add_argument("--steps", type=int, default=7, help="steps to measure of each form (default 7)")
    arguments = parser.parse_args()

    steps = sample_posts(TWIN, arguments.steps + 1)
    posts = pd.DataFrame([post for step_posts in steps for post in step_posts])
    criteria = pd.read_csv(CRITERIA)
    pairs = posts[["post_id"]].merge(criteria[["criterion_id"]], how="cross").assign(label=0)
    every = compose_config(CONFIGS, "smollm2_corpus", "adapter.top_layers=null model.compile_on_cpu=false")
    upper = replace(every, adapter=replace(every.adapter, top_layers=arguments.layers))
    base = prepare_base_model(every.model, BASE_MODELS)
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
    for step_posts in steps:
        examples = labelled_examples(prompter, [post["post_id"] for post in step_posts], posts, pairs)
        for name, (model, ready) in forms.items():
            batch = ready(examples)
            began = time.perf_counter()
            step(model, batch)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    print(f"{torch.get_num_threads()} threads\n\n| trained | seconds per step | of all layers' |\n| --- | --- | --- |")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median / medians['all layers']:.2f} |")


if __name__ == "__main__":
    main()
