"""Grouped and stratified folds that do not depend on the order of the rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mentallam.errors import MentallamError
from mentallam.seeds import dev_split_seed

logger = logging.getLogger(__name__)

FOLD_PARTS = ("train", "dev", "held_out")
# A part that is larger than this many times the equal share is uneven.
_UNEVEN = 1.25
# folds.max_share never refuses a fold of up to this many times the equal share, since two folds are seldom equal.
_ALWAYS_ALLOWED = 1.5
# What follows where a dev or held-out part has no pair of a label.
_CONSEQUENCES = {
    "positive": "recall and F1 of them say nothing",
    "negative": "their precision is 1 whatever is predicted, and ROC-AUC is not defined",
}
# A warning names at most this many criteria.
_NAMED = 10


class FoldOptions(BaseModel):
    """The options of the split into folds.

    Attributes:
        seed: Seed of the shuffling; NumPy's generator takes 32 bits.
        group_by: What must not straddle folds.
        duplicates: Whether near duplicates are kept in one fold (group), only counted (report), or not searched for
            (ignore).
        near_duplicate_threshold: The similarity from which two posts are near duplicates; see `corpus.duplicates`.
        containment_threshold: The share of a post of 50 words or more from which, found in a longer post, the two are
            near duplicates.
        dev_splits: 1/dev_splits of a fold's training posts become its dev split.
        max_share: The largest share of all posts that one fold may hold out; 1.5 times the equal share is always
            allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0, lt=2**32)
    group_by: Literal["post_id", "author"]
    duplicates: Literal["group", "report", "ignore"] = "group"
    near_duplicate_threshold: float = Field(default=0.8, ge=0.5, le=1)
    containment_threshold: float = Field(default=0.75, ge=0.5, le=1)
    dev_splits: int = Field(ge=2)
    max_share: float = Field(default=0.5, gt=0, le=1)


class FoldBalance(TypedDict):
    """The fold that holds out the most posts: its number, its posts, their share of all, and the equal share.

    It is uneven if its share exceeds 1.25 times the equal share, unless the posts cannot be divided more evenly.
    """

    fold: int
    posts: int
    share: float
    equal_share: float
    uneven: bool


class CriterionBalance(TypedDict):
    """The spread of one criterion's held-out pairs over the folds.

    Attributes:
        positive: Held-out positive pairs of each fold.
        pairs: Held-out pairs of each fold.
        rate: Positive pairs of all folds per pair.
        deviations: Each fold's rate minus `rate`; None for a fold without pairs of this criterion.
    """

    positive: list[int]
    pairs: list[int]
    rate: float
    deviations: list[float | None]


class FoldSplit(TypedDict):
    """One fold: the sorted post ids, the number of groups and the label counts of each part."""

    fold: int
    n_folds: int
    seed: int
    dev_splits: int
    group_by: str
    data_hash: str
    train: list[str]
    dev: list[str]
    held_out: list[str]
    groups: dict[str, int]
    label_distribution: dict[str, dict[str, dict[str, int]]]


