"""Nodes of data_processing: they call the corpus wing and validate what they hand on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import config
from mentallam.classifier.token_counts import token_statistics
from mentallam.corpus import audit, cleaning, duplicates, groups, manifest, pairs, placeholders, schemas, statistics
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions, FoldSplit, check_parts, make_folds
from mentallam.corpus.manifest import Manifest, Source
from mentallam.corpus.pairs import Expectation
from mentallam.corpus.readers import Corpus
from mentallam.corpus.statistics import CorpusLabel
from mentallam.reports.audit_figures import audit_figures
from mentallam.reports.audit_page import render_audit


def read_corpus(corpus: Corpus) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, int], Source]:
    """Return the posts as written, the criteria, the labelled pairs, what the annotations held besides, the files."""
    return (
        corpus.posts,
        schemas.validate(corpus.criteria, schemas.CRITERIA),
        schemas.validate(corpus.pairs, schemas.PAIRS),
        corpus.annotation_counts,
        corpus.source,
    )


def clean_posts(written_posts: pd.DataFrame, options: CleaningOptions) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the posts with cleaned text, and how many posts each cleaning step changed."""
    posts, cleaning_counts = cleaning.clean_posts(written_posts, options)
    return schemas.validate(posts, schemas.POSTS), cleaning_counts


def leave_out_placeholders(
    cleaned_posts: pd.DataFrame, checked_pairs: pd.DataFrame, criteria: pd.DataFrame, options: CleaningOptions
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Return the posts and pairs without placeholders of deleted posts, and how many posts each placeholder was."""
    return placeholders.leave_out_placeholders(cleaned_posts, checked_pairs, criteria, options)


def check_counts(
    read_pairs: pd.DataFrame, written_posts: pd.DataFrame, criteria: pd.DataFrame, expectation: Expectation
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the pairs once the corpus as read has the counts that the profile expects, and the counts."""
    return read_pairs, pairs.check_counts(written_posts, criteria, read_pairs, expectation)


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
    placeholder_counts: dict[str, int],
) -> Manifest:
    """Return the content of manifest.json."""
    frames = {"posts": posts, "criteria": criteria, "pairs": pair_table, "groups": post_groups}
    return manifest.build_manifest(source, frames, cleaning_options, fold_options, cleaning_counts, placeholder_counts)


def assign_folds(
    posts: pd.DataFrame,
    pair_table: pd.DataFrame,
    post_groups: pd.DataFrame,
    data_manifest: Manifest,
    options: FoldOptions,
    n_folds: int,
) -> list[FoldSplit]:
    """Return one split per fold."""
    folds = make_folds(pair_table, post_groups, options, n_folds, data_manifest["data_hash"])
    check_parts(folds, posts)
    return folds


def describe_data(
    annotation_counts: dict[str, int],
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    pair_table: pd.DataFrame,
    cleaning_counts: dict[str, int],
    placeholder_counts: dict[str, int],
    checked_counts: dict[str, Any],
    label: CorpusLabel,
    options: FoldOptions,
    links: pd.DataFrame,
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the figures of data_statistics.json."""
    return statistics.describe(
        annotation_counts,
        posts,
        criteria,
        pair_table,
        folds,
        cleaning_counts,
        placeholder_counts,
        checked_counts,
        label,
        options,
        links,
    )


def count_tokens(
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    audited_profiles: Sequence[str],
    profile: str,
    overrides: str | None,
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
    return {"data_audit": render_audit(facts, figures)} | {f"audit_{name}": plot for name, plot in figures.items()}
