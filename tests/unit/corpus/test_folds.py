import json
import logging
import re
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mentallam.corpus import folds as corpus_folds
from mentallam.corpus.folds import PARTS, FoldOptions, FoldSplit, _deal, make_folds
from mentallam.corpus.groups import author_of, group_posts
from mentallam.errors import MentallamError

OPTIONS = FoldOptions(seed=42, group_by="post_id", dev_splits=5)


def pairs_of(labels: dict[str, list[int]]) -> pd.DataFrame:
    """Pairs from {post_id: labels of criteria A.1, A.2, ...}."""
    rows = [
        (post_id, f"A.{number}", label) for post_id, row in labels.items() for number, label in enumerate(row, start=1)
    ]
    frame = pd.DataFrame(rows, columns=["post_id", "criterion_id", "label"])
    return frame.astype({"label": "int8"}).assign(explicit_negative=False)


def groups_of(pairs: pd.DataFrame, group_by: str = "post_id", duplicates: pd.DataFrame | None = None) -> pd.DataFrame:
    posts = pairs[["post_id"]].drop_duplicates()
    return group_posts(posts.assign(author=author_of(posts["post_id"])), group_by, duplicates)


def folds_of(pairs: pd.DataFrame, options: FoldOptions, n_folds: int, data_hash: str = "hash") -> list[FoldSplit]:
    return make_folds(pairs, groups_of(pairs, options.group_by), options, n_folds, data_hash)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    n_posts, n_criteria = draw(st.integers(25, 60)), draw(st.integers(1, 4))
    labels = st.lists(st.integers(0, 1), min_size=n_criteria, max_size=n_criteria)
    return pairs_of({f"s_{number // 2}_{number}": draw(labels) for number in range(n_posts)})


def options() -> st.SearchStrategy[FoldOptions]:
    return st.builds(
        FoldOptions,
        seed=st.integers(0, 1000),
        group_by=st.sampled_from(["post_id", "author"]),
        dev_splits=st.integers(2, 4),
    )


@settings(deadline=None, max_examples=25)
@given(tables(), options(), st.integers(2, 5), st.lists(st.tuples(st.integers(0, 24), st.integers(0, 24)), max_size=5))
def test_properties(pairs: pd.DataFrame, options: FoldOptions, n_folds: int, alike: list[tuple[int, int]]) -> None:
    post_ids = pairs["post_id"].drop_duplicates(ignore_index=True)
    links = [(post_ids[one], post_ids[other]) for one, other in alike]
    grouped = groups_of(pairs, options.group_by, pd.DataFrame(links, columns=["post_id", "duplicate_of"], dtype=str))
    try:
        folds = make_folds(pairs, grouped, options, n_folds, "hash")
    except MentallamError as error:  # rightly so where links have left a fold fewer groups than dev splits
        n_groups, n_splits = map(int, re.findall(r"\d+", error.message)[:2])
        assert n_groups < n_splits
        return
    group = dict(zip(grouped["post_id"], grouped["group"], strict=True))
    assert all(group[one] == group[other] for one, other in links)

    # Every post, and so every pair, is held out exactly once.
    assert Counter(post for fold in folds for post in fold["held_out"]) == Counter(post_ids)
    for fold in folds:
        parts = {name: fold[name] for name in PARTS}  # type: ignore[literal-required]
        assert Counter(post for posts in parts.values() for post in posts) == Counter(post_ids)
        groups = {name: {group[post] for post in posts} for name, posts in parts.items()}
        assert not groups["train"] & groups["dev"]
        assert not groups["train"] & groups["held_out"]
        assert not groups["dev"] & groups["held_out"]
        assert fold["groups"] == {name: len(members) for name, members in groups.items()}
        for name, posts in parts.items():
            assert posts == sorted(posts)
            assert posts
            part = pairs[pairs["post_id"].isin(posts)]
            for criterion_id, counts in fold["label_distribution"][name].items():
                labels = part[part["criterion_id"] == criterion_id]["label"]
                assert counts == {"positive": labels.sum(), "negative": (labels == 0).sum()}

    # The order of the rows does not matter, and the same seed gives the same folds.
    shuffled = pairs.sample(frac=1, random_state=3), grouped.sample(frac=1, random_state=4)
    assert make_folds(*shuffled, options, n_folds, "hash") == folds
    assert json.loads(json.dumps(folds)) == folds


