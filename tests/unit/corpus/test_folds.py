import json
import logging
import re
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mentallam.corpus import folds as corpus_folds
from mentallam.corpus.folds import (
    FOLD_PARTS,
    FoldOptions,
    FoldSplit,
    _check_balance,
    _deal,
    _most_even,
    check_parts,
    criterion_balance,
    fold_balance,
    make_folds,
    parts_without,
)
from mentallam.corpus.groups import author_of, group_posts
from mentallam.errors import MentallamError

OPTIONS = FoldOptions(seed=42, group_by="post_id", dev_splits=5)


def pairs_of(labels: dict[str, list[int]]) -> pd.DataFrame:
    """Make pairs from {post_id: labels of criteria A.1, A.2, ...}."""
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
    except MentallamError as error:  # correct if links leave a fold fewer groups than dev splits
        n_groups, n_splits = map(int, re.findall(r"(\d+) groups .* for (\d+) ", error.message)[0])
        assert n_groups < n_splits
        return
    group = dict(zip(grouped["post_id"], grouped["group"], strict=True))
    assert all(group[one] == group[other] for one, other in links)

    # Every post, and so every pair, is held out exactly once.
    assert Counter(post for fold in folds for post in fold["held_out"]) == Counter(post_ids)
    for fold in folds:
        parts = {name: fold[name] for name in FOLD_PARTS}  # type: ignore[literal-required]
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
    """A sum of seed and fold number would shuffle fold 1 of seed 42 like fold 0 of seed 43."""
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
    with pytest.raises(MentallamError, match="are too few|at least 2|a single group"):
        folds_of(pairs, OPTIONS.model_copy(update={"dev_splits": dev_splits}), n_folds, "hash")


def test_too_few_groups_are_told_from_too_few_posts() -> None:
    pairs = pairs_of({f"s_{number // 5}_{number}": [number % 2] for number in range(20)})
    by_author = OPTIONS.model_copy(update={"group_by": "author"})
    with pytest.raises(MentallamError, match=r"^4 groups \(20 posts\) are too few for 5 folds \(MENTALLAM_CV_FOLDS\);"):
        folds_of(pairs, by_author, 5)
    with pytest.raises(MentallamError, match=r"^3 groups \(15 posts\) are too few for 5 dev splits of fold 0 \(folds"):
        folds_of(pairs, by_author, 4)
    with pytest.raises(MentallamError, match=r"^1 folds \(MENTALLAM_CV_FOLDS\): there must be at least 2$"):
        folds_of(pairs, by_author, 1)


def test_a_warning_names_ten_criteria(caplog: pytest.LogCaptureFixture) -> None:
    folds_of(pairs_of({f"p{number:02}": [number % 2] + [int(number == 7)] * 10 for number in range(30)}), OPTIONS, 5)
    assert caplog.messages[0].count(" (1)") == 10
    assert caplog.messages[0].endswith(" (1)")
    caplog.clear()
    folds_of(pairs_of({f"p{number:02}": [number % 2] + [int(number == 7)] * 13 for number in range(30)}), OPTIONS, 5)
    assert caplog.messages[0].count(" (1)") == 10
    assert caplog.messages[0].endswith(" (1) and 3 more")


def by_one_author(n_of_author: int, n_posts: int = 60) -> pd.DataFrame:
    """Make posts of which every third is positive; one author wrote the first ones, other authors one each."""
    authors = [0] * n_of_author + list(range(1, n_posts - n_of_author + 1))
    return pairs_of({f"s_{author}_{number:02}": [int(number % 3 == 0)] for number, author in enumerate(authors)})


AUTHORS = FoldOptions(seed=42, group_by="author", dev_splits=5)


def test_one_author_with_most_posts_is_refused() -> None:
    with pytest.raises(MentallamError) as caught:
        folds_of(by_one_author(50), AUTHORS, 5)
    assert caught.value.message == (
        "fold 0 holds out 50 of 60 posts, 83% instead of 20% (its largest group, 0, has 50): that is more than "
        "folds.max_share allows; leave out posts of that group, use fewer folds (MENTALLAM_CV_FOLDS) or "
        "folds.group_by=post_id, or allow it: folds.max_share=0.84"
    )
    folds_of(by_one_author(50), AUTHORS.model_copy(update={"max_share": 0.84}), 5)
    folds_of(by_one_author(50), OPTIONS, 5)


def test_copies_of_one_post_are_refused_like_one_author() -> None:
    pairs = pairs_of({f"p{number:02}": [int(number % 3 == 0)] for number in range(60)})
    links = pd.DataFrame([("p00", f"p{number:02}") for number in range(1, 40)], columns=["post_id", "duplicate_of"])
    with pytest.raises(MentallamError, match=r"its largest group, p00, has 40\).* or folds.duplicates=report"):
        make_folds(pairs, groups_of(pairs, "post_id", links), OPTIONS, 5, "hash")


