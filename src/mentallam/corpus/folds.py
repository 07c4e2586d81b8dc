"""Folds: grouped and stratified, and the same whatever the order of the rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from mentallam.errors import MentallamError
from mentallam.seeds import dev_split_seed

logger = logging.getLogger(__name__)

PARTS = ("train", "dev", "held_out")


class FoldOptions(BaseModel):
    """How posts are dealt out.

    Attributes:
        seed: Decides the shuffling; NumPy's generator takes 32 bits.
        group_by: What must not straddle folds.
        duplicates: Whether posts that are nearly the same are kept in one fold (group), counted (report), or not looked
            for (ignore).
        near_duplicate_threshold: From which similarity on two posts are nearly the same; see `duplicates`.
        dev_splits: 1/dev_splits of a fold's training posts become its dev part.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(ge=0, lt=2**32)
    group_by: Literal["post_id", "author"]
    duplicates: Literal["group", "report", "ignore"] = "group"
    near_duplicate_threshold: float = Field(default=0.8, ge=0.5, le=1)
    dev_splits: int = Field(ge=2)


class FoldSplit(TypedDict):
    """One fold: its posts (sorted ids), the number of groups and the labels of each part."""

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
    """Deal the posts out to folds: every post is held out once, and the rest splits into train and dev.

    The labels of every criterion are balanced on their own: balancing all labels together would leave folds
    that hold no positive of a rare criterion.

    Args:
        pairs: post_id, criterion_id, label; every post with every criterion.
        groups: post_id, group: what must not straddle folds.
        options: How posts are dealt out.
        n_folds: Number of folds.
        data_hash: Hash of the data, kept in each fold.

    Raises:
        MentallamError: There are too few groups for so many folds.
    """
    # Sorted, so that the folds depend on the data and the seed alone.
    pairs = pairs.sort_values(["post_id", "criterion_id"], ignore_index=True)
    pairs = pairs.assign(group=pairs["post_id"].map(groups.set_index("post_id")["group"]))
    _warn_of_rare_criteria(pairs, n_folds)
    folds: list[FoldSplit] = []
    for fold, (rest, held_out) in enumerate(_split(pairs, n_folds, options.seed)):
        train, dev = next(_split(pairs.iloc[rest], options.dev_splits, dev_split_seed(options.seed, fold)))
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
    return folds


def _split(pairs: pd.DataFrame, n_splits: int, seed: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    group, groups = pd.factorize(pairs["group"])
    criterion, _ = pd.factorize(pairs["criterion_id"], sort=True)
    label_class = 2 * criterion + pairs["label"].to_numpy()
    # RandomState is the same in every NumPy.
    group = np.random.RandomState(seed).permutation(len(groups))[group]
    counts = np.bincount(group * (label_class.max() + 1) + label_class, minlength=len(groups) * (label_class.max() + 1))
    counts = counts.reshape(len(groups), -1)
    # A fold that stays empty is as good as none.
    enough = 2 <= n_splits <= len(groups)
    fold_of_group = (
        _deal(np.ascontiguousarray(counts[:, counts.any(axis=0)], dtype=float), n_splits) if enough else group
    )
    if not enough or len(np.unique(fold_of_group)) < n_splits:
        raise MentallamError(
            f"{len(groups)} groups are too few for {n_splits} folds or dev splits; use fewer "
            "(CV_FOLDS at least 2, folds.dev_splits) or more posts."
        )
    fold = fold_of_group[group]
    return ((np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(n_splits))


def _deal(counts: NDArray[np.float64], n_splits: int) -> NDArray[np.intp]:
    """Return the fold of each group: what scikit-learn's StratifiedGroupKFold does, with all folds weighed at once.

    The groups whose labels are the most uneven come first. Each goes where the share that the folds hold of every
    class then spreads the least, and to the smallest of the folds that are as good. A test says that the folds are
    scikit-learn's; its own loop takes ten times as long, and minutes for a hundred thousand groups.

    Args:
        counts: How often each group (rows) has each class (columns), in the order in which ties are dealt.
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
            ", ".join(rare),
        )


def _posts(part: pd.DataFrame) -> list[str]:
    return sorted(part["post_id"].unique().tolist())


def _labels(part: pd.DataFrame) -> dict[str, dict[str, int]]:
    positive = part.groupby("criterion_id")["label"].agg(["sum", "size"])
    return {
        str(criterion_id): {"positive": int(row["sum"]), "negative": int(row["size"] - row["sum"])}
        for criterion_id, row in positive.iterrows()
    }
