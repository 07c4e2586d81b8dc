"""How far transformers' logits of an exported SmolLM2 are from this package's (docs/export.md).

python benchmarks/export.py float32
python benchmarks/export.py bfloat16

The adapter and the head are random. 36 pairs: the sample's first four posts with nine criteria.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mentallam.classifier.checkpoint import TrainedFold, load_checkpoint, save_checkpoint
from mentallam.classifier.model import build_classifier
from mentallam.classifier.prompts import PostExample, Prompter
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.shared_base import release_base
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config
from mentallam.evaluation.calibration import Calibration
from mentallam.evaluation.decision import Decision, Thresholds
from mentallam.serving.export import export_model

PROJECT = Path(__file__).parents[1]
RAW = PROJECT / "data" / "01_raw"
CACHE = PROJECT / "data" / "06_models" / "base"
ORIGIN = {"run_id": "none", "cv_run_id": "none", "fold": 0, "corpus": "none", "synthetic": True, "data_hash": "none"}
ALONE = """
import sys
sys.modules["mentallam"] = None
import json
import torch
from transformers import AutoModelForSequenceClassification

folder, dtype = sys.argv[1:]
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=dtype, trust_remote_code=False)
with torch.no_grad():
    print(json.dumps([model(torch.tensor([pair])).logits[0].tolist() for pair in json.load(sys.stdin)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dtype", choices=("float32", "bfloat16"))
    dtype = parser.parse_args().dtype
    with tempfile.TemporaryDirectory() as temporary:
        checkpoint, folder = Path(temporary) / "fold", Path(temporary) / "exported"
        save_checkpoint(random_fold(dtype), checkpoint)
        release_base()
        export_model(checkpoint, folder, CACHE, dtype)
        print(f"{sum(file.stat().st_size for file in folder.glob('*.safetensors')) / 1e6:.0f} MB of weights")
        adapted = load_checkpoint(checkpoint, CACHE, dtype)
        examples = sample_posts(adapted.prompter)
        adapter = score_pairs(adapted.model, examples, 2048)
        for read_as in dict.fromkeys([dtype, "float32"]):
            compare(folder, read_as, examples, adapter)


def random_fold(dtype: str) -> TrainedFold:
    config = compose_config(PROJECT / "hydra_configs", "smollm2", f"model.dtype={dtype}")
    base = prepare_base_model(config.model, CACHE)
    torch.manual_seed(0)
    model, tokenizer = build_classifier(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
        if "lora_magnitude" in name:
            parameter.data *= torch.empty_like(parameter).uniform_(0.8, 1.2)
        if "score" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    criteria = pd.read_csv(RAW / "dsm5_criteria.csv").set_index("criterion_id")["criterion"].to_dict()
    prompter = Prompter(tokenizer, config.model.prompt, criteria, config.model.max_length)
    return TrainedFold(model.eval(), prompter, config, base, Decision(Calibration(), Thresholds(0.5)), ORIGIN)


def sample_posts(prompter: Prompter) -> list[PostExample]:
    posts = pd.read_csv(RAW / "sample" / "redsm5_posts.csv").head(4)
    return [prompter.example(post_id, text) for post_id, text in zip(posts["post_id"], posts["text"], strict=True)]


def compare(folder: Path, read_as: str, examples: list[PostExample], adapter: NDArray[np.float64]) -> None:
    """Print the largest differences between the logits of yes minus no."""
    pairs = [example.prefix + suffix for example in examples for suffix in example.suffixes]
    command = [sys.executable, "-I", "-c", ALONE, str(folder), read_as]
    done = subprocess.run(command, input=json.dumps(pairs), capture_output=True, text=True, check=True)
    theirs = np.array(json.loads(done.stdout))
    exported = load_checkpoint(folder, Path("unused"), read_as).model
    with torch.no_grad():
        ours = np.array([exported(torch.tensor([pair])).logits[0].tolist() for pair in pairs])
    packed = score_pairs(exported, examples, 2048)
    largest = {
        "transformers - ours, pairs alone": np.diff(theirs - ours)[:, 0],
        "transformers - ours, packed": np.diff(theirs)[:, 0] - packed,
        "exported - adapter, packed": packed - adapter,
        "the logits themselves": packed,
    }
    print(f"read as {read_as}, {len(pairs)} pairs of {min(map(len, pairs))} to {max(map(len, pairs))} tokens:")
    for name, values in largest.items():
        print(f"  {name:34} {abs(values).max():.2g}")


if __name__ == "__main__":
    main()
