import logging
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mentallam.classifier import fold
from mentallam.classifier.checkpoint import TrainedFold
from mentallam.classifier.determinism import deterministic_algorithms
from mentallam.classifier.examples import labelled_examples
from mentallam.classifier.fold import (
    CorpusTables,
    fit_fold,
    learnt_from,
    sample,
    score_fold,
)
from mentallam.classifier.scoring import score_pairs
from mentallam.classifier.training import TrainingOutcome
from mentallam.classifier.weights import BaseModel
from mentallam.config import Config
from mentallam.evaluation.decision import fit_decision
from mentallam.evaluation.oof import OOF_SCHEMA, out_of_fold_table
from tests.samples import CRITERIA
from tests.unit.trained_folds import ORIGIN, with_threshold

HELD_OUT = ["s_7_1", "s_8_1", "s_9_1"]
SPLIT: dict[str, Any] = {
    "fold": 0,
    "n_folds": 5,
    "seed": 42,
    "group_by": "author",
    "train": ["s_1_1", "s_2_1", "s_3_1", "s_4_1"],
    "dev": ["s_5_1", "s_6_1"],
    "held_out": HELD_OUT,
}


@pytest.fixture
def posts() -> pd.DataFrame:
    ids = [*SPLIT["train"], *SPLIT["dev"], *HELD_OUT]
    texts = [f"Post {number}: I was " + ("tired." if number % 2 else "at the lake.") for number in range(len(ids))]
    texts[ids.index("s_8_1")] = "word " * 700  # more than fits
    return pd.DataFrame({"post_id": ids, "text": texts, "author": None})


@pytest.fixture
def criteria() -> pd.DataFrame:
    return pd.DataFrame({"criterion_id": list(CRITERIA), "symptom": list("ABC"), "criterion": list(CRITERIA.values())})


@pytest.fixture
def pairs(posts: pd.DataFrame) -> pd.DataFrame:
    """Every post with every criterion, the rows in no order; labels and flags that differ from pair to pair."""
    grid = pd.MultiIndex.from_product([posts["post_id"], CRITERIA], names=["post_id", "criterion_id"])
    numbers = np.arange(len(grid))
    labels = (numbers % 4 == 1).astype("int8")
    table = pd.DataFrame({"label": labels, "explicit_negative": (numbers % 5 == 2) & (labels == 0)}, index=grid)
    return table.reset_index().sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def groups(posts: pd.DataFrame) -> pd.DataFrame:
    """Return a group for each post, with shuffled rows."""
    return (
        posts[["post_id"]]
        .assign(group="group of " + posts["post_id"], cluster=posts["post_id"])
        .sample(frac=1, random_state=1)
    )


@pytest.fixture
def tables(posts: pd.DataFrame, criteria: pd.DataFrame, pairs: pd.DataFrame, groups: pd.DataFrame) -> CorpusTables:
    return CorpusTables(posts, criteria, pairs.assign(evidence=""), groups)


@pytest.fixture
def table(trained: TrainedFold, tables: CorpusTables) -> pd.DataFrame:
    return score_fold(trained, SPLIT, tables)


def test_predictions_are_a_part_of_the_out_of_fold_table(table: pd.DataFrame) -> None:
    assert set(table.columns) == set(OOF_SCHEMA.columns)
    assert len(out_of_fold_table(table)) == len(table)


def test_held_out_posts_and_no_others(table: pd.DataFrame, pairs: pd.DataFrame) -> None:
    assert sorted(table["post_id"].unique()) == HELD_OUT
    assert len(table) == len(HELD_OUT) * len(CRITERIA)
    assert table["group"].tolist() == ("group of " + table["post_id"]).tolist()
    facts = ["post_id", "criterion_id", "label", "explicit_negative"]
    held_out = pairs[pairs["post_id"].isin(HELD_OUT)]
    pd.testing.assert_frame_equal(
        table[facts].sort_values(facts, ignore_index=True), held_out[facts].sort_values(facts, ignore_index=True)
    )
    assert table["label"].nunique() == table["explicit_negative"].nunique() == 2


