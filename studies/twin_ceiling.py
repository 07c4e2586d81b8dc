"""What a perfect reader of the synthetic twin still reaches when long posts are cut, as `model.max_length` cuts them.

A symptom that a post shows counts as seen if a sentence annotated for it ends before the cut; one that is shown and not
annotated (planted noise) counts as seen.

make twin && python studies/twin_ceiling.py
"""

from pathlib import Path

import pandas as pd
from sklearn.metrics import f1_score

from mentallam.classifier.model import load_base_tokenizer
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import prepare_base_model
from mentallam.config import compose_config

PROJECT = Path(__file__).resolve().parents[1]
TWIN = PROJECT / "data/01_raw/twin"
PAIR = ["post_id", "symptom"]


def main() -> None:
    """Prints a row per length."""
    config = compose_config(PROJECT / "hydra_configs", "smollm2")
    tokenizer = load_base_tokenizer(prepare_base_model(config.model, PROJECT / "data/06_models/base"))
    criteria = pd.read_csv(PROJECT / "data/01_raw/dsm5_criteria.csv").set_index("criterion_id")["criterion"]
    texts = pd.read_csv(TWIN / "redsm5_posts.csv", keep_default_na=False).set_index("post_id")["text"]
    truth = pd.read_csv(TWIN / "twin_truth.csv")
    annotated = pd.read_csv(TWIN / "redsm5_annotations.csv").rename(columns={"DSM5_symptom": "symptom"})
    evidence = annotated[annotated["status"] == 1]
    before = config.model.prompt.prefix.split("{post}")[0]
    ends = {
        post_id: [
            end - len(before) for _, end in tokenizer(before + text, return_offsets_mapping=True)["offset_mapping"]
        ]
        for post_id, text in texts.items()
    }
    print("| tokens of a pair | posts cut | F1 of a perfect reader |\n| --- | --- | --- |")
    for length in (512, 1024, 2048, 10**6):
        room = Prompter(tokenizer, config.model.prompt, criteria.to_dict(), length).post_tokens
        cut = {post_id: own[room - 1] for post_id, own in ends.items() if len(own) > room}
        seen = [
            texts[row.post_id].index(row.sentence_text) + len(row.sentence_text)
            <= cut.get(row.post_id, len(texts[row.post_id]))
            for row in evidence.itertuples()
        ]
        pairs = truth.merge(evidence.assign(seen=seen).groupby(PAIR)["seen"].any().reset_index(), "left", PAIR)
        read = pairs["shown"].where(pairs["seen"].ne(False), 0)
        print(f"| {length} | {len(cut)} | {f1_score(pairs['label'], read):.4f} |", flush=True)


if __name__ == "__main__":
    main()