def make_folds(
    pairs: pd.DataFrame, groups: pd.DataFrame, options: FoldOptions, n_folds: int, data_hash: str
) -> list[FoldSplit]:
    """Split the posts into folds: each post is held out once; each fold's other posts are split into train and dev.

    Each criterion's labels are balanced separately: balancing all labels together would leave folds without a
    positive pair of a rare criterion.

    Args:
        pairs: post_id, criterion_id, label.
        groups: post_id, group: what must not straddle folds.
        options: The options of the split.
        n_folds: Number of folds.
        data_hash: Hash of the data, stored in each fold.

    Raises:
        MentallamError: There are too few groups for this number of folds, or one fold would hold out too many posts.
    """
    # The order of the rows must not matter: the folds depend on the data and the seed only.
    pairs = pairs.sort_values(["post_id", "criterion_id"], ignore_index=True)
    pairs = pairs.assign(group=pairs["post_id"].map(groups.set_index("post_id")["group"]))
    _warn_of_rare_criteria(pairs, n_folds)
    folds: list[FoldSplit] = []
    for fold, (rest, held_out) in enumerate(_split(pairs, n_folds, options.seed, "folds (MENTALLAM_CV_FOLDS)")):
        seed, purpose = dev_split_seed(options.seed, fold), f"dev splits of fold {fold} (folds.dev_splits)"
        dev_splits = _split(pairs.iloc[rest], options.dev_splits, seed, purpose)
        train, dev = _most_even(pairs.iloc[rest], dev_splits, options.dev_splits)
        parts = {
            "train": pairs.iloc[rest[train]],
            "dev": pairs.iloc[rest[dev]],
            "held_out": pairs.iloc[held_out],
        }
        folds.append(
            {
                "fold": fold,
                "n_folds": n_folds,
                "seed": options.seed,
                "dev_splits": options.dev_splits,
                "group_by": options.group_by,
                "data_hash": data_hash,
                "train": _posts(parts["train"]),
                "dev": _posts(parts["dev"]),
                "held_out": _posts(parts["held_out"]),
                "groups": {name: int(part["group"].nunique()) for name, part in parts.items()},
                "label_distribution": {name: _labels(part) for name, part in parts.items()},
            }
        )
    _check_balance(folds, groups, options)
    return folds


def fold_balance(folds: Sequence[FoldSplit]) -> FoldBalance:
    """Return the share of the posts that the largest fold holds out."""
    sizes = [len(fold["held_out"]) for fold in folds]
    posts = max(sizes)
    return {
        "fold": sizes.index(posts),
        "posts": posts,
        "share": posts / sum(sizes),
        "equal_share": 1 / len(folds),
        "uneven": posts > _largest_even_part(sum(sizes), len(folds)),
    }


def criterion_balance(folds: Sequence[FoldSplit]) -> dict[str, CriterionBalance]:
    """Return the balance of each criterion that has pairs, by criterion_id."""
    held_out = [fold["label_distribution"]["held_out"] for fold in folds]
    balance: dict[str, CriterionBalance] = {}
    for criterion_id in dict.fromkeys(name for labels in held_out for name in labels):
        counts = [labels.get(criterion_id, {"positive": 0, "negative": 0}) for labels in held_out]
        positive, pairs = [count["positive"] for count in counts], [sum(count.values()) for count in counts]
        rate = sum(positive) / sum(pairs)
        deviations = [part / whole - rate if whole else None for part, whole in zip(positive, pairs, strict=True)]
        balance[criterion_id] = {"positive": positive, "pairs": pairs, "rate": rate, "deviations": deviations}
    return balance


def parts_without(label: str, folds: Sequence[FoldSplit]) -> dict[str, list[int]]:
    """Return for each part the folds in which it has no pair of a label, positive or negative."""
    return {part: [fold["fold"] for fold in folds if not _count(fold, part, label)] for part in FOLD_PARTS}