@pytest.mark.parametrize(
    ("sizes", "outcome"),
    [
        ([12, 15, 11, 11, 11], ""),  # a quarter is 1.25 times a fifth
        ([12, 16, 11, 11, 10], "warned"),
        ([10, 30, 10, 5, 5], "warned"),  # half
        ([10, 31, 9, 5, 5], "refused"),
        ([22, 38], "warned"),
        ([23, 37], ""),  # 1.25 times a half are 37.5
        ([15, 45], "warned"),  # three quarters are 1.5 times a half
        ([14, 46], "refused"),
    ],
)
def test_bounds_of_balance(sizes: list[int], outcome: str, caplog: pytest.LogCaptureFixture) -> None:
    post_ids = np.array([f"p{number}" for number in range(60)])
    folds: list[Any] = [
        {"fold": fold, "held_out": part.tolist()} for fold, part in enumerate(np.split(post_ids, np.cumsum(sizes)[:-1]))
    ]
    largest = {"fold": 1, "posts": sizes[1], "share": sizes[1] / 60, "equal_share": 1 / len(sizes)}
    assert fold_balance(folds) == {**largest, "uneven": bool(outcome)}
    # Fold 1 is by author b except for one post; each other fold is by one author.
    group = [
        f"a{fold}" if fold != 1 else ("b" if number else "c") for fold, n in enumerate(sizes) for number in range(n)
    ]
    groups = pd.DataFrame({"post_id": post_ids, "group": group})
    share = f"{100 * sizes[1] / 60:.0f}% instead of {100 / len(sizes):.0f}%"
    told = f"fold 1 holds out {sizes[1]} of 60 posts, {share} (its largest group, b, has {sizes[1] - 1})"
    if outcome == "refused":
        with pytest.raises(MentallamError, match=re.escape(f"{told}: that is more than folds.max_share allows")):
            _check_balance(folds, groups, AUTHORS)
        _check_balance(folds, groups, AUTHORS.model_copy(update={"max_share": 0.78}))
    else:
        _check_balance(folds, groups, AUTHORS)
    assert caplog.messages == ([told] if outcome else [])


def test_balance_of_each_criterion() -> None:
    held_out = [
        {"A.1": {"positive": 1, "negative": 3}, "A.2": {"positive": 0, "negative": 2}},
        {"A.1": {"positive": 3, "negative": 1}},
    ]
    folds: list[Any] = [{"label_distribution": {"held_out": labels}} for labels in held_out]
    assert criterion_balance(folds) == {
        "A.1": {"positive": [1, 3], "pairs": [4, 4], "rate": 0.5, "deviations": [-0.25, 0.25]},
        "A.2": {"positive": [0, 0], "pairs": [2, 0], "rate": 0.0, "deviations": [0.0, None]},
    }


def test_few_posts_need_not_divide_evenly(caplog: pytest.LogCaptureFixture) -> None:
    folds = folds_of(pairs_of({f"p{number}": [1] for number in range(7)}), OPTIONS, 5)
    assert fold_balance(folds) == {"fold": 0, "posts": 2, "share": 2 / 7, "equal_share": 0.2, "uneven": False}
    assert "holds out" not in caplog.text
    assert len(folds[4]["dev"]) == 2  # six posts, split into five parts


def test_the_largest_group_is_learnt_from_rather_than_chosen_on() -> None:
    """The largest group is assigned first, to the first split, which would become the dev split."""
    for fold in folds_of(by_one_author(20), AUTHORS, 5)[1:]:
        assert sum(post.startswith("s_0_") for post in fold["train"]) == 20
        assert 5 <= len(fold["dev"]) <= 12


def test_of_dev_parts_that_are_all_uneven_the_smallest_is_taken() -> None:
    sizes = iter([12, 4, 9])
    pairs = pd.DataFrame({"post_id": [f"p{number}" for number in range(25)]})
    parts = np.split(np.arange(25), [12, 16])
    splits = [(np.setdiff1d(np.arange(25), part), part) for part in parts]
    assert [len(part) for part in parts] == list(sizes)
    assert _most_even(pairs, splits, 3)[1].tolist() == [12, 13, 14, 15]  # the first that is not uneven
    assert _most_even(pairs, [splits[0], splits[2]], 5)[1].tolist() == list(range(16, 25))
    assert _most_even(pairs, [splits[2], splits[0]], 5)[1].tolist() == list(range(16, 25))


