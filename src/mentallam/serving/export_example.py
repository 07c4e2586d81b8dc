"""Score a post with one criterion, with transformers alone.

python example.py "I can't sleep." A.4

Research screening, never a diagnosis. `mentallam export` writes this file beside the model.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

here = Path(__file__).parent
text, criterion = sys.argv[1:]
log_odds, thresholds = [], []
for folder in sorted(here.glob("fold_*")) or [here]:  # the folds of a cross-validation answer together
    facts = json.loads((folder / "mentallam.json").read_text(encoding="utf-8"))
    prompt, decision = facts["prompt"], facts["decision"]
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    # In float32 also where the file is bfloat16, which would round the head; leave dtype out to halve the memory.
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
    # Token ids are joined, never strings: the tokenizer would merge characters where two strings meet.
    post = tokenizer(prompt["before"] + text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    pair = prompt["begin"] + post[: prompt["post_tokens"]] + prompt["after"] + prompt["suffixes"][criterion]
    with torch.no_grad():
        no, yes = model(torch.tensor([pair])).logits[0].double()
    log_odds.append(decision["slope"] * (yes - no) + decision["intercept"])
    thresholds.append(decision["by_criterion"].get(criterion, decision["threshold"]))
together = {"slope": 1.0, "intercept": 0.0}
if (here / "ensemble.json").is_file():
    together = json.loads((here / "ensemble.json").read_text(encoding="utf-8"))
mean = torch.stack(log_odds).mean()
probability = torch.sigmoid(together["slope"] * mean + together["intercept"]).item()
threshold = sum(thresholds) / len(thresholds)
print("yes" if probability >= threshold else "no", f"probability {probability:.6f} threshold {threshold:.6f}")