def check_parts(folds: Sequence[FoldSplit], posts: pd.DataFrame) -> None:
    """Refuse folds that cannot be trained or scored, and warn about parts whose pairs all have the same label.

    Args:
        folds: All folds of these posts.
        posts: post_id, text (cleaned).

    Raises:
        MentallamError: A part consists of one text, once or in copies; the message names the fold and the part. Or all
            pairs of the corpus have the same label.
    """
    # Numbers stand for the texts: comparing numbers makes no copies of texts.
    codes, _ = pd.factorize(posts["text"])
    text = dict(zip(posts["post_id"], codes.tolist(), strict=True))
    for label in ("positive", "negative"):
        if not any(_count(fold, "held_out", label) for fold in folds):
            raise MentallamError(f"no pair is labelled as {label}: there is nothing to learn; check the labels")
    for fold in folds:
        for part in FOLD_PARTS:
            post_ids: list[str] = fold[part]  # type: ignore[literal-required]
            if len({text[post_id] for post_id in post_ids}) < 2:
                held, way_out = (
                    ("one post", "use fewer folds (MENTALLAM_CV_FOLDS) or dev splits (folds.dev_splits), or more posts")
                    if len(post_ids) == 1
                    else (
                        f"{len(post_ids)} copies of one text",
                        "remove copies, or name the text in cleaning.placeholders",
                    )
                )
                raise MentallamError(
                    f"fold {fold['fold']}: the {_shown(part)} part is {held} ({post_ids[0]}); {way_out}"
                )
    for label, consequence in _CONSEQUENCES.items():
        without = {part: ", ".join(map(str, numbers)) for part, numbers in parts_without(label, folds).items()}
        if unlearnt := without.pop("train"):
            logger.warning(
                "The models of these folds learn nothing, since their train parts hold no %s pair: %s; use another "
                "folds.seed, or more posts with %s pairs",
                *(label, unlearnt, label),
            )
        if any(without.values()):
            named = "; ".join(f"{_shown(part)} of fold {numbers}" for part, numbers in without.items() if numbers)
            logger.warning("Some parts hold no %s pair, so %s: %s", label, consequence, named)


def _count(fold: FoldSplit, part: str, label: str) -> int:
    return sum(labels[label] for labels in fold["label_distribution"][part].values())


def _shown(part: str) -> str:
    return part.replace("_", "-")


def _check_balance(folds: Sequence[FoldSplit], groups: pd.DataFrame, options: FoldOptions) -> None:
    """Warn about an uneven fold, and refuse one that holds out more than `options.max_share` of the posts."""
    balance = fold_balance(folds)
    if not balance["uneven"]:
        return
    in_fold = groups[groups["post_id"].isin(folds[balance["fold"]]["held_out"])]["group"].value_counts()
    told = (
        f"fold {balance['fold']} holds out {balance['posts']} of {len(groups)} posts, {balance['share']:.0%} instead "
        f"of {balance['equal_share']:.0%} (its largest group, {in_fold.index[0]}, has {in_fold.iloc[0]})"
    )
    if balance["share"] <= max(options.max_share, _ALWAYS_ALLOWED * balance["equal_share"]):
        logger.warning("%s", told)
        return
    enough = math.ceil(100 * balance["share"]) / 100
    ungrouped = "folds.group_by=post_id" if options.group_by == "author" else "folds.duplicates=report"
    raise MentallamError(
        f"{told}: that is more than folds.max_share allows; leave out posts of that group, use fewer "
        f"folds (MENTALLAM_CV_FOLDS) or {ungrouped}, or allow it: folds.max_share={enough}"
    )


