"""Nodes of data_processing: they call the corpus wing and validate what they hand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import config
from mentallam.classifier.lengths import token_statistics
from mentallam.corpus import audit, cleaning, pairs, schemas, statistics
from mentallam.corpus.audit_plots import audit_figures
from mentallam.corpus.folds import FoldOptions, FoldSplit, make_folds
from mentallam.corpus.pairs import Expectation
from mentallam.corpus.readers import Corpus
from mentallam.corpus.statistics import CorpusLabel


def clean_posts(corpus: Corpus) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return the posts with cleaned text, the criteria, and how many posts each cleaning step changed."""
    posts, cleaning_counts = cleaning.clean_posts(corpus.posts)
    return (
        schemas.validate(posts, schemas.POSTS),
        schemas.validate(corpus.criteria, schemas.CRITERIA),
        cleaning_counts,
    )


def build_pairs(corpus: Corpus, posts: pd.DataFrame, criteria: pd.DataFrame) -> pd.DataFrame:
    """Return every post x every criterion, with labels."""
    return schemas.validate(pairs.build_pairs(posts, criteria, corpus.annotations), schemas.PAIRS)


def check_counts(
    pair_grid: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, expectation: Expectation
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs once their counts are what the profile expects, and the counts."""
    return pair_grid, pairs.check_counts(posts, criteria, pair_grid, expectation)


def assign_folds(
    pair_table: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, options: FoldOptions, n_folds: int
) -> list[FoldSplit]:
    """Return one split per fold."""
    return make_folds(pair_table, options, n_folds, pairs.data_hash(posts, criteria, pair_table))


def describe_data(
    corpus: Corpus,
    posts: pd.DataFrame,
    pair_table: pd.DataFrame,
    cleaning_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json."""
    return statistics.describe(corpus, posts, pair_table, folds, cleaning_counts, checked_counts, label)


def count_tokens(
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    audited_profiles: Sequence[str],
    profile: str,
    overrides: str,
    hydra_configs: str,
    base_models: str,
) -> list[dict[str, Any]]:
    """Return how many tokens posts take, for the base model of each profile; `overrides` are of `profile`."""
    return [
        token_statistics(
            config.compose_config(Path(hydra_configs), name, overrides if name == profile else "").model,
            Path(base_models),
            posts,
            criteria,
        )
        for name in audited_profiles
    ]


def audit_data(
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pair_table: pd.DataFrame,
    data_statistics: dict[str, Any],
    tokens: list[dict[str, Any]],
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the page data_audit, and its plots as audit_<name>."""
    facts = audit.audit_facts(posts, criteria, pair_table, folds, data_statistics, tokens)
    figures = audit_figures(facts)
    return {"data_audit": audit.render(facts, figures)} | {f"audit_{name}": plot for name, plot in figures.items()}
