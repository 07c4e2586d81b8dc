"""A user's posts and criteria, with other headings and odd ids, in all four pipelines by configuration alone."""

import json
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from mentallam.classifier.checkpoint import read_facts
from mentallam.errors import MentallamError
from tests.integration.workspace import Workspace

TOPICS = {
    "sleep": ("I lay awake until the birds began", "The afternoon was fine"),
    "NA": ("The rent is due and the account is empty", "My shift went by without a word"),
    "1e5": ("Nobody has called me for weeks", "We cooked at the neighbours' and laughed"),
}
# pandas, YAML or a spreadsheet would take these for numbers, dates or missing values.
ODD_IDS = [
    "0012",
    "12",
    "1e5",
    "NA",
    "N/A",
    "nan",
    "null",
    "None",
    "true",
    "-5",
    "=1+1",
    "inf",
    "café",
    "a/b",
    "2024-01-05",
]


def write_corpus(folder: Path, n_posts: int = 40) -> pd.DataFrame:
    """Write posts that say yes or no to three topics in every combination, and return the labels."""
    folder.mkdir()
    posts, labels = [], []
    for number in range(n_posts):
        chosen = [bool(number >> bit & 1) for bit in range(3)]
        words = [TOPICS[topic][not yes] for topic, yes in zip(TOPICS, chosen, strict=True)]
        post_id = ODD_IDS[number] if number < len(ODD_IDS) else f"p{number}"
        posts.append((post_id, ". ".join([*words, f"That was day {number * number}, {number} to go"])))
        labels += [
            (post_id, topic, "matched" if yes else "UNMATCHED") for topic, yes in zip(TOPICS, chosen, strict=True)
        ]
    criteria = [(topic, f"The writer speaks of {topic}.") for topic in TOPICS]
    truth = pd.DataFrame(labels, columns=["post_id", "criterion_id", "label"])
    pd.DataFrame(posts, columns=["ID", "selftext"]).to_csv(folder / "posts.csv")
    pd.DataFrame(criteria, columns=["criterion_id", "criterion"]).to_csv(folder / "criteria.csv", index=False)
    truth.to_csv(folder / "groundtruth.csv", index=False)
    return truth


def test_a_users_posts_and_criteria_go_through_all_pipelines(empty: Workspace, tmp_path: Path) -> None:
    truth = write_corpus(tmp_path / "corpus")
    named = {"corpus_label": {"name": "diaries"}}
    place = {"env": "pairs", "corpus_dir": str(tmp_path / "corpus")}
    headings = {"columns": {"text": "selftext", "post_id": "id"}}
    files = {**place, **headings, "label_values": "matched:unmatched"}
    empty.run("data_processing", **files, **named, folds={"dev_splits": 4})
    # Only the upper of the two layers is trained, so training begins with saved hidden states.
    empty.run("cv_training", **files, **named, overrides="experiment=tiny training.max_epochs=1 adapter.top_layers=1")
    empty.run("reporting", **place, **named)
    empty.run("inference", **place, **headings, input=str(tmp_path / "corpus" / "posts.csv"))

    states = load_file(empty.data / "06_models" / "frozen_states.safetensors")
    assert set(states) == {f"1/{post_id}" for post_id in truth["post_id"]}
    summary = json.loads((empty.data / "08_reporting" / "cv_summary.json").read_text())
    assert (summary["n_folds"], summary["n_posts"], summary["n_pairs"]) == (5, 40, 120)
    assert "synthetic" not in (empty.data / "08_reporting" / "report.md").read_text().split("##")[0]
    table = pd.read_parquet(empty.data / "07_model_output" / "oof_predictions.parquet")
    merged = table.merge(truth, on=["post_id", "criterion_id"], suffixes=("", "_written"), validate="one_to_one")
    assert len(merged) == 120
    assert (merged["label"].map({1: "matched", 0: "UNMATCHED"}) == merged["label_written"]).all()
    lines = (empty.data / "07_model_output" / "predictions.jsonl").read_text().splitlines()
    asked = {(line["post_id"], line["criterion_id"]) for line in map(json.loads, lines)}
    assert asked == set(zip(truth["post_id"], truth["criterion_id"], strict=True))
    assert len(lines) == 120
    [experiment] = [one for one in empty.client().search_experiments() if one.name.endswith("-pairs")]
    runs = empty.client().search_runs([experiment.experiment_id])
    assert len(runs) == 1 + 5


def test_a_training_starts_from_another_corpus_and_never_from_its_own(trained: Workspace, tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    run_id = json.loads((trained.data / "06_models" / "fold_0_run.json").read_text())["run_id"]
    trained.run(
        "cv_training",
        env="pairs",
        data_dir=str(tmp_path / "data"),
        corpus_dir=str(tmp_path / "corpus"),
        columns={"text": "selftext", "post_id": "id"},
        label_values="matched:unmatched",
        overrides=f"experiment=tiny training.max_steps=1 training.start_from={run_id}",
    )
    start, started = (
        load_file(folder / "adapter_model.safetensors")
        for folder in (trained.data / "06_models" / "fold_0", tmp_path / "data" / "06_models" / "fold_1")
    )
    distance = {name: float((started[name] - start[name]).norm() / start[name].norm()) for name in start}
    adapters = {name for name in start if "lora_A" in name}
    assert max(distance[name] for name in adapters) < 0.1  # one step away; another seed would be 1.4 away
    with pytest.raises(MentallamError, match="has learnt from .* posts of this corpus"):
        trained.run("cv_training", data_dir=str(tmp_path / "again"), overrides=f"training.start_from={run_id}")
    facts = read_facts(tmp_path / "data" / "06_models" / "fold_1")
    assert len(facts["learnt_posts"]) > 32  # those of the start, too
