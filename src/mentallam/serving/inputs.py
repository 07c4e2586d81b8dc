"""Posts to predict on, from a file or from a caller; errors name the row and never its text."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pandas as pd

from mentallam.corpus.cleaning import clean_text
from mentallam.corpus.layouts import TABLE_ENDINGS, Layout, chosen_headings
from mentallam.corpus.refusals import named_rows, refuse_bad_ids, refuse_rows, shown
from mentallam.corpus.tables import read_table
from mentallam.corpus.unreadable import beside
from mentallam.errors import MentallamError

INPUT_COLUMNS = ("text", "post_id", "criterion_id")
_LAYOUT = Layout(
    columns=("text",),
    read=(),
    optional=INPUT_COLUMNS,
    headings={"text": ("text", "post")},
    mappable=INPUT_COLUMNS,
    endings=(*TABLE_ENDINGS, ".txt"),
    # A post that was cut off costs one answer here, which somebody looks at; in training it would harm the model.
    hand_made=True,
    source="it needs at least one post",
)
_ROUTES = 'a file: `--params input=posts.csv` (.csv, .jsonl, .parquet or .txt); a text: `mentallam predict "..."`'


def read_posts(path: str | None, columns: dict[str, str | None] | None = None) -> pd.DataFrame:
    """Read posts, one per row.

    A row of .csv, .jsonl and .parquet holds `text` (or `post`), and may hold `post_id` (default: the row's number) and
    `criterion_id` (default: all criteria). In .txt every line that is not blank is a post.

    Args:
        path: The file; None where the user named none.
        columns: The file's headings for text, post_id or criterion_id; None stands for the usual heading.

    Returns:
        Columns post_id, text, criterion_id (None: all criteria); strings.

    Raises:
        MentallamError: The file is missing or faulty, a text is empty, or a post_id has two texts.
    """
    if path is None:
        raise MentallamError(f"inference needs an input: name {_ROUTES}")
    headings = chosen_headings(columns, INPUT_COLUMNS)
    file = Path(str(path))  # Kedro reads `input=2024` as a number
    is_name = file.suffix.lower() in _LAYOUT.endings or len(str(path).split()) == 1
    if not _is_file(file):
        # Several words may be the text of a post, which a message must not repeat.
        named = f"input={path} is no file{beside(file)}" if is_name else "the given input is no file"
        raise MentallamError(f"{named}; name {_ROUTES}")
    if headings and file.suffix.lower() == ".txt":
        raise MentallamError(f"{path} has no columns, so columns.{next(iter(headings))} has no meaning; leave it out")
    table = read_table(file, _LAYOUT.mapped(headings))
    return check_posts(table.rename_axis("row").reset_index(), str(path))


def _is_file(file: Path) -> bool:
    with suppress(OSError, ValueError):  # a whole text is not a valid file name
        return file.is_file()
    return False


def check_posts(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """Return posts in the form that the predictor takes.

    Args:
        rows: Columns text and row (a number, for messages); optional columns post_id (default: the row's number) and
            criterion_id (default: all criteria). Values are strings or missing.
        path: What a message calls the rows.

    Returns:
        Columns post_id, text, criterion_id (None: all criteria); strings.

    Raises:
        MentallamError: There is no row, a value is not a string, a text is empty, an id has white space around it, or
            a post_id has two texts.
    """
    if rows.empty:
        raise MentallamError(f"{path} holds no post; it needs at least one row")
    rows = rows.set_index("row")
    for name in sorted(set(INPUT_COLUMNS).intersection(rows)):
        is_value = rows[name].isna() | rows[name].map(lambda value: isinstance(value, str)).astype(bool)
        refuse_rows(~is_value, f"{name} must be a string", path)
    texts = rows["text"].fillna("")
    # A text without a visible character counts as empty.
    refuse_rows(
        texts.map(lambda text: not clean_text(text)[0]), "the text is empty; fill it in or remove the row", path
    )
    posts = pd.DataFrame({"post_id": rows.index.astype(str), "text": texts, "criterion_id": None}, dtype=object)
    for name in sorted({"post_id", "criterion_id"}.intersection(rows)):
        given = rows.loc[rows[name].notna() & (rows[name].str.strip() != ""), [name]]
        refuse_bad_ids(given, name, path)
        posts.loc[given.index, name] = given[name]
    two_texts = posts.groupby("post_id")["text"].transform("nunique") > 1
    if two_texts.any():
        last = posts[two_texts].iloc[-1:]
        post_id = shown(last["post_id"].iloc[0])
        raise MentallamError(f"{path}, {named_rows(last.notna().any(axis=1))}: post_id {post_id} has two texts")
    return posts.reset_index(drop=True)
