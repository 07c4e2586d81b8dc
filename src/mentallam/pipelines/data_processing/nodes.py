"""Nodes of data_processing: they call the corpus wing and validate what they hand on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mentallam.corpus import cleaning, duplicates, groups, manifest, pairs, schemas, statistics
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions, FoldSplit, make_folds
from mentallam.corpus.manifest import Manifest, Source
from mentallam.corpus.pairs import Expectation
from mentallam.corpus.readers import Corpus
from mentallam.corpus.statistics import CorpusLabel


def clean_posts(corpus: Corpus, options: CleaningOptions) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int], Source]:
    """Return the posts with cleaned text, the criteria, how many posts each step changed, and the files read."""
    posts, cleaning_counts = cleaning.clean_posts(corpus.posts, options)
    return (
        schemas.validate(posts, schemas.POSTS),
        schemas.validate(corpus.criteria, schemas.CRITERIA),
        cleaning_counts,
        corpus.source,
    )


def build_pairs(corpus: Corpus, posts: pd.DataFrame, criteria: pd.DataFrame) -> pd.DataFrame:
    """Return every post x every criterion, with labels."""
    return schemas.validate(pairs.build_pairs(posts, criteria, corpus.annotations), schemas.PAIRS)


def check_counts(
    pair_grid: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, expectation: Expectation
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs once their counts are what the profile expects, and the counts."""
    return pair_grid, pairs.check_counts(posts, criteria, pair_grid, expectation)


def group_posts(posts: pd.DataFrame, options: FoldOptions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the group of each post, and the links between posts that are nearly the same."""
    looked_at = posts.iloc[:0] if options.duplicates == "ignore" else posts
    found = duplicates.find_duplicates(looked_at, options.near_duplicate_threshold)
    grouped = groups.group_posts(posts, options.group_by, found if options.duplicates == "group" else None)
    return schemas.validate(grouped, schemas.GROUPS), schemas.validate(found, schemas.DUPLICATES)


def build_manifest(
    source: Source,
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pair_table: pd.DataFrame,
    post_groups: pd.DataFrame,
    cleaning_options: CleaningOptions,
    fold_options: FoldOptions,
    cleaning_counts: dict[str, int],
) -> Manifest:
    """Return the content of manifest.json."""
    frames = {"posts": posts, "criteria": criteria, "pairs": pair_table, "groups": post_groups}
    return manifest.build_manifest(source, frames, cleaning_options, fold_options, cleaning_counts)


def assign_folds(
    pair_table: pd.DataFrame, post_groups: pd.DataFrame, data_manifest: Manifest, options: FoldOptions, n_folds: int
) -> list[FoldSplit]:
    """Return one split per fold."""
    return make_folds(pair_table, post_groups, options, n_folds, data_manifest["data_hash"])


def describe_data(
    corpus: Corpus,
    posts: pd.DataFrame,
    pair_table: pd.DataFrame,
    cleaning_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
    options: FoldOptions,
    links: pd.DataFrame,
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json."""
    return statistics.describe(corpus, posts, pair_table, folds, cleaning_counts, checked_counts, label, options, links)
