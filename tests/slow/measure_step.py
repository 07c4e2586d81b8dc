"""Training steps of SmolLM2 in a fresh process: prints memory_plan's count and the kernel's peak as JSON.

python -m tests.slow.measure_step FOLDER_OF_BASE_MODELS [OVERRIDES]
"""

import json
import sys
from pathlib import Path

import torch

from mentallam.classifier.gradients import pair_loss
from mentallam.classifier.memory import empty_classifier, longest_posts, step_memory
from mentallam.classifier.model import build_classifier
from mentallam.classifier.packing import pack
from mentallam.classifier.weights import load_architecture, prepare_base_model
from mentallam.config import compose_config
from mentallam.corpus.readers import read_criteria
from mentallam.corpus.schemas import wording_by_id
from tests.samples import PROJECT
from tests.slow.process_memory import memory, reset_peak

STEPS = 3


def main() -> None:
    cache, overrides = Path(sys.argv[1]), " ".join(sys.argv[2:])
    config = compose_config(PROJECT / "hydra_configs", "smollm2", overrides)
    criteria = read_criteria(str(PROJECT / "data" / "01_raw" / "dsm5_criteria.csv"))
    wording = wording_by_id(criteria)
    examples, counted_by = longest_posts(config, cache, wording)
    assert counted_by == "tokenizer"
    base = prepare_base_model(config.model, cache)
    checkpointing = config.model.gradient_checkpointing

    reset_peak()
    before = memory("VmRSS")
    model, _ = build_classifier(base, config)
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], fused=True)
    for _ in range(STEPS):
        batch = pack(examples)
        pair_loss(model(**batch), batch["labels"]).backward()
        optimizer.step()
    measured = memory("VmHWM") - before

    architecture, _ = load_architecture(config.model, cache)
    planned = step_memory(empty_classifier(architecture, config), examples, checkpointing).total
    print(json.dumps({"planned": planned, "measured": measured}))


if __name__ == "__main__":
    main()