@pytest.mark.parametrize("seed", range(12))
def test_groups_go_where_scikit_learn_puts_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_groups, n_criteria, n_splits = rng.integers(20, 150), rng.integers(1, 13), int(rng.integers(2, 7))
    n_posts = rng.integers(1, 4, n_groups)  # of each group, with one label per criterion each
    group = np.repeat(np.arange(n_groups), n_posts * n_criteria)
    label = rng.random(len(group)) < rng.choice([0.05, 0.3])
    label_class = 2 * np.tile(np.arange(n_criteria), n_posts.sum()) + label
    counts = np.zeros((n_groups, 2 * n_criteria))
    np.add.at(counts, (group, label_class), 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y")
        expected = list(StratifiedGroupKFold(n_splits).split(group, label_class, group))
    fold = _deal(counts[:, counts.any(axis=0)].copy("C"), n_splits)
    for number, (_, held_out) in enumerate(expected):
        assert set(group[held_out]) == set(np.flatnonzero(fold == number))


def spread(folds: list[FoldSplit], part: str) -> dict[str, list[int]]:
    criteria = folds[0]["label_distribution"][part]
    return {name: [fold["label_distribution"][part][name]["positive"] for fold in folds] for name in criteria}


def test_positives_of_a_rare_criterion_are_spread() -> None:
    # Without stratification, as with shuffle=True of scikit-learn 1.7, some seed leaves a fold without any.
    pairs = pairs_of({f"p{number:02}": [int(number < 10), int(number % 2)] for number in range(50)})
    for seed in range(10):
        folds = folds_of(pairs, OPTIONS.model_copy(update={"seed": seed}), 5, "hash")
        found = spread(folds, "held_out")
        assert found["A.1"] == [2] * 5
        assert set(found["A.2"]) <= {4, 5, 6}
        assert min(spread(folds, "dev")["A.1"]) >= 1
        assert {len(fold["held_out"]) for fold in folds} <= {9, 10, 11}


def test_folds_are_the_same_on_every_machine() -> None:
    pairs = pairs_of({f"p{number:02}": [int(number % 3 == 0)] for number in range(12)})
    folds = folds_of(pairs, FoldOptions(seed=42, group_by="post_id", dev_splits=2), 3, "hash")
    assert [fold["held_out"] for fold in folds] == [
        ["p01", "p02", "p08", "p09"], ["p00", "p06", "p10", "p11"], ["p03", "p04", "p05", "p07"]
    ]  # fmt: skip
    assert [fold["dev"] for fold in folds] == [
        ["p03", "p07", "p10", "p11"], ["p01", "p03", "p04", "p07"], ["p02", "p08", "p09", "p10"]
    ]  # fmt: skip


def test_another_seed_gives_other_folds() -> None:
    pairs = pairs_of({f"p{number:02}": [int(number % 3 == 0)] for number in range(30)})
    first, second = (
        folds_of(pairs, OPTIONS.model_copy(update={"seed": seed}), 5, "hash")[0]["held_out"] for seed in (1, 2)
    )
    assert first != second


def test_two_seeds_share_no_dev_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fold's number added to the seed, fold 1 of seed 42 was shuffled as fold 0 of seed 43."""
    seeds: list[int] = []
    original = corpus_folds._split
    monkeypatch.setattr(corpus_folds, "_split", lambda *args: seeds.append(args[2]) or original(*args))
    pairs = pairs_of({f"p{number:02}": [number % 2] for number in range(30)})
    for seed in (42, 43):
        folds_of(pairs, OPTIONS.model_copy(update={"seed": seed}), 5, "hash")
    assert len(seeds) == 2 * 6
    assert len(set(seeds)) == len(seeds)


def test_fold_carries_its_origin() -> None:
    pairs = pairs_of({f"p{number:02}": [number % 2] for number in range(30)})
    fold = folds_of(pairs, OPTIONS, 5, "abc")[3]
    assert {key: fold[key] for key in ("fold", "n_folds", "seed", "group_by", "data_hash")} == {  # type: ignore[literal-required]
        "fold": 3, "n_folds": 5, "seed": 42, "group_by": "post_id", "data_hash": "abc"
    }  # fmt: skip


def test_rare_criteria_are_named_once_and_scikit_learn_stays_silent(caplog: pytest.LogCaptureFixture) -> None:
    pairs = pairs_of({f"p{number:02}": [int(number < 3), 0, number % 2] for number in range(30)})
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        folds_of(pairs, OPTIONS, 5, "hash")
    assert [record.getMessage() for record in caplog.records] == [
        "Criteria with positives in fewer groups than the 5 folds, so some folds hold none: A.1 (3), A.2 (0)"
    ]


def test_positives_of_one_author_are_one_group(caplog: pytest.LogCaptureFixture) -> None:
    pairs = pairs_of({f"s_{number // 5}_{number}": [int(number < 10), number % 2] for number in range(60)})
    folds_of(pairs, OPTIONS.model_copy(update={"group_by": "author", "dev_splits": 2}), 5, "hash")
    assert "A.1 (2)" in caplog.text


@pytest.mark.parametrize(
    ("n_posts", "n_folds", "dev_splits"), [(4, 5, 2), (6, 3, 5), (1, 2, 2), (30, 1, 2), (30, 0, 2)]
)
def test_too_few_groups_or_folds(n_posts: int, n_folds: int, dev_splits: int) -> None:
    pairs = pairs_of({f"p{number}": [number % 2] for number in range(n_posts)})
    with pytest.raises(MentallamError, match="groups are too few"):
        folds_of(pairs, OPTIONS.model_copy(update={"dev_splits": dev_splits}), n_folds, "hash")


@pytest.mark.parametrize(
    "change",
    [
        {"group_by": "day"},
        {"dev_splits": 1},
        {"seed": -1},
        {"seed": 2**32},
        {"sed": 1},
        {"seed": None},
        {"duplicates": "drop"},
        {"near_duplicate_threshold": 0.4},
        {"near_duplicate_threshold": 1.1},
    ],
)
def test_options_are_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        FoldOptions.model_validate({"seed": 42, "group_by": "post_id", "dev_splits": 5, **change})
