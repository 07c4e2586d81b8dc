"""Nodes of data_processing that combine or validate results of the corpus functions; those are nodes themselves."""

from __future__ import annotations

import typing  # for parameters of nodes: see test_parameter_types.py
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam import config
from mentallam.classifier.token_counts import token_statistics
from mentallam.corpus import audit, cleaning, duplicates, groups, schemas
from mentallam.corpus.cleaning import CleaningOptions
from mentallam.corpus.folds import FoldOptions, FoldSplit, check_parts, make_folds
from mentallam.corpus.manifest import Manifest, Source
from mentallam.corpus.readers import Corpus
from mentallam.reports.audit_figures import audit_figures
from mentallam.reports.audit_page import render_audit


def read_corpus(corpus: Corpus) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, dict[str, int], Source]:
    """Split a corpus into posts as written, criteria, labelled pairs, annotation counts and the origin of its files."""
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


def group_posts(posts: pd.DataFrame, options: FoldOptions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the group of each post, and the links between near duplicates."""
    searched = posts.iloc[:0] if options.duplicates == "ignore" else posts
    links = duplicates.find_duplicates(searched, options.near_duplicate_threshold, options.containment_threshold)
    grouped = groups.group_posts(posts, options.group_by, links if options.duplicates == "group" else None)
    return schemas.validate(grouped, schemas.GROUPS), schemas.validate(links, schemas.DUPLICATES)


def assign_folds(
    posts: pd.DataFrame,
    pairs: pd.DataFrame,
    post_groups: pd.DataFrame,
    data_manifest: Manifest,
    options: FoldOptions,
    n_folds: int,
) -> list[FoldSplit]:
    """Return one split per fold, after a check that each part can be learnt from or scored."""
    folds = make_folds(pairs, post_groups, options, n_folds, data_manifest["data_hash"])
    check_parts(folds, posts)
    return folds


def count_tokens(
    posts: pd.DataFrame,
    criteria: pd.DataFrame,
    audited_profiles: typing.Sequence[str],
    profile: str,
    overrides: str | None,
    hydra_configs: str,
    base_models: str,
) -> list[dict[str, Any]]:
    """Count the tokens of the posts for the base model of each audited profile; `overrides` apply to `profile` only."""
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
    pairs: pd.DataFrame,
    data_statistics: dict[str, Any],
    tokens: list[dict[str, Any]],
    *folds: FoldSplit,
) -> dict[str, Any]:
    """Return the page data_audit, and its plots as audit_<name>."""
    facts = audit.audit_facts(posts, criteria, pairs, folds, data_statistics, tokens)
    figures = audit_figures(facts)
    return {"data_audit": render_audit(facts, figures)} | {f"audit_{name}": plot for name, plot in figures.items()}
