"""Growing training sets for a learning curve: each holds the one before it, and no group is divided."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator

from mentallam.errors import MentallamError
from mentallam.seeds import subsets_seed


class LearningCurveOptions(BaseModel):
    """The options of a learning curve.

    Attributes:
        sizes: Shares of a fold's training posts, in percent, separated by semicolons, from the smallest on.
        folds: How many folds are trained at each size, from fold 0 on.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sizes: str
    folds: int = Field(ge=1)

    @field_validator("sizes")
    @classmethod
    def _checked(cls, sizes: str) -> str:
        shares = sizes.split(";")
        percents = [int(share) for share in shares if share.strip().isdecimal()]
        if len(percents) != len(shares) or len(percents) < 2 or sorted({*percents}) != percents:
            raise ValueError("it takes two or more whole numbers, rising and separated by semicolons, as in 25;50;100")
        if not 1 <= percents[0] < percents[-1] <= 100:
            raise ValueError("it takes percentages from 1 to 100")
        return sizes

    def percents(self) -> list[int]:
        """Return the sizes as numbers."""
        return [int(share) for share in self.sizes.split(";")]


def nested_subsets(
    post_ids: Sequence[str], group_of: Mapping[str, str], percents: Sequence[int], seed: int
) -> dict[int, list[str]]:
    """Draw growing sets of posts: groups enter in one random order until a set holds its share of the posts.

    Args:
        post_ids: All posts.
        group_of: Post to its group.
        percents: Shares of the posts, above 0 and at most 100.
        seed: Seed of the order of the groups.

    Returns:
        Share to the sorted posts. A set is larger than its share by less than its last group; 100 holds all posts.
    """
    members: dict[str, list[str]] = {}
    for post_id in sorted(post_ids):
        members.setdefault(group_of[post_id], []).append(post_id)
    groups = sorted(members)
    order = np.random.default_rng(seed).permutation(len(groups))
    reached = np.cumsum([len(members[groups[place]]) for place in order])
    subsets = {}
    for percent in percents:
        n_groups = int(np.searchsorted(reached, percent * len(post_ids) / 100)) + 1
        subsets[percent] = sorted(post_id for place in order[:n_groups] for post_id in members[groups[place]])
    return subsets


def sized_splits(
    options: LearningCurveOptions, pairs: pd.DataFrame, groups: pd.DataFrame, *splits: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return the splits of a learning curve: the same dev and held-out posts, and growing training sets.

    Args:
        options: The sizes, and how many folds.
        pairs: Columns post_id, label.
        groups: Columns post_id, group.
        *splits: All folds.

    Returns:
        One split per size and fold, the smallest size first: the fold's, with the posts of the size under `train`,
        and `size` (percent), `train_pairs` and `train_positive`, which count the pairs of these posts.

    Raises:
        MentallamError: There are fewer folds than the options name.
    """
    if options.folds > len(splits):
        raise MentallamError(f"learning_curve.folds is {options.folds}, but there are {len(splits)} folds: lower it")
    group_of = dict(zip(groups["post_id"], groups["group"], strict=True))
    percents, chosen = options.percents(), splits[: options.folds]
    seeds = [subsets_seed(split["seed"], split["fold"]) for split in chosen]
    subsets = [
        nested_subsets(split["train"], group_of, percents, seed) for split, seed in zip(chosen, seeds, strict=True)
    ]
    return [
        {**split, "train": subset[percent], "size": percent, **_counts(pairs, subset[percent])}
        for percent in percents
        for split, subset in zip(chosen, subsets, strict=True)
    ]


def _counts(pairs: pd.DataFrame, post_ids: Sequence[str]) -> dict[str, int]:
    labels = pairs.loc[pairs["post_id"].isin(post_ids), "label"]
    return {"train_pairs": len(labels), "train_positive": int(labels.sum())}
