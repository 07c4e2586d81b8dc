import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentallam.errors import MentallamError
from mentallam.limits import LONGEST_LINE
from mentallam.serving import sources
from mentallam.serving.posts import RowError, read_post
from mentallam.serving.sources import find_sources

SECRET = "Marzipan lighthouse"
Found = tuple[int, str | None, str, str | None]


def rows_of(given: str, **columns: str) -> list[Found]:
    """Return number, id, text and criterion of each row; the reason in place of the text where it can't be read."""
    found: list[Found] = []
    for source in find_sources(given, columns):
        for row in source.rows():
            try:
                if row.values is None:
                    raise RowError(row.reason)
                post = read_post(row.values, "-")
                found.append((row.number, post.post_id, post.text, post.criteria and post.criteria[0]))
            except RowError as error:
                found.append((row.number, None, error.reason, None))
    return found


@pytest.fixture
def read(tmp_path: Path) -> Any:
    """Return a function that reads a file with that name and content."""

    def read(name: str, content: str | bytes, **columns: str) -> list[Found]:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return rows_of(str(path), **columns)

    return read


def jsonl(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("text\nfoo\nbar\n", [(2, "-", "foo", None), (3, "-", "bar", None)]),
        ("post_id,text\na,foo\n007,bar\n", [(2, "a", "foo", None), (3, "007", "bar", None)]),
        ("post\nfoo\n", [(2, "-", "foo", None)]),
        ("post,text\nignored,foo\n", [(2, "-", "foo", None)]),
        ("post_id,text\n,foo\n", [(2, "-", "foo", None)]),  # an empty id counts as missing
        ("post_id,text,criterion_id\na,foo,A.4\nb,bar,\n", [(2, "a", "foo", "A.4"), (3, "b", "bar", None)]),
        ("text,criterion\nfoo,Sleep problems.\n", [(2, "-", "foo", "Sleep problems.")]),
        ('text\n"two\nlines, and a comma"\nbar\n', [(2, "-", "two\nlines, and a comma", None), (3, "-", "bar", None)]),
        ('text\n"she said ""no"""\n', [(2, "-", 'she said "no"', None)]),
        ("text\n\nfoo\n\nbar\n\n", [(3, "-", "foo", None), (5, "-", "bar", None)]),  # row numbers of a spreadsheet
        ("text\r\nfoo\r\nbar", [(2, "-", "foo", None), (3, "-", "bar", None)]),
        ("text\rfoo\rbar\r", [(2, "-", "foo", None), (3, "-", "bar", None)]),
        ("\ufefftext\nfoo\n", [(2, "-", "foo", None)]),
        ("text\nNA\n1.50\n", [(2, "-", "NA", None), (3, "-", "1.50", None)]),
    ],
)
def test_csv(read: Any, content: str, rows: list[Found]) -> None:
    assert read("posts.csv", content) == rows
    assert read("POSTS.CSV", content) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (jsonl({"text": "foo"}, {"text": "bar"}), [(1, "-", "foo", None), (2, "-", "bar", None)]),
        (jsonl({"post": "foo", "post_id": "a"}), [(1, "a", "foo", None)]),
        (jsonl({"post_id": "7", "text": "foo"}, {"text": "bar"}), [(1, "7", "foo", None), (2, "-", "bar", None)]),
        (jsonl({"text": "foo", "criterion_id": None, "post_id": None}), [(1, "-", "foo", None)]),
        ("\n" + jsonl({"text": "foo"}) + "\n" + jsonl({"text": "bar"}), [(2, "-", "foo", None), (4, "-", "bar", None)]),
        ('{"text": "two\\nlines\u2028three"}', [(1, "-", "two\nlines\u2028three", None)]),
        ('{"text": "\\ud83d\\ude34 asleep"}\r\n', [(1, "-", "\U0001f634 asleep", None)]),
    ],
)
def test_jsonl(read: Any, content: str, rows: list[Found]) -> None:
    assert read("posts.jsonl", content) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("foo, bar\n\n  \nbaz", [(1, "-", "foo, bar", None), (4, "-", "baz", None)]),
        ("\ufefffoo\r\nbar\r\n", [(1, "-", "foo", None), (2, "-", "bar", None)]),
        ("foo\u2028still foo\n", [(1, "-", "foo\u2028still foo", None)]),
        ('{"text": "no json here"}\n', [(1, "-", '{"text": "no json here"}', None)]),
    ],
)
def test_txt(read: Any, content: str, rows: list[Found]) -> None:
    assert read("posts.txt", content) == rows


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("p.csv", f"{SECRET}, with a comma", ["2 values", "1 columns", "quote"]),
        ("p.csv", f'"{SECRET}" and more', ["not valid CSV", "quotes"]),
        ("p.csv", f'{SECRET} "and" more', ["a quote within a value"]),
        ("p.jsonl", f'{{"text": "{SECRET}"', ["not valid JSON"]),
        ("p.jsonl", f'"{SECRET}"', ["not a JSON object"]),
        ("p.jsonl", f'["{SECRET}"]', ["an array, not a JSON object"]),
        ("p.jsonl", "[" * 100_000, ["nested too deeply"]),
        ("p.jsonl", f'{{"text": "x", "text": "{SECRET}"}}', ["a key occurs twice"]),
        ("p.jsonl", json.dumps({"text": [SECRET]}), ["text must be a string"]),
        (
            "p.jsonl",
            json.dumps({"text": SECRET, "criterion_id": 4}),
            ["criterion_id must be a string; put it in quotes"],
        ),
        ("p.jsonl", json.dumps({"text": SECRET, "post_id": {"of": SECRET}}), ["post_id must be a string"]),
        ("p.jsonl", json.dumps({"text": SECRET, "post_id": " a"}), ["post_id has white space around it"]),
        ("p.jsonl", json.dumps({"text": SECRET, "criterion_id": "A.1", "criterion": "x y"}), ["keep one of them"]),
        ("p.jsonl", json.dumps({"text": ""}), ["the text is empty"]),
        ("p.jsonl", json.dumps({"text": None}), ["the text is empty"]),
        ("p.jsonl", json.dumps({"post_id": "a"}), ["the text is empty"]),
        ("p.jsonl", f'{{"text": "{SECRET} \\ud800"}}', ["text is not valid UTF-8"]),
        ("p.txt", f"{SECRET} \udcff", ["text is not valid UTF-8"]),
        ("p.csv", f"{SECRET} \udcff", ["text is not valid UTF-8"]),
    ],
)
def test_a_bad_row_is_told_from_the_others_without_its_text(read: Any, name: str, bad: str, words: list[str]) -> None:
    good = {"p.csv": "fine", "p.txt": "fine", "p.jsonl": '{"text": "fine"}'}[name]
    header = ["text"] if name == "p.csv" else []
    content = "\n".join([*header, good, bad, good]) + "\n"
    before, (number, post_id, reason, _), after = read(name, content.encode("utf-8", "surrogateescape"))
    assert before[2] == after[2] == "fine"
    assert number == len(header) + 2 and post_id is None
    assert all(word in reason for word in words), reason
    assert "arzipan" not in reason and "\n" not in reason


