"""The content of each fold that `make_folds` returns, and the assignment of groups to folds."""

import logging
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentallam.corpus.folds import FOLD_PARTS, FoldOptions, FoldSplit, _deal, make_folds


def table(n_posts: int, n_criteria: int, rate: float, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make pairs of posts with every criterion, and one group per post."""
    rng = np.random.default_rng(seed)
    post_ids = [f"p{number:03}" for number in range(n_posts)]
    pairs = pd.MultiIndex.from_product(
        [post_ids, [f"A.{k}" for k in range(n_criteria)]], names=["post_id", "criterion_id"]
    ).to_frame(index=False)
    pairs["label"] = (rng.random(len(pairs)) < rate).astype("int8")
    pairs.loc[pairs["post_id"].isin(post_ids[:3]), "label"] = 1
    return pairs, pd.DataFrame({"post_id": post_ids, "group": post_ids})


def dealt(n_folds: int = 4, **options: int) -> list[FoldSplit]:
    pairs, groups = table(48, 2, 0.3, 0)
    chosen = FoldOptions.model_validate({"seed": 7, "group_by": "post_id", "dev_splits": 3, **options})
    return make_folds(pairs, groups, chosen, n_folds, "hash of the data")


def test_a_fold_says_from_what_it_was_made() -> None:
    for number, fold in enumerate(dealt()):
        assert (fold["fold"], fold["n_folds"], fold["seed"], fold["dev_splits"]) == (number, 4, 7, 3)
        assert (fold["group_by"], fold["data_hash"]) == ("post_id", "hash of the data")
        assert list(fold["groups"]) == list(fold["label_distribution"]) == list(FOLD_PARTS)


def test_a_dev_part_has_its_share_of_the_training_posts() -> None:
    """48 posts in 4 folds leave 36, of which a third or a half is the dev split."""
    for dev_splits, share in ((3, 12), (2, 18)):
        assert {len(fold["held_out"]) for fold in dealt(dev_splits=dev_splits)} <= {11, 12, 13}
        assert all(abs(len(fold["dev"]) - share) <= 1 for fold in dealt(dev_splits=dev_splits))


def test_each_fold_draws_its_dev_part_anew() -> None:
    """The dev splits of two folds share no more posts than chance predicts."""
    folds = dealt()
    for one, other in pairwise(folds):
        assert set(one["dev"]) != set(other["dev"])
        both = set(one["train"]) | set(one["dev"])
        assert not set(one["held_out"]) & both and len(both) == 48 - len(one["held_out"])


def test_the_labels_of_every_part_are_counted() -> None:
    pairs, groups = table(48, 2, 0.3, 0)
    [fold, *_] = make_folds(pairs, groups, FoldOptions(seed=7, group_by="post_id", dev_splits=3), 4, "")
    for part in FOLD_PARTS:
        posts: list[str] = fold[part]  # type: ignore[literal-required]
        by_criterion = pairs[pairs["post_id"].isin(posts)].groupby("criterion_id")["label"]
        assert fold["groups"][part] == len(posts)
        assert fold["label_distribution"][part] == {
            name: {"positive": int(labels.sum()), "negative": int((1 - labels).sum())} for name, labels in by_criterion
        }


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 5), st.integers(1, 3))
def test_every_class_is_spread_over_the_folds_as_evenly_as_posts_allow(
    seed: int, n_folds: int, n_criteria: int
) -> None:
    """With one criterion and one post per group a perfect split exists: counts differ by one at most."""
    pairs, groups = table(60, n_criteria, 0.4, seed)
    folds = make_folds(pairs, groups, FoldOptions(seed=seed, group_by="post_id", dev_splits=2), n_folds, "")
    positives = [fold["label_distribution"]["held_out"]["A.0"]["positive"] for fold in folds]
    sizes = [len(fold["held_out"]) for fold in folds]
    assert max(positives) - min(positives) <= (1 if n_criteria == 1 else 3)
    assert max(sizes) - min(sizes) <= (2 if n_criteria == 1 else 5)


def test_there_may_be_as_many_folds_as_groups() -> None:
    pairs, groups = table(6, 1, 0.5, 0)
    folds = make_folds(pairs, groups, FoldOptions(seed=0, group_by="post_id", dev_splits=5), 6, "")
    assert sorted(post for fold in folds for post in fold["held_out"]) == groups["post_id"].tolist()
    assert [len(fold["held_out"]) for fold in folds] == [len(fold["dev"]) for fold in folds] == [1] * 6


def test_equal_groups_are_dealt_in_turn() -> None:
    assert _deal(np.array([[1.0, 2.0]] * 6), 3).tolist() == [0, 1, 2, 0, 1, 2]


def test_the_most_uneven_group_is_dealt_first() -> None:
    assert _deal(np.array([[1.0, 1.0], [9.0, 1.0]]), 2).tolist() == [1, 0]


@pytest.mark.parametrize(("n_groups", "named"), [(4, "A.0 (3)"), (3, "")])
def test_a_criterion_with_fewer_positive_groups_than_folds_is_named(
    n_groups: int, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    post_ids = [f"p{number:02}" for number in range(12)]
    pairs = pd.DataFrame({"post_id": post_ids, "criterion_id": "A.0", "label": [1, 1, 1] + [0] * 9})
    groups = pd.DataFrame({"post_id": post_ids, "group": post_ids})
    with caplog.at_level(logging.WARNING):
        make_folds(pairs, groups, FoldOptions(seed=0, group_by="post_id", dev_splits=2), n_groups, "")
    assert named in caplog.text
    assert bool(named) == bool(caplog.text)
