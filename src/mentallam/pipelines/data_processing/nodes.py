"""Nodes of data_processing: they call the corpus wing and validate what they hand on."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mentallam.corpus import cleaning, pairs, schemas, statistics
from mentallam.corpus.folds import FoldOptions, FoldSplit, make_folds
from mentallam.corpus.pairs import Expectation
from mentallam.corpus.readers import Corpus
from mentallam.corpus.statistics import CorpusLabel


def read_corpus(corpus: Corpus) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return the posts as written, the criteria, the labelled pairs, and what the annotations held besides."""
    return (
        corpus.posts,
        schemas.validate(corpus.criteria, schemas.CRITERIA),
        schemas.validate(corpus.pairs, schemas.PAIRS),
        corpus.annotation_counts,
    )


def clean_posts(written_posts: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the posts with cleaned text, and how many posts each cleaning step changed."""
    posts, cleaning_counts = cleaning.clean_posts(written_posts)
    return schemas.validate(posts, schemas.POSTS), cleaning_counts


def check_counts(
    read_pairs: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, expectation: Expectation
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs once their counts are what the profile expects, and the counts."""
    return read_pairs, pairs.check_counts(posts, criteria, read_pairs, expectation)


def assign_folds(
    pair_table: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, options: FoldOptions, n_folds: int
) -> list[FoldSplit]:
    """Return one split per fold."""
    return make_folds(pair_table, options, n_folds, pairs.data_hash(posts, criteria, pair_table))


def describe_data(
    annotation_counts: dict[str, int],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pair_table: pd.DataFrame,
    cleaning_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json."""
    return statistics.describe(
        annotation_counts, posts, criteria, pair_table, folds, cleaning_counts, checked_counts, label
    )