def test_a_quote_that_is_never_closed_says_how_many_lines_it_takes_in(read: Any) -> None:
    found = read("p.csv", 'text\nfine\n"open\n' + "lost\n" * 20)
    assert [row[0] for row in found] == [2, 3]
    assert "takes in 21 lines" in found[1][2]


def test_a_line_that_is_too_long_ends_the_file(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LONGEST_LINE", 100)
    for name, line in (("p.txt", "{}"), ("p.jsonl", '{{"text": "{}"}}'), ("p.csv", "{}")):
        content = [*(["text"] if name == "p.csv" else []), line.format("a"), line.format("b" * 500), line.format("c")]
        first, second = read(name, "\n".join(content))
        assert first[2] == "a"
        assert second[0] == first[0] + 1 and "longer than" in second[2], name
    assert LONGEST_LINE > 2**20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.csv", f"id,body\na,{SECRET}\n", ["lacks the column text", "found 'id', 'body'", "columns.text=HEADING"]),
        ("p.csv", f"text,text\n{SECRET},{SECRET}\n", ["the column text occurs twice"]),
        ("p.csv", f"text;post_id\n{SECRET};a\n", ["semicolons separate its columns"]),
        ("p.csv", f"text\n{SECRET}\n".encode("utf-16"), ["is UTF-16, not UTF-8"]),
        ("p.jsonl", jsonl({"body": SECRET}), ["lacks the column text", "found 'body'"]),
        ("p.parquet", SECRET, ["not a valid Parquet file"]),
        ("p.docx", SECRET, ["ends in .docx", ".csv, .parquet, .jsonl, .txt"]),
        ("posts", SECRET, ["ends in nothing"]),
        ("p.parquet.gz", SECRET, ["compressed within"]),
        ("p.csv.gz", SECRET, ["can't be read"]),
    ],
)
def test_what_is_wrong_with_a_whole_file_is_one_sentence(
    read: Any, name: str, content: str | bytes, words: list[str]
) -> None:
    with pytest.raises(MentallamError) as error:
        read(name, content)
    message = error.value.message
    assert all(word in message for word in [name, *words]), message
    assert "\n" not in message and "arzipan" not in message
    # A traceback would show the chain of exceptions, which may hold the text, too.
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_compressed_files_are_read_as_they_are(read: Any, tmp_path: Path) -> None:
    content = jsonl({"text": "foo"}, {"text": "bar"}).encode()
    plain = read("p.jsonl", content)
    assert read("p.jsonl.gz", gzip.compress(content)) == plain
    assert read("p.jsonl.zst", pa.Codec("zstd").compress(content).to_pybytes()) == plain
    assert read("p.csv.gz", gzip.compress(b"text\nfoo\n")) == [(2, "-", "foo", None)]


