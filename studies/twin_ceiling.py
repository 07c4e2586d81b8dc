"""F1 of a perfect reader of the synthetic twin when long posts are cut as `model.max_length` cuts them.

A symptom that a post shows counts as seen if a sentence annotated for it ends before the cut. A symptom that is shown
but not annotated (planted noise) always counts as seen.

make twin && python studies/twin_ceiling.py
"""

import argparse

import pandas as pd
from sklearn.metrics import f1_score
from study_files import BASE_MODELS, TWIN, compose, read_wordings

from mentallam.classifier.model import load_base_tokenizer
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import prepare_base_model

SYMPTOM_PAIR = ["post_id", "symptom"]


def main() -> None:
    """Print a row per length."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    config = compose()
    tokenizer = load_base_tokenizer(prepare_base_model(config.model, BASE_MODELS))
    wordings = read_wordings()
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
        room = Prompter(tokenizer, config.model.prompt, wordings, length).post_tokens
        cut = {post_id: token_ends[room - 1] for post_id, token_ends in ends.items() if len(token_ends) > room}
        seen = [
            texts[row.post_id].index(row.sentence_text) + len(row.sentence_text)
            <= cut.get(row.post_id, len(texts[row.post_id]))
            for row in evidence.itertuples()
        ]
        any_seen = evidence.assign(seen=seen).groupby(SYMPTOM_PAIR)["seen"].any().reset_index()
        pairs = truth.merge(any_seen, "left", SYMPTOM_PAIR)
        read = pairs["shown"].where(pairs["seen"].ne(False), 0)
        print(f"| {length} | {len(cut)} | {f1_score(pairs['label'], read):.4f} |", flush=True)


if __name__ == "__main__":
    main()
