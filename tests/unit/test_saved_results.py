from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from mentallam.config import Config, deciding, to_dict
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions
from mentallam.corpus.manifest import CorpusLabel, build_manifest
from mentallam.saved_results import change_of_config, change_of_data, change_of_fold

FRAMES = {
    "posts": pd.DataFrame({"post_id": ["p1", "p2"], "text": ["a", "b"]}),
    "criteria": pd.DataFrame({"criterion_id": ["A.1"], "text": ["c"]}),
    "pairs": pd.DataFrame(
        {"post_id": ["p1", "p2"], "criterion_id": ["A.1", "A.1"], "label": [0, 1], "explicit_negative": False}
    ),
    "groups": pd.DataFrame({"post_id": ["p1", "p2"], "group": ["p1", "p2"]}),
}
CLEANING, FOLDS = CleaningOptions(mask=False), FoldOptions(seed=42, group_by="post_id", dev_splits=5)
LABEL = CorpusLabel(name="diaries", synthetic=False)
MANIFEST = build_manifest(
    {"format": "redsm5", "folder": "sample", "files": []}, LABEL, CLEANING, FOLDS, {}, {"found": {"posts": 2}}, **FRAMES
)
HASH = MANIFEST["data_hash"]
SPLIT: Any = {"data_hash": HASH, "seed": 42, "dev_splits": 5, "n_folds": 2, "dev": ["p1"], "held_out": ["p2"]}


def changed(
    saved: dict[str, Any],
    cleaning: CleaningOptions = CLEANING,
    folds: FoldOptions = FOLDS,
    n_folds: int = 2,
) -> str | None:
    return change_of_data(MANIFEST, saved, saved.__getitem__, cleaning, folds, n_folds)


SAVED = {**FRAMES, "data_manifest": MANIFEST, "fold_0_split": SPLIT, "data_statistics": {"data_hash": HASH}}


def test_the_name_of_the_corpus_where_one_is_given() -> None:
    saved = {"data_manifest": MANIFEST}
    for name, sentence in (("diaries", None), ("other", "corpus_label.name has changed from 'diaries' to 'other'")):
        label = CorpusLabel(name=name, synthetic=False)
        assert change_of_data(MANIFEST, saved, saved.__getitem__, CLEANING, FOLDS, 2, label) == sentence
        assert change_of_data(MANIFEST, [], saved.__getitem__, CLEANING, FOLDS, 2, label) is None


def test_a_manifest_of_an_older_version_names_no_corpus() -> None:
    older: Any = {name: value for name, value in MANIFEST.items() if name != "corpus"}
    saved = {"data_manifest": older}
    sentence = "the content of data_manifest has changed"
    assert change_of_data(older, saved, saved.__getitem__, CLEANING, FOLDS, 2) == sentence


def test_what_fits() -> None:
    assert changed(SAVED) is None
    assert changed({}, CleaningOptions(mask=True), n_folds=7) is None  # the run makes everything again


@pytest.mark.parametrize(
    ("check", "sentence"),
    [
        (
            lambda: changed({**SAVED, "posts": FRAMES["posts"].assign(text="x")}),
            "the dataset posts has changed",
        ),
        (
            lambda: changed({**SAVED, "data_statistics": {"data_hash": "other"}}),
            "other data have been prepared than those of data_statistics",
        ),
        (lambda: changed(SAVED, folds=FOLDS.model_copy(update={"seed": 7})), "folds.seed has changed from 42 to 7"),
        (lambda: changed(SAVED, n_folds=3), "MENTALLAM_CV_FOLDS has changed from 2 to 3"),
        (
            lambda: changed(SAVED, cleaning=CleaningOptions(mask=True)),
            "cleaning.mask has changed from False to True",
        ),
        (
            # `--only-missing-outputs` would make the posts again, and keep a manifest that says otherwise.
            lambda: changed({"data_manifest": MANIFEST}, cleaning=CleaningOptions(mask=True)),
            "cleaning.mask has changed from False to True",
        ),
    ],
)
def test_what_has_changed_is_named(check: Callable[[], str | None], sentence: str) -> None:
    assert check() == sentence


def test_a_configuration_that_has_changed(tiny_config: Config) -> None:
    assert change_of_config(tiny_config, tiny_config) is None
    saved = replace(tiny_config, training=replace(tiny_config.training, max_epochs=77))
    expected = f"training.max_epochs has changed from 77 to {tiny_config.training.max_epochs}"
    assert change_of_config(saved, tiny_config) == expected


def test_a_key_that_changes_no_result_makes_no_configuration_stale(tiny_config: Config) -> None:
    others = replace(tiny_config.training, save_minutes=1.0, on_divergence="keep_best")
    changed = replace(tiny_config, training=others)
    assert change_of_config(tiny_config, changed) is None
    left_out = {"save_minutes", "on_divergence"}
    assert to_dict(changed)["training"].keys() - deciding(changed)["training"].keys() == left_out
    assert deciding(changed) == deciding(tiny_config)


@pytest.fixture
def facts(tiny_config: Config) -> dict[str, Any]:
    return {"origin": {"data_hash": HASH}, "config": to_dict(tiny_config)}


def test_a_fold_that_fits(tiny_config: Config, facts: dict[str, Any]) -> None:
    assert change_of_fold(SPLIT, tiny_config, facts, {"p1"}, {"p2"}) is None
    assert change_of_fold(SPLIT, tiny_config, None, None, None) is None
    assert change_of_fold(SPLIT, tiny_config, facts, set(), {"p2"}) is None  # a sample of the dev split
    del facts["config"]["training"]["deterministic"]  # a checkpoint from before this key has its default
    assert change_of_fold(SPLIT, tiny_config, facts, {"p1"}, {"p2"}) is None


@pytest.mark.parametrize(
    ("changes", "dev", "held_out", "sentence"),
    [
        ({"origin": {"data_hash": "other"}}, {"p1"}, {"p2"}, "the data have changed"),
        ({}, {"p2"}, {"p2"}, "its dev split has changed"),
        ({}, {"p1", "p3"}, {"p2"}, "its dev split has changed"),
        ({}, {"p1"}, {"p1"}, "its held-out posts have changed"),
        ({}, {"p1"}, set(), "its held-out posts have changed"),
    ],
)
def test_a_fold_of_other_data_or_folds(
    tiny_config: Config,
    facts: dict[str, Any],
    changes: dict[str, Any],
    dev: set[str],
    held_out: set[str],
    sentence: str,
) -> None:
    assert change_of_fold(SPLIT, tiny_config, {**facts, **changes}, dev, held_out) == sentence


def test_a_fold_of_another_configuration(tiny_config: Config, facts: dict[str, Any]) -> None:
    facts["config"]["training"]["max_epochs"] = 1
    sentence = "training.max_epochs has changed from 1 to 2"
    assert change_of_fold(SPLIT, tiny_config, facts, {"p1"}, {"p2"}) == sentence
