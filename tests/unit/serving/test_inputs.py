import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mentallam.serving.inputs import check_posts, read_posts

from mentallam.errors import MentallamError

SECRET = "Marzipan lighthouse"

Row = tuple[str, str, str | None]


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Return a function that reads a file with that name and content."""

    def read(name: str, content: str | bytes) -> list[Row]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        posts = read_posts(str(path))
        assert list(posts.columns) == ["post_id", "text", "criterion_id"]
        criteria = [None if pd.isna(criterion) else criterion for criterion in posts["criterion_id"]]
        return list(zip(posts["post_id"], posts["text"], criteria, strict=True))

    return read


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text\nfoo\nbar\n", [("2", "foo", None), ("3", "bar", None)]),
        ("post_id,text\na,foo\n007,bar\n", [("a", "foo", None), ("007", "bar", None)]),
        ("post\nfoo\n", [("2", "foo", None)]),
        ("post,text\nignored,foo\n", [("2", "foo", None)]),
        ("post_id,text\n,foo\n", [("2", "foo", None)]),  # an empty id counts as missing
        (
            "post_id,text,criterion_id\na,foo,A.4\na,foo,A.1\nb,bar,\n",
            [("a", "foo", "A.4"), ("a", "foo", "A.1"), ("b", "bar", None)],
        ),
        ('text\n"two\nlines, and a comma"\nbar\n', [("2", "two\nlines, and a comma", None), ("3", "bar", None)]),
        ('text\n"she said ""no"""\n', [("2", 'she said "no"', None)]),
        ("text\n\nfoo\n\nbar\n\n", [("3", "foo", None), ("5", "bar", None)]),  # row numbers of a spreadsheet
        ("text\r\nfoo\r\nbar", [("2", "foo", None), ("3", "bar", None)]),
        ("\ufefftext\nfoo\n", [("2", "foo", None)]),
        ("text\nNA\nnull\n1.50\n", [("2", "NA", None), ("3", "null", None), ("4", "1.50", None)]),
        ("row,text\n99,foo\n", [("2", "foo", None)]),
    ],
)
def test_csv(read: Any, content: str, rows: list[Row]) -> None:
    assert read("posts.csv", content) == rows
    assert read("POSTS.CSV", content) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (jsonl({"text": "foo"}, {"text": "bar"}), [("1", "foo", None), ("2", "bar", None)]),
        (jsonl({"post": "foo", "post_id": "a"}), [("a", "foo", None)]),
        (jsonl({"post_id": "7", "text": "foo"}, {"text": "bar"}), [("7", "foo", None), ("2", "bar", None)]),
        (jsonl({"text": "foo", "criterion_id": "A.4"}, {"text": "bar"}), [("1", "foo", "A.4"), ("2", "bar", None)]),
        (jsonl({"text": "foo", "criterion_id": None, "post_id": None}), [("1", "foo", None)]),
        ("\n" + jsonl({"text": "foo"}) + "\n" + jsonl({"text": "bar"}), [("2", "foo", None), ("4", "bar", None)]),
        ('{"text": "two\\nlines\u2028three"}', [("1", "two\nlines\u2028three", None)]),
        ('{"text": "\\ud83d\\ude34 asleep"}\r\n', [("1", "\U0001f634 asleep", None)]),
    ],
)
def test_jsonl(read: Any, content: str, rows: list[Row]) -> None:
    assert read("posts.jsonl", content) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("foo, bar\n\n  \nbaz", [("1", "foo, bar", None), ("4", "baz", None)]),
        ("\ufefffoo\r\nbar\r\n", [("1", "foo", None), ("2", "bar", None)]),
        ("foo\u2028still foo\n", [("1", "foo\u2028still foo", None)]),
        ('{"text": "no json here"}\n', [("1", '{"text": "no json here"}', None)]),
    ],
)
def test_txt(read: Any, content: str, rows: list[Row]) -> None:
    assert read("posts.txt", content) == rows


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        # CSV
        ("p.csv", f"id,body\na,{SECRET}\n", ["lacks the column text", "found 'id', 'body'", "columns.text=HEADING"]),
        ("p.csv", f"post_id,text\na,fine\nb,{SECRET}, with a comma\n", ["row 3", "3 values", "2 columns", "quote"]),
        ("p.csv", f"text\nfine\n\n{SECRET}, with a comma\n", ["row 4", "2 values", "1 columns"]),
        ("p.csv", f"post_id,text\n{SECRET}\n", ["row 2", "1 values"]),
        ("p.csv", f'text\nfine\n"{SECRET}\n', ["row 3", "not valid CSV", "quotes"]),
        ("p.csv", f'text\n"{SECRET}" and more\n', ["row 2", "not valid CSV", "quotes"]),
        ("p.csv", f"text,text\n{SECRET},{SECRET}\n", ["the column text occurs twice"]),
        ("p.csv", f'post_id,text\na,{SECRET}\nb,""\n', ["row 3", "the text is empty"]),
        ("p.csv", f"post_id,text\na,{SECRET}\nb,  \n", ["row 3", "the text is empty"]),
        ("p.csv", f"post_id,text\na,{SECRET}\nb,\u200b\n", ["row 3", "the text is empty"]),
        ("p.csv", f"post_id,text\na,{SECRET}\na,other\n", ["row 3", "post_id 'a' has two texts"]),
        ("p.csv", "post_id,text\n", ["is empty below its header"]),
        # JSON lines
        ("p.jsonl", jsonl({"text": "fine"}) + f'{{"text": "{SECRET}"\n', ["row 2", "not valid JSON"]),
        ("p.jsonl", "\n\n" + f'{{"text": {SECRET}}}\n', ["row 3", "not valid JSON"]),
        ("p.jsonl", f'"{SECRET}"\n', ["row 1", "not a JSON object"]),
        ("p.jsonl", f'["{SECRET}"]\n', ["row 1", "not a JSON object"]),
        ("p.jsonl", jsonl({"text": [SECRET]}), ["row 1", "text must be a string"]),
        ("p.jsonl", jsonl({"text": SECRET, "criterion_id": 4}), ["row 1", "criterion_id must be a string"]),
        ("p.jsonl", jsonl({"text": "fine", "post_id": {"of": SECRET}}), ["row 1", "post_id must be a string"]),
        ("p.jsonl", jsonl({"text": SECRET, "post_id": True}), ["row 1", "post_id must be a string; put it in quotes"]),
        ("p.jsonl", jsonl({"text": SECRET, "post_id": 7}), ["row 1", "post_id must be a string; put it in quotes"]),
        ("p.jsonl", jsonl({"text": SECRET}, {"text": ""}), ["row 2", "the text is empty"]),
        ("p.jsonl", jsonl({"text": SECRET}, {"text": None}), ["row 2", "the text is empty"]),
        ("p.jsonl", jsonl({"text": SECRET}, {"post_id": "a"}), ["row 2", "the text is empty"]),
        ("p.jsonl", jsonl({"body": SECRET}), ["lacks the column text", "found 'body'"]),
        ("p.jsonl", f'{{"text": "{SECRET} \\ud800"}}\n', ["row 1", "valid Unicode"]),
        ("p.jsonl", "[" * 100_000, ["row 1", "nested too deeply"]),
        ("p.jsonl", jsonl({"text": SECRET, "post_id": "a"}, {"text": "x", "post_id": "a"}), ["row 2", "two texts"]),
        # any
        ("p.csv", "", ["is empty", "at least one post"]),
        ("p.jsonl", " \n\n", ["is empty"]),
        ("p.txt", "\n", ["is empty"]),
        ("p.txt", f"{SECRET}\n".encode() + b"\xff\xfe", ["row 2: not UTF-8"]),
        ("p.csv", f"text\n{SECRET}\n".encode("utf-16"), ["is UTF-16, not UTF-8"]),
        ("p.docx", SECRET, ["ends in .docx", ".csv, .parquet, .jsonl, .txt"]),
        ("posts", SECRET, ["ends in nothing"]),
    ],
)
def test_bad_content_is_one_sentence_without_the_text(
    read: Any, name: str, content: str | bytes, words: list[str]
) -> None:
    with pytest.raises(MentallamError) as error:
        read(name, content)
    message = error.value.message
    assert all(word in message for word in [name, *words]), message
    assert "\n" not in message
    assert "arzipan" not in message
    # A traceback would show the chain of exceptions, which may hold the text, too.
    assert error.value.__suppress_context__ or error.value.__context__ is None


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("nowhere.csv", "input=nowhere.csv is no file"),
        ("a folder with many words/nowhere.csv", "input=a folder with many words/nowhere.csv is no file"),
        (".", "input=. is no file"),
        (2024, "input=2024 is no file"),  # Kedro reads it as a number
        (f"{SECRET}: I can't sleep", "the given input is no file"),
        (f"{SECRET} " * 500, "the given input is no file"),  # too long for a file name
        (f"{SECRET}\0", "the given input is no file"),
        ("", "the given input is no file"),
        (None, "inference needs an input"),
    ],
)
def test_what_is_no_file_names_both_ways_in(path: Any, shown: str) -> None:
    with pytest.raises(MentallamError) as error:
        read_posts(path)
    assert error.value.message.startswith(shown)
    assert "--params input=posts.csv" in error.value.message
    assert 'mentallam predict "..."' in error.value.message
    assert "arzipan" not in error.value.message


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "posts.csv").write_text("text\nfoo\n")

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MentallamError, match=r"posts\.csv can't be read \(Permission denied\)"):
        read_posts(str(tmp_path / "posts.csv"))


@pytest.mark.parametrize("name", ["text", "post_id", "criterion_id"])
@pytest.mark.parametrize("value", [7, 1.5, True])
def test_a_value_that_is_no_string_is_refused(name: str, value: object) -> None:
    rows = pd.DataFrame({"row": [1, 2], "text": "a", "post_id": ["p", "q"], "criterion_id": "A.1"}, dtype=object)
    rows.loc[1, name] = value
    with pytest.raises(MentallamError, match=f"^the input, row 2: {name} must be a string$"):
        check_posts(rows, "the input")
