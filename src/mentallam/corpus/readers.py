"""Read a corpus strictly: from a user's files to posts, criteria and labelled pairs.

A new format is one function here, its entry in `READERS`, and an entry `corpus` in conf that names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from mentallam.corpus.identifiers import shown
from mentallam.corpus.layouts import TABLE_ENDINGS, Layout, chosen_headings
from mentallam.corpus.manifest import Source, describe_source
from mentallam.corpus.pairs import grid_cells, pairs_of_annotations, pairs_of_labels
from mentallam.corpus.refusals import (
    arrow_strings,
    refuse_bad_ids,
    refuse_blank,
    refuse_duplicates,
    refuse_others,
    refuse_rows,
    refuse_unknown,
)
from mentallam.corpus.tables import find_table, read_table
from mentallam.errors import MentallamError

POST_COLUMNS = ("post_id", "text")
ANNOTATION_COLUMNS = ("post_id", "sentence_id", "sentence_text", "DSM5_symptom", "status", "explanation")
CRITERION_COLUMNS = ("criterion_id", "symptom", "criterion")
# Sentences that matter clinically and belong to none of the nine criteria; they never become pairs.
SPECIAL_CASE = "SPECIAL_CASE"
# The labels that the format pairs takes by default, in lower case; capitals do not matter.
DEFAULT_LABEL_VALUES = {"yes": 1, "no": 0, "1": 1, "0": 0, "true": 1, "false": 0, "1.0": 1, "0.0": 0}
# The columns of posts and groundtruth whose heading the user may choose.
MAPPABLE_COLUMNS = ("post_id", "text", "author", "criterion_id", "label")

REDSM5_POSTS, REDSM5_ANNOTATIONS = "redsm5_posts", "redsm5_annotations"
REDSM5_SOURCE = (
    f"put {REDSM5_POSTS}.csv and {REDSM5_ANNOTATIONS}.csv into that folder: the ReDSM5 corpus comes from its authors "
    "(Bao, Perez and Parapar, CIKM 2025, arXiv 2508.03399) after signing their agreement, the synthetic "
    "sample from `python -m mentallam.corpus.synthetic --out FOLDER`, the synthetic twin from `make twin`"
)
PAIRS_SOURCE = (
    "put posts.csv (post_id, post), criteria.csv (criterion_id, criterion) and groundtruth.csv (post_id, criterion_id, "
    "label) into that folder; docs/your-own-data.md shows how"
)


@dataclass(frozen=True)
class Corpus:
    """The content of a corpus's files; all columns are strings unless stated otherwise.

    Attributes:
        posts: post_id, text (not cleaned; its line breaks are line feeds), author (missing where the file names none).
        criteria: criterion_id, symptom (a short name), criterion (the wording), in the file's order.
        pairs: post_id, criterion_id, label (int8), explicit_negative (bool), evidence, in the order of posts and
            criteria; see `corpus.pairs`.
        annotation_counts: Further counts of ReDSM5's annotations: `rows`, `special_case`, and `contradictory` (one
            sentence with status 0 and 1 for the same symptom; its pair is positive). Empty for other formats.
        source: The files, with their hashes.
    """

    posts: pd.DataFrame = field(repr=False)  # a log that prints the corpus must not print the posts
    criteria: pd.DataFrame = field(repr=False)
    pairs: pd.DataFrame = field(repr=False)
    annotation_counts: dict[str, int]
    source: Source


def read_corpus(format: str, folder: str | Path, criteria: str | Path | None = None, **options: object) -> Corpus:
    """Read the corpus in `folder`. Each of its files may be .csv, .parquet or .jsonl.

    Args:
        format: Name of the format, a key of `READERS`.
        folder: Folder that holds the corpus files.
        criteria: The file with the criteria; the format pairs finds it in `folder` by default.
        **options: Further options of the reader, its parameters after the criteria; None stands for the default.

    Raises:
        MentallamError: The format or an option is unknown, an option is missing, or a file is missing or faulty.
    """
    if format not in READERS:
        raise MentallamError(f"corpus format {format!r} is unknown: use one of {', '.join(READERS)}")
    reader = READERS[format]
    _, path, *allowed = inspect.signature(reader).parameters.values()
    given = {name: value for name, value in options.items() if value is not None}
    if unknown := sorted(given.keys() - {option.name for option in allowed}):
        names = ", ".join(["criteria", *(option.name for option in allowed)])
        raise MentallamError(
            f"the corpus format {format} takes no option {', '.join(unknown)}: its options are {names}"
        )
    if criteria is None and path.default is path.empty:
        raise MentallamError(f"the corpus format {format} needs the option criteria: the file with the criteria")
    return reader(Path(folder), *([] if criteria is None else [Path(criteria)]), **given)


def read_redsm5(folder: Path, criteria_path: Path) -> Corpus:
    """Read ReDSM5: posts, and annotated sentences.

    A sentence may be annotated twice for one symptom, even with both statuses. The label of its pair is the maximum,
    and `annotation_counts` holds the number of such contradictions. A pair without annotations is negative.

    Args:
        folder: Folder with redsm5_posts and redsm5_annotations.
        criteria_path: Table with `CRITERION_COLUMNS`. Annotations may name its symptoms and SPECIAL_CASE only.

    Raises:
        MentallamError: A file is missing or faulty.
    """
    criteria = _read_criteria(criteria_path, CRITERION_COLUMNS, "it comes with the project, one criterion per row")

    posts_path = find_table(folder, REDSM5_POSTS, REDSM5_SOURCE)
    posts = _read_posts(posts_path, Layout(POST_COLUMNS, POST_COLUMNS, REDSM5_SOURCE, optional=("author",)))

    path = find_table(folder, REDSM5_ANNOTATIONS, REDSM5_SOURCE)
    wanted = ("post_id", "sentence_id", "DSM5_symptom", "status")
    annotations = read_table(path, Layout(ANNOTATION_COLUMNS, wanted, REDSM5_SOURCE, integers=("status",)))
    refuse_bad_ids(annotations, "sentence_id", path)
    # Spaces separate the sentence ids in a pair's evidence.
    spaced = annotations["sentence_id"].str.contains(r"\s")
    refuse_rows(spaced, "sentence_id has white space in it; remove that", path)
    for column, allowed in (("DSM5_symptom", [*criteria["symptom"], SPECIAL_CASE]), ("status", ["0", "1"])):
        refuse_others(annotations, column, allowed, path)
    refuse_unknown(annotations, "post_id", posts["post_id"], path, posts_path)

    annotations = annotations.astype({"status": "int8"})
    annotations["criterion_id"] = annotations["DSM5_symptom"].map(criteria.set_index("symptom")["criterion_id"])
    is_special = annotations["DSM5_symptom"] == SPECIAL_CASE
    statuses = annotations[["post_id", "sentence_id", "DSM5_symptom", "status"]].drop_duplicates()
    counts = {
        "rows": len(annotations),
        "special_case": int(is_special.sum()),
        "contradictory": int(statuses.duplicated(["post_id", "sentence_id", "DSM5_symptom"]).sum()),
    }
    pairs = pairs_of_annotations(posts, criteria, annotations[~is_special])
    source = describe_source("redsm5", folder, [posts_path, path, criteria_path])
    return Corpus(posts, criteria, pairs, counts, source)


def read_pairs(
    folder: Path,
    criteria_path: Path | None = None,
    missing_pairs: str = "refused",
    columns: Mapping[str, object] | None = None,
    label_values: object = None,
) -> Corpus:
    """Read posts, criteria and a label for each pair: the format for any task.

    Args:
        folder: Folder with posts, groundtruth and, unless `criteria_path` is given, criteria.
        criteria_path: The file with the criteria.
        missing_pairs: `refused`, or `allowed` if pairs may lack a label; each post and each criterion needs one anyway.
        columns: The heading in the file of each column of `MAPPABLE_COLUMNS` that has a different one.
        label_values: `POSITIVE:NEGATIVE`, the labels in the file; None for `DEFAULT_LABEL_VALUES`.

    Raises:
        MentallamError: An option has another value, or a file is missing or faulty.
    """
    if missing_pairs not in ("refused", "allowed"):
        raise MentallamError(f"missing_pairs of the corpus is {missing_pairs!r}: use refused or allowed")
    values = DEFAULT_LABEL_VALUES if label_values is None else _label_values(label_values)
    headings = chosen_headings(columns, MAPPABLE_COLUMNS)
    criteria_path = _pairs_criteria(folder, criteria_path)
    criteria = _read_criteria(criteria_path, ("criterion_id", "criterion"), PAIRS_SOURCE)
    criteria.insert(1, "symptom", criteria["criterion_id"])

    posts_path = find_table(folder, "posts", PAIRS_SOURCE)
    layout = Layout(
        POST_COLUMNS,
        POST_COLUMNS,
        PAIRS_SOURCE,
        optional=("author",),
        headings={"text": ("post",)},
        mappable=("post_id", "text", "author"),
    )
    posts = _read_posts(posts_path, layout.mapped(headings))

    path = find_table(folder, "groundtruth", PAIRS_SOURCE)
    wanted = ("post_id", "criterion_id", "label")
    layout = Layout(wanted, wanted, PAIRS_SOURCE, labels=("label",), mappable=wanted)
    # Posts from a dump keep its headings; the file of labels may have the default heading for the post.
    if (post_id := headings.pop("post_id", None)) is not None:
        layout = replace(layout, headings={"post_id": (post_id, "post_id")})
    labels = read_table(path, layout.mapped(headings))
    labels["label"] = labels["label"].str.lower()
    way_out = "map two others with --params label_values=POSITIVE:NEGATIVE"
    refuse_others(labels, "label", list(values), path, way_out)
    refuse_unknown(labels, "post_id", posts["post_id"], path, posts_path)
    refuse_unknown(labels, "criterion_id", criteria["criterion_id"], path, criteria_path)
    labels["label"] = labels["label"].map(values)
    refuse_duplicates(labels, ["post_id", "criterion_id"], path)
    _refuse_missing_labels(labels, posts, criteria, missing_pairs == "allowed", path)
    source = describe_source("pairs", folder, [posts_path, path, criteria_path])
    return Corpus(posts, criteria, pairs_of_labels(posts, criteria, labels), {}, source)


def _pairs_criteria(folder: Path, named: Path | None) -> Path:
    """Return the file with the criteria: the one that is named, or the one in the corpus's folder.

    Raises:
        MentallamError: There is none, or there are both; an environment inherits a name without saying so.
    """
    if named is None:
        return find_table(folder, "criteria", PAIRS_SOURCE)
    others = [path for path in folder.glob("criteria.*") if path.suffix in TABLE_ENDINGS and path != named]
    if others:
        raise MentallamError(
            f"{others[0]} is not the criteria file that the catalog names, {named}: set `criteria: null` in the entry "
            f"corpus to use the file in the folder, or remove that file"
        )
    return named


# By format: a function of the folder, the file with the criteria, and the options that the format takes.
READERS: dict[str, Callable[..., Corpus]] = {"redsm5": read_redsm5, "pairs": read_pairs}


def _label_values(label_values: object) -> dict[str, int]:
    values = [value.strip().lower() for value in str(label_values).split(":")]
    # YAML reads 1:2 as the number 62.
    if not isinstance(label_values, str) or len(values) != 2 or not all(values) or values[0] == values[1]:
        raise MentallamError(
            f"label_values of the corpus is {label_values!r}: write it as POSITIVE:NEGATIVE, in quotes where both are "
            "numbers"
        )
    return {values[0]: 1, values[1]: 0}


def read_criteria(criteria_file: str) -> pd.DataFrame:
    """Read only criterion_id and criterion, for a pipeline that needs no posts.

    Raises:
        MentallamError: The file is missing or faulty.
    """
    return _read_criteria(Path(criteria_file), ("criterion_id", "criterion"), "one criterion per row")


def _read_criteria(path: Path, columns: tuple[str, ...], source: str) -> pd.DataFrame:
    criteria = read_table(path, Layout(columns, columns, source))
    for column in columns[:-1]:
        refuse_bad_ids(criteria, column, path)
        refuse_duplicates(criteria, [column], path)
    refuse_blank(criteria, "criterion", path)
    # The prompt takes the wording as it is, and a space after a comma of the file does not belong to it.
    criteria["criterion"] = criteria["criterion"].str.strip()
    return criteria.reset_index(drop=True)


def _read_posts(path: Path, layout: Layout) -> pd.DataFrame:
    """Read post_id, text, and author if the file has this column."""
    posts = read_table(path, layout)
    refuse_bad_ids(posts, "post_id", path)
    refuse_bad_ids(posts.dropna(), "author", path)
    refuse_blank(posts, "text", path)
    refuse_duplicates(posts, ["post_id"], path)
    # Line endings belong to the file rather than to the text, and may change with every copy.
    texts = pc.replace_substring(arrow_strings(posts["text"]), "\r\n", "\n")
    texts = pc.replace_substring(texts, "\r", "\n")
    posts["text"] = texts.to_pandas().array
    return posts[["post_id", "text", "author"]].reset_index(drop=True)


def _refuse_missing_labels(
    labels: pd.DataFrame, posts: pd.DataFrame, criteria: pd.DataFrame, missing_allowed: bool, path: Path
) -> None:
    """Refuse a pair without a label; where such pairs are allowed, a post or criterion without any label."""
    cells = grid_cells(labels["post_id"], labels["criterion_id"], posts, criteria)
    is_labelled = np.zeros((len(posts), len(criteria)), bool)
    is_labelled.flat[cells] = True
    for name, ids, has_labels in (
        ("post_id", posts["post_id"], is_labelled.any(axis=1)),
        ("criterion_id", criteria["criterion_id"], is_labelled.any(axis=0)),
    ):
        if not has_labels.all():
            raise MentallamError(
                f"{path} has no label for {name} {shown(ids[has_labels.argmin()])} ({(~has_labels).sum()} such); add "
                "labels, or remove it from its file"
            )
    n_missing = is_labelled.size - len(labels)
    if n_missing and not missing_allowed:
        post, criterion = divmod(int(is_labelled.argmin()), len(criteria))
        raise MentallamError(
            f"{path} lacks a label for {n_missing} pairs, the first is post_id {shown(posts['post_id'][post])} and "
            f"criterion_id {shown(criteria['criterion_id'][criterion])}; add them, or say `missing_pairs: allowed` "
            "in the catalog's entry corpus"
        )