def test_compressed_data_that_end_early_cost_only_what_follows(read: Any) -> None:
    lines = jsonl(*({"text": os.urandom(40).hex()} for _ in range(2000)))
    whole = gzip.compress(lines.encode())
    found = read("p.jsonl.gz", whole[: len(whole) // 2])
    assert len(found) > 100
    assert [row[1] for row in found[:-2]] == ["-"] * (len(found) - 2)
    assert "from here on" in found[-1][2]


def test_parquet_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_ROWS_OF_PARQUET", 3)
    texts = ["foo", None, "bar", "", "baz", "x", "y"]
    pq.write_table(
        pa.table({"post": texts, "post_id": [str(n) for n in range(7)], "n": range(7)}), tmp_path / "p.parquet"
    )
    found = rows_of(str(tmp_path / "p.parquet"))
    assert [(row[0], row[1]) for row in found if row[1]] == [(1, "0"), (3, "2"), (5, "4"), (6, "5"), (7, "6")]
    assert [row[0] for row in found if row[1] is None] == [2, 4]
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "numbers.parquet")
    assert {row[2] for row in rows_of(str(tmp_path / "numbers.parquet"))} == {"text must be a string; put it in quotes"}


def test_headings_can_be_named(read: Any) -> None:
    assert read("p.csv", "id,body\na,foo\n", text="body", post_id="id") == [(2, "a", "foo", None)]
    with pytest.raises(MentallamError, match="columns.label does not name a column"):
        read("p.csv", "text\nfoo\n", label="x")
    with pytest.raises(MentallamError, match="has no columns"):
        read("p.txt", "foo\n", text="x")


def test_a_folder_and_a_pattern_name_all_files(tmp_path: Path) -> None:
    for name in ("b/one.jsonl", "a/one.jsonl", "a/two.txt", "a/notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"text": "x"}\n')
    assert [source.path.name for source in find_sources(str(tmp_path / "a"))] == ["one.jsonl", "two.txt"]
    found = find_sources(str(tmp_path / "*" / "*.jsonl"))
    assert [source.label for source in found] == ["a/one.jsonl", "b/one.jsonl"]  # which makes default ids differ
    assert find_sources(str(tmp_path / "b" / "*"))[0].label == ""


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b'\xef\xbb\xbf{"text": "foo"}\n{"text": "bar"}\n', ["foo", "bar"]),
        (b"post_id,text\na,foo\n", ["foo"]),
        (b"foo\nbar, with text\n", ["foo", "bar, with text"]),
        (b"", []),
    ],
)
def test_standard_input_says_its_format_itself(
    content: bytes, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, content)
    os.close(write_end)
    with os.fdopen(read_end) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert [row[2] for row in rows_of("-")] == texts


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("nowhere.csv", "input=nowhere.csv is no file"),
        ("a folder with many words/nowhere.csv", "input=a folder with many words/nowhere.csv is no file"),
        (2024, "input=2024 is no file"),  # Kedro reads it as a number
        (f"{SECRET}: I can't sleep", "the given input is no file"),
        (f"{SECRET} " * 500, "the given input is no file"),  # too long for a file name
        (f"{SECRET}\0", "the given input is no file"),
        (f"{SECRET} [why", "the given input is no file"),
        ("", "the given input is no file"),
        (None, "inference needs an input"),
    ],
)
def test_what_is_no_file_names_both_ways_in(
    path: Any, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MentallamError) as error:
        find_sources(path)
    assert error.value.message.startswith(shown), error.value.message
    assert "--params input=posts.csv" in error.value.message
    assert 'mentallam predict "..."' in error.value.message
    assert "arzipan" not in error.value.message


def test_a_file_that_may_not_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "posts.csv").write_text("text\nfoo\n")

    def refuse(*_: object, **__: object) -> io.BytesIO:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MentallamError, match=r"posts\.csv can't be read \(Permission denied\)"):
        rows_of(str(tmp_path / "posts.csv"))
