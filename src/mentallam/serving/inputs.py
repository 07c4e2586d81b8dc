"""Posts to predict on, read from .jsonl, .csv or .txt; errors name the row and never its text."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.errors import MentallamError

TEXT_COLUMNS = ("text", "post")
_ROUTES = 'a file: `--params input=posts.csv` (.csv, .jsonl or .txt); a text: `mentallam predict "..."`'


def read_posts(path: str | None) -> pd.DataFrame:
    """Reads posts, one per row.

    .csv and .jsonl rows hold `text` (or `post`), and may hold `post_id` (else the row's number) and `criterion_id` (else all
    criteria are asked). In .txt every line that is not blank is a post.

    Args:
        path: The file; None where the user named none.

    Returns:
        Columns post_id, text, criterion_id (None: all); strings.

    Raises:
        MentallamError: No such file, another ending, not UTF-8, a malformed or empty row, a column missing, or the same
            post_id with two texts.
    """
    if path is None:
        raise MentallamError(f"inference needs an input: name {_ROUTES}")
    file = Path(path)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".txt": _read_txt}
    if not file.is_file():
        raise MentallamError(f"input={path} is no file; name {_ROUTES}")
    if file.suffix.lower() not in readers:
        raise MentallamError(f"input={path} ends in {file.suffix or 'nothing'}; name {_ROUTES}")
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MentallamError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if not content.strip():
        raise MentallamError(f"{path} is empty; it needs at least one post")
    return _checked(readers[file.suffix.lower()](file, content), path)


def _read_csv(file: Path, content: str) -> pd.DataFrame:
    try:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig", on_bad_lines="error")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError):
        raise MentallamError(f"{file} is no well-formed CSV; check its quotes and the number of fields per row") from None
    # Row numbers as a spreadsheet shows them: the header is row 1.
    return rows.assign(row=range(2, len(rows) + 2))


def _read_jsonl(file: Path, content: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        rows.append({**_json_row(file, number, line), "row": number})
    return pd.DataFrame(rows)


def _json_row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        raise MentallamError(f"{file} row {number} is no JSON; each line must be one object") from None
    if not isinstance(row, dict):
        raise MentallamError(f"{file} row {number} is no JSON object; write it as {{'post_id': ..., 'text': ...}}")
    for name in (*TEXT_COLUMNS, "criterion_id"):
        if row.get(name) is not None and not isinstance(row[name], str):
            raise MentallamError(f"{file} row {number}: {name} must be a string")
    return row


def _read_txt(file: Path, content: str) -> pd.DataFrame:
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    return pd.DataFrame({"text": [line for _, line in lines], "row": [number for number, _ in lines]})


def _checked(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    if rows.empty:
        raise MentallamError(f"{path} holds no post; it needs at least one row")
    column = next((name for name in TEXT_COLUMNS if name in rows), None)
    if column is None:
        raise MentallamError(f"{path} has no column text; it needs text, and may have post_id and criterion_id")
    texts = rows[column].fillna("")
    blank = texts.str.strip() == ""
    if blank.any():
        raise MentallamError(f"{path} row {rows.loc[blank, 'row'].iloc[0]}: the text is empty")
    posts = pd.DataFrame({"post_id": rows["row"].astype(str), "text": texts, "criterion_id": None}, dtype=object)
    for name in ("post_id", "criterion_id"):
        if name in rows:
            given = rows[name].notna() & (rows[name].astype(str).str.strip() != "")
            posts.loc[given, name] = rows.loc[given, name].astype(str).str.strip()
    two_texts = posts.groupby("post_id")["text"].transform("nunique") > 1
    if two_texts.any():
        row = rows.loc[two_texts, "row"].iloc[-1]
        raise MentallamError(f"{path} row {row}: post_id {posts.loc[two_texts, 'post_id'].iloc[-1]} has two texts")
    return posts
