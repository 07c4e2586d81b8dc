"""Tables that could fill the memory are refused in one sentence."""

import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mentallam.corpus import formats, tables, unreadable
from mentallam.corpus.layouts import Layout
from mentallam.corpus.tables import read_table
from mentallam.errors import MentallamError
from mentallam.limits import MOST_COLUMNS
from mentallam.serving import posts, sources
from tests.streamed import read_posts

LAYOUT = Layout(("post_id", "text"), ("post_id", "text"), "put it there")
MANY = [f"c{number}" for number in range(100_000)]


def refused(file: Path, reason: str, streamed: bool = True) -> None:
    """Check that the corpus and inference refuse a file, in one sentence and within 150 MB of Python's memory."""
    readers = [lambda: read_posts(str(file))] if streamed else []
    readers += [] if file.suffix == ".txt" else [lambda: read_table(file, LAYOUT)]  # type: ignore[list-item,return-value]
    for read in readers:
        tracemalloc.start()
        with pytest.raises(MentallamError, match=reason) as error:
            read()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 150 * 2**20
        assert "\n" not in error.value.message and len(error.value.message) < 400


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl", "posts.txt"])
def test_a_line_that_would_fill_the_memory_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text({"posts.jsonl": '{"text": "a", "post_id": "p"}\n'}.get(name, "post_id,text\n"))
    with file.open("r+b") as sparse:
        sparse.truncate(2**40)  # takes no disk
    refused(file, rf"{name}, (line|row) 2: longer than 64 MB.*get an undamaged copy")


def test_a_line_is_counted_over_the_blocks_that_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unreadable, "_BLOCK", 10)
    monkeypatch.setattr(unreadable, "LONGEST_LINE", 25)
    file = tmp_path / "posts.txt"
    for ending in ("\n", "\r", "\r\n"):
        file.write_bytes((("a" * 24 + ending) * 5).encode())
        unreadable.refuse_long_lines(file)
    file.write_text("a" * 24 + "\n" + "a" * 26 + "\nb\n")
    with pytest.raises(MentallamError, match="line 2"):
        unreadable.refuse_long_lines(file)


def test_a_quote_that_is_never_closed_is_refused_by_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (formats, sources):
        monkeypatch.setattr(module, "LONGEST_VALUE", 1000)
    file = tmp_path / "posts.csv"
    file.write_text('post_id,text\np1,fine\np2,"' + "a line\n" * 1000)
    refused(file, "row 3: .*; correct its quotes")


@pytest.mark.parametrize("ending", [".jsonl", ".txt", ".parquet", ".csv"])
def test_a_value_that_is_too_long_is_refused_by_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    for module in (tables, posts):
        monkeypatch.setattr(module, "LONGEST_VALUE", 10)
    rows = [{"post_id": f"p{number}", "text": "a" * length} for number, length in enumerate([10, 11])]
    file = tmp_path / f"posts{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif ending == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == ".csv":
        file.write_text("post_id,text\n" + "".join(f"{row['post_id']},{row['text']}\n" for row in rows))
    else:
        file.write_text("".join(row["text"] + "\n" for row in rows))
    row = 3 if ending == ".csv" else 2
    refused(file, f"row {row}: text has more than 10 characters; shorten it")


def test_a_table_of_100000_columns_is_refused(tmp_path: Path) -> None:
    wanted = f"row 1: 10000[02] columns, more than the {MOST_COLUMNS} that a table may have"
    (tmp_path / "posts.csv").write_text(",".join(["post_id", "text", *MANY]) + "\n" + "," * 100_001 + "\n")
    refused(tmp_path / "posts.csv", wanted)
    (tmp_path / "posts.jsonl").write_text(json.dumps(dict.fromkeys(["post_id", "text", *MANY], "a")) + "\n")
    refused(tmp_path / "posts.jsonl", wanted)


def test_a_parquet_table_of_too_many_columns_is_refused(tmp_path: Path) -> None:
    columns = ["post_id", "text", *MANY[:MOST_COLUMNS]]
    pq.write_table(pa.table({name: ["a"] for name in columns}), tmp_path / "posts.parquet")
    refused(tmp_path / "posts.parquet", f"{MOST_COLUMNS + 2} columns, more than the {MOST_COLUMNS}")


def test_a_small_parquet_file_of_many_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "posts.parquet"
    texts = pa.array(["a" * 2**20]).dictionary_encode().take(pa.array([0] * 20_000))
    ids = pa.array(["p"]).dictionary_encode().take(pa.array([0] * 20_000))
    pq.write_table(pa.table({"post_id": ids, "text": texts}), file)
    assert file.stat().st_size < 2**20
    refused(file, "unpacks to more than 8192 MB, more than a table may hold", streamed=False)  # 20 GB
    monkeypatch.setattr(formats, "MOST_ROWS", 19_999)
    refused(file, "has 20000 rows, more than the 19999 that a table may have", streamed=False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"post_id": "p1", "text": ' + "[" * 200_000, "row 2: nested too deeply; each line must be one object"),
        ('{"post_id": "p1", "text": "a", "n": 1' + "0" * 10_000 + "}", "row 2: not valid JSON"),
    ],
)
def test_deep_and_huge_values_of_json_are_refused_by_row(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "posts.jsonl"
    file.write_text('{"post_id": "p0", "text": "a"}\n' + line + "\n")
    refused(file, reason)


@pytest.mark.parametrize("name", ["../../posts\0.csv", "posts\0.csv", "a" * 5000 + ".csv", "\\\\server\\posts.csv"])
def test_an_impossible_name_of_an_input_is_one_sentence(name: str) -> None:
    words = (
        r"is no file.*name a file, a folder, a pattern or an address such as s3://bucket/posts.csv with "
        r"`--params input=posts.csv`"
    )
    with pytest.raises(MentallamError, match=words):
        read_posts(name)


def test_an_impossible_name_of_a_corpus_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(MentallamError, match="is no file's name, since it holds a NUL character"):
        read_table(tmp_path / "posts\0.csv", LAYOUT)
    with pytest.raises(MentallamError, match="can't be read .File name too long."):
        read_table(tmp_path / ("a" * 5000 + ".csv"), LAYOUT)
