"""Learned baselines on posts whose words show their labels."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoTokenizer

from mentallam.classifier import learned_baselines
from mentallam.classifier.embeddings import embed_posts
from mentallam.classifier.fold import learnt_from
from mentallam.classifier.learned_baselines import BASELINES, DESCRIPTIONS, fit_baselines, named_baselines
from mentallam.classifier.model import load_base
from mentallam.classifier.prompts import Prompter
from mentallam.classifier.weights import BaseModel
from mentallam.config import BaselinesConfig, Config
from mentallam.corpus.folds import FoldOptions, make_folds
from mentallam.errors import MentallamError
from mentallam.evaluation.baseline_scores import BASELINE_SCHEMA
from mentallam.evaluation.thresholds import best_threshold
from tests.samples import CRITERIA

PHRASES = {"A.1": "so sad and empty", "A.4": "awake all night", "A.6": "too tired to get up"}
FACTS = ["post_id", "criterion_id", "label", "explicit_negative"]
LEARNT = ["model", "post_id", "criterion_id", "logit", "probability", "threshold", "prediction"]

Fit = Callable[..., pd.DataFrame]


@pytest.fixture(scope="module")
def posts() -> pd.DataFrame:
    """Every combination of the criteria seven times, with words that mean nothing."""
    texts = {}
    for number in range(56):
        said = [phrase for bit, phrase in enumerate(PHRASES.values()) if number >> bit & 1]
        texts[f"s_{number}_0"] = " and ".join([f"It was day {number}", *said, f"We had soup at {number * 7 % 12}"])
    texts["s_9_0"] += " word" * 700  # more than fits
    return pd.DataFrame({"post_id": list(texts), "text": list(texts.values())})


@pytest.fixture(scope="module")
def pairs(posts: pd.DataFrame) -> pd.DataFrame:
    """Return a label for each post and criterion, every tenth of them wrong, with shuffled rows."""
    rows = [
        (post_id, criterion_id, int((PHRASES[criterion_id] in text) != (number % 10 == 3)))
        for post_id, text in posts.itertuples(index=False)
        for number, criterion_id in enumerate(CRITERIA, int(post_id.split("_")[1]))
    ]
    table = pd.DataFrame(rows, columns=FACTS[:3]).astype({"label": "int8"})
    table["explicit_negative"] = (table["label"] == 0) & (np.arange(len(table)) % 5 == 0)
    return table.sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture(scope="module")
def groups(posts: pd.DataFrame) -> pd.DataFrame:
    return (
        posts[["post_id"]]
        .assign(group="group of " + posts["post_id"], cluster=posts["post_id"])
        .sample(frac=1, random_state=1)
    )


@pytest.fixture(scope="module")
def criteria() -> pd.DataFrame:
    return pd.DataFrame({"criterion_id": list(CRITERIA), "symptom": list("ABC"), "criterion": list(CRITERIA.values())})


@pytest.fixture(scope="module")
def splits(pairs: pd.DataFrame, groups: pd.DataFrame) -> list[dict[str, Any]]:
    options = FoldOptions(seed=42, group_by="post_id", dev_splits=3)
    return [dict(split) for split in make_folds(pairs, groups, options, 3, "hash")]


@pytest.fixture(scope="module")
def fit(
    tiny_config: Config,
    tiny_base: BaseModel,
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pairs: pd.DataFrame,
    groups: pd.DataFrame,
) -> Fit:
    """Fits on some splits, by default with the pairs of the fixture and both baselines."""

    def run(
        splits: Sequence[dict[str, Any]],
        pairs: pd.DataFrame = pairs,
        models: Sequence[str] = ("tfidf", "embedding"),
        fraction: float = 1.0,
        base: BaseModel = tiny_base,
    ) -> pd.DataFrame:
        training = replace(tiny_config.training, sample_fraction=fraction)
        config = replace(tiny_config, training=training, baselines=BaselinesConfig(list(models)))
        return fit_baselines(config, base, splits, posts, criteria, pairs, groups)

    return run


@pytest.fixture(scope="module")
def table(fit: Fit, splits: list[dict[str, Any]]) -> pd.DataFrame:
    return fit(splits)


def part(pairs: pd.DataFrame, post_ids: Sequence[str], criterion_id: str | None = None) -> pd.DataFrame:
    of_part = pairs["post_id"].isin(post_ids)
    return pairs[of_part if criterion_id is None else of_part & (pairs["criterion_id"] == criterion_id)]


@pytest.mark.parametrize("names", [["tfidf", "bm25"], ["bm25"], ["TFIDF"]])
def test_an_unknown_baseline_is_refused_in_one_line(names: list[str]) -> None:
    with pytest.raises(MentallamError) as error:
        named_baselines(names)
    known = ", ".join(BASELINES)
    assert error.value.message == (
        f"baselines.models is [{', '.join(names)}]; it takes each of {known} at most once, and [] fits none"
    )


def test_the_named_baselines_come_in_their_order() -> None:
    assert list(named_baselines(["embedding", "tfidf"])) == ["embedding", "tfidf"]
    assert named_baselines([]) == {}


def test_every_baseline_is_described_by_a_phrase() -> None:
    assert DESCRIPTIONS.keys() == BASELINES.keys()
    assert all(description.startswith(("a ", "an ", "the ")) for description in DESCRIPTIONS.values())


def test_each_baseline_scores_every_held_out_pair_once(
    table: pd.DataFrame, pairs: pd.DataFrame, splits: list[dict[str, Any]]
) -> None:
    BASELINE_SCHEMA.validate(table)
    assert list(table["model"].unique()) == ["tfidf", "embedding"]
    assert table["group"].tolist() == ("group of " + table["post_id"]).tolist()
    expected = pairs[FACTS].sort_values(FACTS, ignore_index=True)
    for _, rows in table.groupby("model"):
        pd.testing.assert_frame_equal(rows[FACTS].sort_values(FACTS, ignore_index=True), expected)
        for split in splits:
            assert set(rows.loc[rows["fold"] == split["fold"], "post_id"]) == set(split["held_out"])


def test_tfidf_is_scikit_learns_on_the_training_posts(
    table: pd.DataFrame, posts: pd.DataFrame, pairs: pd.DataFrame, splits: list[dict[str, Any]]
) -> None:
    texts = posts.set_index("post_id")["text"]
    learn = part(pairs, splits[1]["train"], "A.4")
    expected = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
        LogisticRegression(class_weight="balanced", max_iter=1000),
    ).fit(texts[learn["post_id"]], learn["label"])
    rows = table[(table["model"] == "tfidf") & (table["fold"] == 1) & (table["criterion_id"] == "A.4")]
    assert len(rows) == len(splits[1]["held_out"])
    np.testing.assert_allclose(rows["logit"], expected.decision_function(texts[rows["post_id"]]), atol=1e-5)


def test_embedding_is_a_regression_on_the_frozen_models_states(
    table: pd.DataFrame,
    posts: pd.DataFrame,
    pairs: pd.DataFrame,
    splits: list[dict[str, Any]],
    tiny_base: BaseModel,
    tiny_config: Config,
) -> None:
    model, tokenizer = load_base(tiny_base, torch.float32)
    prompter = Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)
    states = pd.DataFrame(
        embed_posts(model, prompter, posts["post_id"].tolist(), posts["text"].tolist(), 1), posts["post_id"]
    )
    learn = part(pairs, splits[0]["train"], "A.1")
    expected = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)).fit(
        states.loc[learn["post_id"]], learn["label"]
    )
    rows = table[(table["model"] == "embedding") & (table["fold"] == 0) & (table["criterion_id"] == "A.1")]
    found = expected.decision_function(states.loc[rows["post_id"]])
    assert rows["logit"].std() > 0.5
    np.testing.assert_allclose(rows["logit"], found, atol=0.02)


def test_a_baseline_learns_from_the_words(table: pd.DataFrame) -> None:
    rows = table[table["model"] == "tfidf"]
    assert (rows["prediction"] == rows["label"]).mean() > 0.8


@given(st.data())
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_held_out_labels_do_not_change_their_own_predictions(
    fit: Fit, table: pd.DataFrame, pairs: pd.DataFrame, splits: list[dict[str, Any]], data: st.DataObject
) -> None:
    held_out = pairs["post_id"].isin(splits[0]["held_out"])
    labels = data.draw(st.lists(st.integers(0, 1), min_size=int(held_out.sum()), max_size=int(held_out.sum())))
    changed = pairs.copy()
    changed.loc[held_out, "label"] = np.array(labels, dtype="int8")
    again = fit(splits[:1], changed)
    pd.testing.assert_frame_equal(again[LEARNT], table.loc[table["fold"] == 0, LEARNT].reset_index(drop=True))


def test_training_and_dev_labels_do_change_predictions(
    fit: Fit, table: pd.DataFrame, pairs: pd.DataFrame, splits: list[dict[str, Any]]
) -> None:
    before = table[table["fold"] == 0]
    for name, column in (("train", "logit"), ("dev", "probability")):
        reversed_labels = pairs["label"].where(~pairs["post_id"].isin(splits[0][name]), 1 - pairs["label"])
        again = fit(splits[:1], pairs.assign(label=reversed_labels))
        assert np.abs(again[column].to_numpy() - before[column].to_numpy()).min() > 1e-4


def test_they_learn_from_the_same_sample_of_posts_as_the_model(fit: Fit, splits: list[dict[str, Any]]) -> None:
    split = splits[1]
    chosen = learnt_from(split, 0.5)
    pd.testing.assert_frame_equal(fit([split], fraction=0.5), fit([{**split, **chosen}]))


@pytest.mark.parametrize("model", ["tfidf", "embedding"])
def test_threshold_and_calibration_come_from_the_dev_pairs_by_the_models_rule(
    fit: Fit, table: pd.DataFrame, splits: list[dict[str, Any]], model: str
) -> None:
    """The dev posts, passed as held-out posts too, show their scores."""
    dev = fit([{**splits[2], "held_out": splits[2]["dev"]}], models=[model])
    rows = table[(table["model"] == model) & (table["fold"] == 2)]
    choice = best_threshold(dev["label"], dev["probability"])
    assert set(rows["threshold"]) == set(dev["threshold"]) == {choice.threshold}
    assert rows["prediction"].tolist() == (rows["probability"] >= choice.threshold).astype(int).tolist()

    log_odds = np.log(dev["probability"] / (1 - dev["probability"]))
    slope, intercept = np.polyfit(dev["logit"], log_odds, 1)
    np.testing.assert_allclose(rows["probability"], expit(slope * rows["logit"] + intercept), atol=1e-6)
    # At the optimum of Platt's likelihood, probabilities and targets have the same sum, also when weighted by the
    # logits. The logits are divided by their spread, the unit in which the solver stops.
    n_positive, n_negative = dev["label"].sum(), (1 - dev["label"]).sum()
    target = np.where(dev["label"] == 1, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    residual = dev["probability"] - target
    assert residual.mean() == pytest.approx(0, abs=1e-4)
    assert (residual * dev["logit"]).mean() / dev["logit"].std() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("model", ["tfidf", "embedding"])
@pytest.mark.parametrize("label", [0, 1])
def test_a_criterion_with_one_label_is_predicted_at_its_rate(
    fit: Fit,
    table: pd.DataFrame,
    pairs: pd.DataFrame,
    splits: list[dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
    model: str,
    label: int,
) -> None:
    pairs = pairs.copy()
    learn = part(pairs, splits[0]["train"], "A.6")
    pairs.loc[learn.index, "label"] = label
    with caplog.at_level(logging.WARNING):
        found = fit(splits[:1], pairs, [model])
    constant = found["criterion_id"] == "A.6"
    n = len(learn)
    assert set(found.loc[constant, "logit"]) == {np.log((n * label + 0.5) / (n * (1 - label) + 0.5))}
    others = table[(table["model"] == model) & (table["fold"] == 0) & (table["criterion_id"] != "A.6")]
    assert found.loc[~constant, "logit"].tolist() == others["logit"].tolist()
    assert "fold 0: the baselines predict one constant for A.6, whose" in caplog.text


def test_a_criterion_without_a_training_pair_is_undecided(
    fit: Fit, pairs: pd.DataFrame, splits: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    known = pairs.drop(part(pairs, splits[0]["train"] + splits[0]["dev"], "A.1").index)
    found = fit(splits[:1], known)
    assert set(found.loc[found["criterion_id"] == "A.1", "logit"]) == {0.0}
    assert "constant for A.1," in caplog.text


def test_missing_pairs_are_neither_used_for_training_nor_scored(
    fit: Fit, pairs: pd.DataFrame, splits: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    known = pairs.sample(frac=0.6, random_state=3)
    found = fit(splits, known)
    for _, rows in found.groupby("model"):
        pd.testing.assert_frame_equal(
            rows[FACTS].sort_values(FACTS, ignore_index=True), known[FACTS].sort_values(FACTS, ignore_index=True)
        )
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_dev_split_with_one_label_calibrates_nothing(
    fit: Fit, pairs: pd.DataFrame, splits: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    negative = pairs["label"].where(~pairs["post_id"].isin(splits[0]["dev"]), 0)
    found = fit(splits[:1], pairs.assign(label=negative))
    assert set(found["threshold"]) == {0.5}
    np.testing.assert_allclose(found["probability"], expit(found["logit"]))
    assert "dev pairs" in caplog.text


def test_one_training_post_is_enough_to_run(
    fit: Fit, splits: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    found = fit(splits[:1], fraction=0.001)
    BASELINE_SCHEMA.validate(found)
    assert found.groupby(["model", "criterion_id"])["logit"].nunique().eq(1).all()
    assert "baseline tfidf: the training posts share no word" in caplog.text


def test_lengths_are_those_of_the_prompt(
    table: pd.DataFrame, posts: pd.DataFrame, tiny_base: BaseModel, tiny_config: Config
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base.folder)
    prompter = Prompter(tokenizer, tiny_config.model.prompt, CRITERIA, tiny_config.model.max_length)
    empty = len(prompter.example("p", "").prefix) - len(tokenizer("post: ")["input_ids"])
    for post_id, rows in table.groupby("post_id"):
        example = prompter.example(post_id, posts.set_index("post_id").loc[post_id, "text"])
        assert set(rows["truncated"]) == {example.truncated}
        assert set(rows["post_tokens"]) == {len(example.prefix) - empty}
    assert set(table.loc[table["truncated"], "post_id"]) == {"s_9_0"}


def test_posts_are_read_once_for_all_folds(
    fit: Fit, splits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def embed(*arguments: Any, **named: Any) -> Any:
        calls.append(len(arguments[2]))
        return embed_posts(*arguments, **named)

    monkeypatch.setattr(learned_baselines, "embed_posts", embed)
    fit(splits)
    assert calls == [56]


def test_only_the_embedding_needs_weights(
    fit: Fit, table: pd.DataFrame, splits: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(learned_baselines, "load_base", load)
    words = table[table["model"] == "tfidf"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fit(splits, models=["tfidf"]), words)


def test_without_baselines_the_table_has_no_row_and_nothing_is_read(
    fit: Fit, table: pd.DataFrame, splits: list[dict[str, Any]]
) -> None:
    found = fit(splits, models=[], base=BaseModel("none", "hub", "/nowhere", ""))
    BASELINE_SCHEMA.validate(found)
    assert len(found) == 0
    assert found.dtypes.equals(table.dtypes)


def test_the_log_says_how_long_it_took_and_no_word_of_a_post(
    fit: Fit, splits: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fit(splits)
    assert "baselines tfidf and embedding on 3 folds: " in caplog.text
    assert not any(phrase in caplog.text for phrase in [*PHRASES.values(), "soup"])
