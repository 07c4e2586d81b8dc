"""A model of Llama-2-7B's shape with random weights, written, trained one step, and read again by a new process.

    python -m tests.slow.real_shape write|train|predict|merge FOLDER [OVERRIDES]

Each command runs in a separate process, so that peak memories don't mix. `test_7b.py` runs them one after the other;
overrides such as `model.architecture.num_hidden_layers=2` make the model smaller.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizerFast, set_seed

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import train
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import Config, compose_config
from mentallam.corpus.readers import read_criteria
from mentallam.corpus.schemas import wording_by_id
from mentallam.corpus.synthetic_corpus import SAMPLE, generate
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from tests.samples import PROJECT
from tests.slow.process_memory import AnonymousPeak, memory, reset_peak

SHARD = "2GB"
ORIGIN = {"corpus": "random", "synthetic": True, "data_hash": "-", "fold": 0, "cv_run_id": "-", "run_id": "-"}
LABELS = [1, 0, 0, 0, 0, 0, 0, 0, 1]
# Posts are short, since this tries the shape; memory_plan counts the memory of long posts.
WORDS = 30


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Print the seconds and the peak memory of the body as one line of JSON."""
    reset_peak()
    started = time.perf_counter()
    with AnonymousPeak() as anonymous:
        yield
    figures = {"seconds": time.perf_counter() - started, "peak_rss": memory("VmHWM"), "peak_anonymous": anonymous.bytes}
    print(json.dumps({"phase": name, **figures}), flush=True)


def write(folder: Path, config: Config) -> None:
    architecture = LlamaConfig(**config.model.architecture, bos_token_id=1, eos_token_id=2, dtype="bfloat16")
    folder.mkdir(parents=True)
    with phase("write tokenizer"):
        tokenizer(architecture.vocab_size).save_pretrained(folder)
    with phase("write weights"), torch.device("meta"):
        empty = LlamaForCausalLM._from_config(architecture, dtype=torch.bfloat16)
        shapes = empty.state_dict()
        shards = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)
        generator = torch.Generator("cpu").manual_seed(0)
        for file, names in shards.filename_to_tensors.items():
            filled = {name: _random(name, shapes[name], architecture, generator) for name in names}
            save_file(filled, folder / file, metadata={"format": "pt"})
            del filled
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        empty.config.architectures = ["LlamaForCausalLM"]
        empty.config.save_pretrained(folder)


def _random(name: str, like: torch.Tensor, config: LlamaConfig, generator: torch.Generator) -> torch.Tensor:
    filled = torch.ones(like.shape, dtype=torch.bfloat16, device="cpu")
    if "norm" not in name:
        filled.normal_(0, config.initializer_range, generator=generator)
    return filled


def tokenizer(vocab_size: int) -> LlamaTokenizerFast:
    """Return a tokenizer like Llama 2's: BPE over words with a mark for the space, and bytes for unknown text."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in ("", "n", "r", "s", "th")]
    invented = (" ".join("".join(rng.choices(syllables, k=rng.randint(2, 4))) for _ in range(12)) for _ in range(5_000))
    texts = [text for _, text in generate(SAMPLE, 0).posts] + list(invented)
    specials = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials, show_progress=False)
    )
    model = json.loads(trained.to_str())["model"]
    vocabulary, merges = model["vocab"], [tuple(merge) for merge in model["merges"]]
    for number in range(vocab_size - len(vocabulary)):  # no merge makes these, so no text holds them
        vocabulary[f"<unused_{number}>"] = len(vocabulary)
    made = LlamaTokenizerFast(vocab=vocabulary, merges=merges, pad_token="</s>")
    assert len(made) == vocab_size
    return made


def example(prompter: Prompter, number: int) -> PostExample:
    words = " ".join(text for _, text in generate(SAMPLE, number).posts).split()
    return prompter.example(f"post_{number}", " ".join(words[:WORDS]), labels=LABELS)


def train_one_step(folder: Path, config: Config) -> None:
    criteria = read_criteria(str(PROJECT / "data" / "01_raw" / "dsm5_criteria.csv"))
    wording = wording_by_id(criteria)
    with phase("find"):
        base = prepare_base_model(config.model, folder / "unused")
    set_seed(0)
    with phase("load and add DoRA"):  # weight files are memory-mapped, and read as DoRA's norms need them
        adapted, tokens = build_classifier(base, config)
    prompter = Prompter(tokens, config.model.prompt, wording, config.model.max_length)
    with phase("train one step"):
        outcome = train(
            adapted,
            [example(prompter, 1)],
            [example(prompter, 2)],
            config.training,
            0,
            lambda *_: None,
            folder / "states",
        )
    assert outcome.steps == 1
    trained = TrainedFold(adapted, prompter, config, base, Decision(Calibration(), Thresholds(0.5)), ORIGIN)
    with phase("save adapter"):
        save_checkpoint(trained, folder / "checkpoint")
    with phase("predict"):
        logits = score_pairs(adapted, [example(prompter, 3)], 1)
    (folder / "logits.json").write_text(json.dumps(logits.tolist()))


def predict_again(folder: Path, config: Config) -> None:
    with phase("reload"):
        trained = load_checkpoint(folder / "checkpoint", folder / "unused")
    with phase("predict again"):
        logits = score_pairs(trained.model, [example(trained.prompter, 3)], 1)
    (folder / "logits_again.json").write_text(json.dumps(logits.tolist()))


def predict_merged(folder: Path, config: Config) -> None:
    with phase("reload and merge"):
        trained = load_checkpoint(folder / "checkpoint", folder / "unused", merge=True)
    with phase("predict merged"):
        logits = score_pairs(trained.model, [example(trained.prompter, 3)], 1)
    (folder / "logits_merged.json").write_text(json.dumps(logits.tolist()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("write", "train", "predict", "merge"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    base = arguments.folder / "llama"
    words = [f"'model.path={base}'", "training.max_epochs=1", "training.warmup_ratio=0", *arguments.overrides]
    config = compose_config(PROJECT / "hydra_configs", "mentallam", " ".join(words))
    if arguments.command == "write":
        write(base, config)
    else:
        commands = {"train": train_one_step, "predict": predict_again, "merge": predict_merged}
        commands[arguments.command](arguments.folder, config)


if __name__ == "__main__":
    main()