def test_each_pair_has_another_score(table: pd.DataFrame, trained: TrainedFold, posts: pd.DataFrame) -> None:
    texts = posts.set_index("post_id")["text"]
    for row in table.itertuples():
        alone = trained.prompter.example(row.post_id, texts[row.post_id], [row.criterion_id])
        assert row.logit == pytest.approx(score_pairs(trained.model, [alone], 1)[0], abs=1e-5)
        assert row.probability == pytest.approx(1 / (1 + np.exp(-(0.9 * row.logit - 0.1))))
        assert row.prediction == (row.probability >= 0.37)
    assert table["logit"].nunique() == len(table)
    assert set(table["threshold"]) == {0.37}


def test_both_sides_of_the_threshold_occur(trained: TrainedFold, tables: CorpusTables) -> None:
    middle = float(score_fold(trained, SPLIT, tables)["probability"].median())
    table = score_fold(with_threshold(trained, middle), SPLIT, tables)
    assert table.loc[table["probability"] == middle, "prediction"].tolist() == [1]
    assert table["prediction"].tolist() == (table["probability"] >= middle).astype(int).tolist()
    assert set(table["prediction"]) == {0, 1}


def test_the_cut_post_is_marked(table: pd.DataFrame) -> None:
    assert set(table.loc[table["truncated"], "post_id"]) == {"s_8_1"}
    assert table["truncated"].sum() == len(CRITERIA)


def test_examples_ask_what_has_a_label(trained: TrainedFold, posts: pd.DataFrame, pairs: pd.DataFrame) -> None:
    some = pairs[(pairs["post_id"] != "s_2_1") | (pairs["criterion_id"] == "A.6")]
    examples = labelled_examples(trained.prompter, ["s_3_1", "s_2_1"], posts, some)
    assert [example.post_id for example in examples] == ["s_3_1", "s_2_1"]
    assert examples[1].criterion_ids == ["A.6"]
    labels = pairs.set_index(["post_id", "criterion_id"])["label"]
    for example in examples:
        assert example.labels == [labels[example.post_id, criterion_id] for criterion_id in example.criterion_ids]
        text = trained.prompter.tokenizer.decode(example.prefix)
        assert posts.set_index("post_id").loc[example.post_id, "text"] in text


def fit(
    config: Config,
    base: BaseModel,
    tables: CorpusTables,
    split: dict[str, Any],
) -> tuple[TrainedFold, pd.DataFrame, list[tuple[dict[str, float], int]]]:
    logged: list[tuple[dict[str, float], int]] = []
    config = replace(config, training=replace(config.training, max_epochs=1))
    with TemporaryDirectory() as states:
        trained, outcome, dev = fit_fold(
            config, base, split, tables, {}, ORIGIN, lambda *logs: logged.append(logs), Path(states)
        )
    assert outcome.steps > 0
    return trained, dev, logged


def test_training_neither_needs_nor_sees_the_held_out_posts(
    tiny_config: Config,
    tiny_base: BaseModel,
    tables: CorpusTables,
    caplog: pytest.LogCaptureFixture,
) -> None:
    posts, pairs = tables.posts, tables.pairs
    seen = posts[~posts["post_id"].isin(HELD_OUT)]
    without = replace(tables, posts=seen, pairs=pairs[pairs["post_id"].isin(seen["post_id"])])
    with caplog.at_level(logging.INFO):
        trained, dev, logged = fit(tiny_config, tiny_base, without, {**SPLIT, "held_out": []})
    other = replace(tables, posts=posts.assign(text=posts["text"].where(~posts["post_id"].isin(HELD_OUT), "Other.")))
    again, _, _ = fit(tiny_config, tiny_base, other, SPLIT)
    for (name, one), (_, two) in zip(trained.model.state_dict().items(), again.model.state_dict().items(), strict=True):
        assert torch.equal(one, two), name

    assert set(dev["post_id"]) == set(SPLIT["dev"])
    assert trained.decision == fit_decision(dev, tiny_config.decision)
    pd.testing.assert_frame_equal(trained.decision.decide(dev), dev)
    assert trained.origin == ORIGIN
    assert trained.prompter.criteria == CRITERIA
    assert any("loss" in metrics for metrics, _ in logged)
    assert "Post 0" not in caplog.text