def checked(labels: dict[str, list[int]], texts: dict[str, str], n_folds: int = 5, dev_splits: int = 5) -> None:
    options = OPTIONS.model_copy(update={"dev_splits": dev_splits})
    posts = pd.DataFrame([(post_id, texts.get(post_id, post_id)) for post_id in labels], columns=["post_id", "text"])
    check_parts(folds_of(pairs_of(labels), options, n_folds), posts)


ALTERNATING = {f"p{number:02}": [number % 2] for number in range(30)}


def test_parts_that_can_be_learnt_and_scored_pass(caplog: pytest.LogCaptureFixture) -> None:
    checked(ALTERNATING, {})
    assert not caplog.records


@pytest.mark.parametrize(("part", "n_posts"), [("dev", 5), ("held_out", 6), ("train", 19)])
def test_a_part_that_is_one_text_is_refused(part: str, n_posts: int) -> None:
    fold = folds_of(pairs_of(ALTERNATING), OPTIONS, 5)[0]
    copies: list[str] = fold[part]  # type: ignore[literal-required]
    assert len(copies) == n_posts
    named = part.replace("_", "-")
    with pytest.raises(
        MentallamError, match=f"^fold 0: the {named} part is {n_posts} copies of one text \\({copies[0]}\\); remove"
    ):
        checked(ALTERNATING, dict.fromkeys(copies, "the same"))
    checked(ALTERNATING, dict.fromkeys(copies[1:], "the same"))


def test_a_part_of_one_post_is_refused() -> None:
    labels = {f"p{number}": [number % 2] for number in range(7)}
    with pytest.raises(MentallamError, match=r"^fold \d: the (dev|held-out) part is one post \(p\d\); use fewer folds"):
        checked(labels, {})
    checked({f"p{number}": [number % 2] for number in range(8)}, {}, n_folds=2, dev_splits=2)


@pytest.mark.parametrize(("label", "name"), [(0, "positive"), (1, "negative")])
def test_labels_that_are_all_the_same_are_refused(label: int, name: str) -> None:
    with pytest.raises(MentallamError, match=f"^no pair is labelled as {name}: there is nothing to learn"):
        checked({post_id: [label] for post_id in ALTERNATING}, {})


def test_folds_that_can_learn_nothing_are_named(caplog: pytest.LogCaptureFixture) -> None:
    labels = {post_id: [int(post_id != "p07")] for post_id in ALTERNATING}
    [unlearnt] = parts_without("negative", folds_of(pairs_of(labels), OPTIONS, 5))["train"]
    checked(labels, {})
    assert (
        "The models of these folds learn nothing, since their train parts hold no negative pair: "
        f"{unlearnt}; use another folds.seed, or more posts with negative pairs"
    ) in caplog.messages


@pytest.mark.parametrize(
    ("label", "name", "consequence"),
    [
        (1, "positive", "recall and F1 of them say nothing"),
        (0, "negative", "their precision is 1 whatever is predicted, and ROC-AUC is not defined"),
    ],
)
def test_parts_without_a_label_are_named(
    label: int, name: str, consequence: str, caplog: pytest.LogCaptureFixture
) -> None:
    labels = {post_id: [label if post_id in ("p03", "p11", "p25") else 1 - label] for post_id in ALTERNATING}
    folds = folds_of(pairs_of(labels), OPTIONS, 5)
    without = parts_without(name, folds)
    assert without["train"] == []
    for part in ("dev", "held_out"):
        assert without[part] == [
            fold["fold"]
            for fold in folds
            if not {"p03", "p11", "p25"} & set(fold[part])  # type: ignore[literal-required]
        ]
    caplog.clear()
    checked(labels, {})
    told = {part: ", ".join(map(str, without[part])) for part in ("dev", "held_out")}
    assert caplog.messages[-1] == (
        f"Some parts hold no {name} pair, so {consequence}: "
        f"dev of fold {told['dev']}; held-out of fold {told['held_out']}"
    )


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
        {"containment_threshold": 0.4},
        {"containment_threshold": 1.1},
        {"max_share": 0},
        {"max_share": 1.01},
    ],
)
def test_options_are_checked(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        FoldOptions.model_validate({"seed": 42, "group_by": "post_id", "dev_splits": 5, **change})


@pytest.mark.parametrize("n_folds", [2, 5])
def test_a_corpus_of_one_post_has_no_folds(n_folds: int) -> None:
    sentence = (
        rf"^a single group \(posts: 1\) can't be split into {n_folds} folds \(MENTALLAM_CV_FOLDS\); use more posts"
    )
    with pytest.raises(MentallamError, match=sentence):
        checked({"p1": [1]}, {}, n_folds=n_folds)
