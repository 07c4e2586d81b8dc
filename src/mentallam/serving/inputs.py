"""Posts to predict on, read from .jsonl, .csv or .txt; errors name the row and never its text."""

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from mentallam.corpus.cleaning import clean_text
from mentallam.errors import MentallamError

TEXT_COLUMNS = ("text", "post")
_ROUTES = 'a file: `--params input=posts.csv` (.csv, .jsonl or .txt); a text: `mentallam predict "..."`'


def read_posts(path: str | None) -> pd.DataFrame:
    """Reads posts, one per row.

    .csv and .jsonl rows hold `text` (or `post`), and may hold `post_id` (else the row's number) and `criterion_id`
    (else all criteria are asked). In .txt every line that is not blank is a post.

    Args:
        path: The file; None where the user named none.

    Returns:
        Columns post_id, text, criterion_id (None: all); strings.

    Raises:
        MentallamError: No such file, another ending, not UTF-8, a malformed or empty row, a column missing or there
            twice, or the same post_id with two texts.
    """
    if path is None:
        raise MentallamError(f"inference needs an input: name {_ROUTES}")
    file = Path(str(path))  # Kedro reads `input=2024` as a number
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".txt": _read_txt}
    ending = file.suffix.lower()
    if not _is_file(file):
        # Several words may be a text that was meant to be compared: then they are not repeated.
        shown = f"input={path}" if ending in readers or len(str(path).split()) == 1 else "the given input"
        raise MentallamError(f"{shown} is no file; name {_ROUTES}")
    if ending not in readers:
        raise MentallamError(f"input={path} ends in {ending or 'nothing'}; name {_ROUTES}")
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise MentallamError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise MentallamError(f"{path} can't be read ({error.strerror}); check its rights") from None
    if not content.strip():
        raise MentallamError(f"{path} is empty; it needs at least one post")
    return check_posts(readers[ending](file, content), path)


def _is_file(file: Path) -> bool:
    with suppress(OSError, ValueError):  # a whole text is no possible name
        return file.is_file()
    return False


def _read_csv(file: Path, content: str) -> pd.DataFrame:
    # The csv module refuses where pandas would take a text with an unquoted comma for two columns.
    rows: list[tuple[int, list[str]]] = []
    try:
        # Row numbers as a spreadsheet shows them: a header in the first line is row 1.
        for number, values in enumerate(csv.reader(io.StringIO(content, newline=""), strict=True), start=1):
            rows.append((number, values))
    except csv.Error as error:
        raise MentallamError(f"{file} row {len(rows) + 1} is no valid CSV ({error}); mend its quotes") from None
    (_, header), *rows = [(number, values) for number, values in rows if values]  # but for blank lines
    for name in (*TEXT_COLUMNS, "post_id", "criterion_id"):
        if header.count(name) > 1:
            raise MentallamError(f"{file} has two columns {name}; remove one")
    for number, values in rows:
        if len(values) != len(header):
            raise MentallamError(
                f"{file} row {number} has {len(values)} values, but the header names {len(header)} columns; quote "
                f"texts that hold commas or line breaks"
            )
    table = pd.DataFrame([values for _, values in rows], columns=header, dtype=object)
    return table.assign(row=[number for number, _ in rows])


def _read_jsonl(file: Path, content: str) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        rows.append({**_json_row(file, number, line), "row": number})
    return pd.DataFrame(rows, dtype=object)  # else a missing post_id would make numbers of the others


def _json_row(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        json.dumps(row, ensure_ascii=False).encode()  # half a surrogate pair passes for JSON, but is no Unicode
    except (ValueError, RecursionError):
        raise MentallamError(f"{file} row {number} is no JSON in valid Unicode; each line must be one object") from None
    if not isinstance(row, dict):
        raise MentallamError(f"{file} row {number} is no JSON object; write it as {{'post_id': ..., 'text': ...}}")
    for name in (*TEXT_COLUMNS, "criterion_id"):
        if row.get(name) is not None and not isinstance(row[name], str):
            raise MentallamError(f"{file} row {number}: {name} must be a string")
    if not isinstance(row.get("post_id", ""), str | int | None):
        raise MentallamError(f"{file} row {number}: post_id must be a string or an integer")
    return row


def _read_txt(file: Path, content: str) -> pd.DataFrame:
    lines = [(number, line) for number, line in enumerate(content.split("\n"), start=1) if line.strip()]
    return pd.DataFrame({"text": [line for _, line in lines], "row": [number for number, _ in lines]})


def check_posts(rows: pd.DataFrame, path: str) -> pd.DataFrame:
    """Posts as the predictor takes them.

    Args:
        rows: Columns text (or post) and row (a number, for messages); may have post_id (else the row's number) and
            criterion_id (else all criteria are asked). Strings as objects.
        path: What the rows are called in a message.

    Returns:
        Columns post_id, text, criterion_id (None: all); strings.

    Raises:
        MentallamError: No row, no text column, an empty text, or the same post_id with two texts.
    """
    if rows.empty:
        raise MentallamError(f"{path} holds no post; it needs at least one row")
    column = next((name for name in TEXT_COLUMNS if name in rows), None)
    if column is None:
        raise MentallamError(f"{path} has no column text; it needs text, and may have post_id and criterion_id")
    texts = rows[column].fillna("")
    blank = texts.map(lambda text: not clean_text(text)[0])  # nothing visible is nothing to compare
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