def test_each_fold_starts_from_another_seed(tiny_config: Config, tiny_base: BaseModel, tables: CorpusTables) -> None:
    def head(split: dict[str, Any], seed: int) -> torch.Tensor:
        config = replace(tiny_config, training=replace(tiny_config.training, seed=seed))
        trained, _, _ = fit(config, tiny_base, tables, split)
        return trained.model.base_model.model.score.modules_to_save["default"].weight

    first = head(SPLIT, 42)
    for split, seed in (({**SPLIT, "fold": 1}, 42), (SPLIT, 43)):
        assert not torch.allclose(head(split, seed), first, atol=1e-2)
    assert torch.equal(head({**SPLIT, "seed": 43}, 42), first)  # the same posts, though folds.seed differs


def test_the_sample_of_posts_is_a_matter_of_the_folds_seed() -> None:
    posts = [str(number) for number in range(100)]
    split = {"seed": 42, "fold": 0, "train": posts, "dev": posts[:40]}
    drawn = learnt_from(split, 0.3)
    assert [len(part) for part in drawn.values()] == [30, 12]
    assert learnt_from(split, 0.3) == drawn
    for other in ({"seed": 43}, {"fold": 1}, {"seed": 41, "fold": 1}):
        assert learnt_from({**split, **other}, 0.3)["train"] != drawn["train"]


@pytest.mark.parametrize(("fraction", "sizes"), [(0.5, (2, 1)), (0.01, (1, 1)), (1.0, (4, 2))])
def test_a_sample_of_posts_to_learn_from_and_all_that_are_held_out(
    tiny_config: Config,
    tiny_base: BaseModel,
    tables: CorpusTables,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fraction: float,
    sizes: tuple[int, int],
) -> None:
    seen: list[tuple[list[str], list[str]]] = []

    def train(model: Any, train_examples: Any, dev_examples: Any, *rest: Any, **named: Any) -> TrainingOutcome:
        seen.append(tuple([example.post_id for example in part] for part in (train_examples, dev_examples)))
        return TrainingOutcome(1, 1, 1, "loss")

    monkeypatch.setattr(fold, "train", train)
    config = replace(tiny_config, training=replace(tiny_config.training, sample_fraction=fraction))
    trained, _, _ = fit(config, tiny_base, tables, SPLIT)
    fit(config, tiny_base, tables, SPLIT)
    assert seen[0] == seen[1]
    assert (len(seen[0][0]), len(seen[0][1])) == sizes
    for part, chosen in zip(("train", "dev"), seen[0], strict=True):
        assert chosen == [post_id for post_id in SPLIT[part] if post_id in chosen]
    assert ("of 4 train posts" in caplog.text) == (fraction < 1)
    assert set(score_fold(trained, SPLIT, tables)["post_id"]) == set(HELD_OUT)


def test_another_seed_draws_another_sample() -> None:
    posts = [str(number) for number in range(100)]
    samples = [sample(posts, 0.3, seed) for seed in (1, 1, 2)]
    assert samples[0] == samples[1] != samples[2]
    assert [len(chosen) for chosen in samples] == [30, 30, 30]


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_are_on_while_a_fold_runs_and_not_after(
    tiny_config: Config,
    tiny_base: BaseModel,
    tables: CorpusTables,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    wanted: bool,
) -> None:
    config = replace(tiny_config, training=replace(tiny_config.training, deterministic=wanted, max_epochs=1))
    seen: list[bool] = []
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # what the user has set stays

    def look(*_: Any) -> None:
        seen.append(torch.are_deterministic_algorithms_enabled())

    trained, *_ = fit_fold(config, tiny_base, SPLIT, tables, {}, ORIGIN, look, tmp_path)
    assert set(seen) == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
    with trained.model.register_forward_pre_hook(look):
        score_fold(trained, SPLIT, tables)
    assert seen[-1] == wanted
    with pytest.raises(ZeroDivisionError), deterministic_algorithms(wanted):
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