def _most_even(
    pairs: pd.DataFrame, splits: Iterable[tuple[NDArray[np.intp], NDArray[np.intp]]], n_splits: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first split whose second part is not uneven, or else the split whose second part is the smallest.

    The second part becomes the dev split. A group that is larger than an even part usually falls into the first split;
    it is better in the training part.
    """
    post, posts = pd.factorize(pairs["post_id"])
    sized = [(len(np.unique(post[second])), (first, second)) for first, second in splits]
    even = (split for size, split in sized if size <= _largest_even_part(len(posts), n_splits))
    return next(even, min(sized, key=lambda split: split[0])[1])


def _largest_even_part(n_posts: int, n_parts: int) -> float:
    """Return the largest number of posts of an even part; few posts cannot be divided more evenly."""
    return max(_UNEVEN * n_posts / n_parts, math.ceil(n_posts / n_parts))


def _split(
    pairs: pd.DataFrame, n_splits: int, seed: int, what: str
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    group, groups = pd.factorize(pairs["group"])
    criterion, _ = pd.factorize(pairs["criterion_id"], sort=True)
    label_class = 2 * criterion + pairs["label"].to_numpy()
    # RandomState gives the same numbers in every version of NumPy.
    group = np.random.RandomState(seed).permutation(len(groups))[group]
    counts = np.bincount(group * (label_class.max() + 1) + label_class, minlength=len(groups) * (label_class.max() + 1))
    counts = counts.reshape(len(groups), -1)
    if n_splits < 2:
        raise MentallamError(f"{n_splits} {what}: there must be at least 2")
    fold_of_group = group
    if enough := n_splits <= len(groups):
        fold_of_group = _deal(np.ascontiguousarray(counts[:, counts.any(axis=0)], dtype=float), n_splits)
    # Groups that are few or alike may leave a fold empty.
    if not enough or len(np.unique(fold_of_group)) < n_splits:
        if len(groups) == 1:
            held = f"a single group (posts: {pairs['post_id'].nunique()}) can't be split into"
        else:
            held = f"{len(groups)} groups ({pairs['post_id'].nunique()} posts) are too few for"
        raise MentallamError(
            f"{held} {n_splits} {what}; use {'fewer, or ' * (len(groups) > 2)}more posts: near duplicates are one "
            f"group, and under folds.group_by=author an author's posts"
        )
    fold = fold_of_group[group]
    return ((np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(n_splits))


def _deal(counts: NDArray[np.float64], n_splits: int) -> NDArray[np.intp]:
    """Return the fold of each group, as scikit-learn's StratifiedGroupKFold assigns it, but ten times as fast.

    Groups with the most uneven class counts come first. Each group goes to the fold with which the shares of every
    class vary least between the folds; among equally good folds, to the smallest. A test compares the folds with those
    of scikit-learn, whose loop over the folds takes minutes for a hundred thousand groups.

    Args:
        counts: The number of pairs of each group (rows) in each class (columns). Groups that tie keep this order.
        n_splits: Number of folds.
    """
    total = counts.sum(axis=0)
    held = np.zeros((n_splits, counts.shape[1]))
    sizes = [0] * n_splits
    one_more = np.eye(n_splits)[:, :, None]
    folds = np.zeros(len(counts), dtype=np.intp)
    for group in np.argsort(-np.std(counts, axis=1), kind="stable"):
        spreads = np.std((held + one_more * counts[group]) / total, axis=1).mean(axis=1).tolist()
        best = 0
        for fold in range(1, n_splits):
            as_good = abs(spreads[fold] - spreads[best]) <= 1e-8 + 1e-5 * abs(spreads[best])
            if spreads[fold] < spreads[best] or (as_good and sizes[fold] < sizes[best]):
                best = fold
        held[best] += counts[group]
        sizes[best] += int(counts[group].sum())
        folds[group] = best
    return folds


def _warn_of_rare_criteria(pairs: pd.DataFrame, n_folds: int) -> None:
    n_groups = pairs[pairs["label"] == 1].groupby("criterion_id")["group"].nunique()
    n_groups = n_groups.reindex(pairs["criterion_id"].unique(), fill_value=0)
    rare = [f"{criterion_id} ({count})" for criterion_id, count in n_groups.items() if count < n_folds]
    if rare:
        logger.warning(
            "Criteria with positives in fewer groups than the %d folds, so some folds hold none: %s",
            n_folds,
            ", ".join(rare[:_NAMED]) + (f" and {len(rare) - _NAMED} more" if len(rare) > _NAMED else ""),
        )


def _posts(part: pd.DataFrame) -> list[str]:
    return sorted(part["post_id"].unique().tolist())


def _labels(part: pd.DataFrame) -> dict[str, dict[str, int]]:
    positive = part.groupby("criterion_id")["label"].agg(["sum", "size"])
    return {
        str(criterion_id): {"positive": int(row["sum"]), "negative": int(row["size"] - row["sum"])}
        for criterion_id, row in positive.iterrows()
    }
